"""Train YOLO on a checked data set, plain or with a teacher (SPKD, ultralytics' own), with everything in MLflow.

The same command in the same folder continues a run that was killed.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from spkd.settings import Settings

SECTIONS = (
    "preset", "detect", "coco", "run.seed", "run.threads", "run.deterministic", "run.tf32", "run.folder",
    "tracking.experiment",
)  # fmt: skip


def main(words: list[str], settings: Settings, tree: dict[str, Any]) -> int:
    """One detection run from preflight to evidence."""
    from spkd import seeding
    from spkd.detect import hardware, tracked
    from spkd.evidence import machine, tracking

    run = settings.run
    chosen = {"detect": tree["detect"], "run": tree["run"]}
    used = {**chosen, "run": {name: value for name, value in tree["run"].items() if name != "device"}}
    key = hashlib.sha256(json.dumps(used, sort_keys=True, default=str).encode()).hexdigest()[:8]
    begins = Path(settings.detect.model).stem.replace(":", "-")
    folder = Path(run.folder) / "detect" / f"{begins}-{key}"
    job = make_job(settings, folder)
    tracking.sweep(Path(run.folder), but=folder)
    # ultralytics lets an operation without a deterministic algorithm pass with a warning.
    threads = hardware.threads(run.threads, job.device)
    flags = seeding.set_flags(run.deterministic, run.tf32, threads, warn_only=True)
    print(machine.line(job.device, settings.detect.device), flush=True)
    session = tracked.Session(settings.tracking.experiment, chosen, flags)
    tracked.run(job, session, settings.detect.distill.teacher)
    return 0


def make_job(settings: Settings, folder: Path) -> Any:
    """The settings as one value; the teacher is found later."""
    from spkd.detect import hardware, plan
    from spkd.detect.checks import truth

    d, run = settings.detect, settings.run
    distill = d.distill.model_dump(exclude={"teacher", "dis", "levels"})
    maps: dict[str, Any] = {"probe_images": d.maps.images, "probe_objects": d.maps.objects, "maps_every": d.maps.every}
    device = hardware.device(d.device, "detect.device")
    hardware.require_whole_shares(d.batch, device)
    if d.distill.method == "sp":
        hardware.require_pairs(d.batch, device, d.distill.mode)
    threads = hardware.threads(run.threads, device)
    chosen = plan.Plan(**distill, **maps, teacher="", levels=tuple(d.distill.levels), threads=threads, tf32=run.tf32)
    plain = d.model_dump(include={"model", "epochs", "batch", "imgsz", "workers"})
    return plan.Job(
        **plain, folder=folder.absolute(), data=Path(d.data), device=device,
        dis=d.distill.dis, annotations=truth.annotations(settings), extra=d.train,
        limits=d.preflight, seed=run.seed, deterministic=run.deterministic, plan=chosen,
    )  # fmt: skip
