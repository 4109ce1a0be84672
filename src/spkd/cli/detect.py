"""Train YOLO on a checked data set, plain or with a teacher (SPKD, ultralytics' own), with everything in MLflow.

The same command in the same folder continues a run that was killed.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from spkd.settings import Settings

SECTIONS = ("detect", "run", "tracking")
POSITIONAL = ()


def main(words: list[str], settings: Settings, tree: dict[str, Any]) -> int:
    """One detection run from preflight to evidence."""
    from spkd import seeding
    from spkd.detect import yolo
    from spkd.evidence import provenance, tracking

    tracking.sweep(Path(settings.run.folder))
    chosen = {"detect": tree["detect"], "run": tree["run"]}
    flags = seeding.set_flags(settings.run.deterministic, settings.run.tf32, settings.run.threads)
    teacher, teacher_run = _teacher(settings)
    key = hashlib.sha256(json.dumps([chosen, teacher], sort_keys=True, default=str).encode()).hexdigest()[:8]
    folder = Path(settings.run.folder) / "detect" / f"{Path(settings.detect.model).stem}-{key}"
    job = _job(settings, folder, teacher)
    code, environment = provenance.code(), provenance.environment(flags)
    tags = {"kind": "detect", "code.commit": code["commit"], "code.dirty": code["dirty"]}
    yolo.clear_finished(folder)
    with tracking.open_run(job.title, folder, settings.tracking.experiment, tags=tags) as run:
        run.params(chosen)
        run.params(provenance.compared(environment), prefix="env/")
        run.json(environment, "environment.json")
        if code["patch"]:
            run.text(code["patch"], "code.patch")
        if teacher:
            run.tags({"teacher.detector.run_id": teacher_run, "teacher.detector.weights": Path(teacher).name})
        result = yolo.train(job, run)
        run.note(yolo.describe(job, result, code))
        yolo.finish(folder)
    print(f"{job.title}: " + "  ".join(f"{k} {v:.4g}" for k, v in result.items()))
    return 0


def _teacher(settings: Settings) -> tuple[str, str]:
    """(path of the teacher's weights, its run id or "none"); ("", "none") where none is wanted."""
    from spkd.errors import SpkdError
    from spkd.evidence import tracking

    wanted = settings.detect.distill
    if wanted.method == "none":
        return "", "none"
    if wanted.teacher.startswith("run:"):
        run_id = wanted.teacher.removeprefix("run:")
        return str(tracking.artifact(run_id, "weights/best.pt")), run_id
    if not wanted.teacher:
        raise SpkdError("params.yaml: detect.distill.teacher", "weights (.pt) or run:<id>", "nothing", "name a teacher")
    return wanted.teacher, "none"


def _job(settings: Settings, folder: Path, teacher: str) -> Any:
    """The settings as one value without paths of this room."""
    from spkd.detect import hardware, plan

    d, run = settings.detect, settings.run
    distill = d.distill.model_dump(exclude={"teacher", "dis", "levels"})
    maps: dict[str, Any] = {"probe_images": d.maps.images, "probe_objects": d.maps.objects, "maps_every": d.maps.every}
    chosen = plan.Plan(**distill, **maps, teacher=teacher, levels=tuple(d.distill.levels), threads=run.threads)
    plain = d.model_dump(include={"model", "epochs", "batch", "imgsz", "workers"})
    return plan.Job(
        **plain, folder=folder.absolute(), data=Path(d.data), device=hardware.device(d.device), dis=d.distill.dis,
        annotations={str(split): Path(path) for split, path in d.annotations.items()}, extra=d.train,
        limits=d.preflight.model_dump(), seed=run.seed, deterministic=run.deterministic, plan=chosen,
    )  # fmt: skip
