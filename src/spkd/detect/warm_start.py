"""Which trained weights a detection run begins with: a warm start is on record, not only a path in the settings."""

from pathlib import Path

from spkd.detect import coco, evaluate
from spkd.detect.plan import Job
from spkd.evidence import tracking
from spkd.evidence.provenance import state_sha256

NO_RUN = "none"


def tags(job: Job) -> dict[str, str]:
    """model.parent.weights (the file's name), .sha256 (of the file), .run_id (which run made them, or "none").

    A run is known by the hash of its best weights, wherever their file lies. {} where training begins from scratch.
    The job's model was opened before, so that a file that ultralytics fetches is there.
    """
    if not job.is_warm:
        return {}
    model = evaluate.load(job.model)
    path = Path(str(model.pt_path))  # ultralytics may have found a bare name in its own folder
    runs = tracking.find(tracking.finished({"kind": "detect", "weights.sha256": state_sha256(model.state_dict())}))
    maker = next((run.id for run in runs if not run.repeats), NO_RUN)
    return {
        "model.parent.weights": path.name,
        "model.parent.sha256": coco.sha256(path),
        "model.parent.run_id": maker,
    }
