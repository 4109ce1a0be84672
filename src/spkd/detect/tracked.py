"""A detection run in MLflow: opens it, names its teacher, logs machine and code, trains, describes it.

A teacher may be a file, an earlier run, or `latest`: the newest finished plain `detect` run on a data set of the same
name. Where there is none yet it is trained first, as a nested run with the same settings, and said so.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spkd.detect import evaluate, preflight, yolo
from spkd.detect.plan import Job
from spkd.errors import SpkdError
from spkd.evidence import provenance, tracking

LATEST = "latest"
RESTORED = "restored.pt"


@dataclass(frozen=True)
class Session:
    """What the runs of one command share. chosen: settings to log. flags: what seeding.set_flags returned."""

    experiment: str
    chosen: Mapping[str, Any]
    flags: Mapping[str, Any]


def run(
    job: Job, session: Session, wanted_teacher: str, parent: tracking.Run | None = None
) -> tuple[str, dict[str, float]]:
    """Train a job in its folder, or continue it there; returns (run id, headline numbers).

    wanted_teacher: a .pt file, run:<id> or latest; ignored by a plan without distillation.
    """
    clear_finished(job.folder)
    report = yolo.look(job)
    goes_on = yolo.claim(job, report)
    code, environment = provenance.code(), provenance.environment(session.flags)
    data = job.data.parent.name or "data"
    tags = {"kind": "detect", "data.name": data, "distill.method": job.plan.method}
    tags |= {"code.commit": code["commit"], "code.dirty": code["dirty"]}
    with tracking.open_run(job.title, job.folder, session.experiment, parent, tags, fresh=not goes_on) as opened:
        opened.params(session.chosen)
        opened.params(provenance.compared(environment), prefix="env/")
        opened.json(environment, "environment.json")
        if code["patch"]:
            opened.text(code["patch"], "code.patch")
        opened.tags({"data.origin": preflight.recorded_origin(job.data)})
        yolo.log_data(job, report, opened)
        report.require()
        if job.plan.method != "none":
            job = replace(job, plan=replace(job.plan, teacher=str(_teacher(job, session, wanted_teacher, opened))))
        numbers = yolo.train(job, report, opened)
        opened.note(describe(job, numbers, code))
    (job.folder / "finished").touch()
    return opened.id, numbers


def clear_finished(folder: Path) -> None:
    """Remove the training of a run that ended well in this folder, so that the same command trains anew."""
    if (folder / "finished").is_file():
        for name in ("train", "val", "weights", "teacher"):
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in (yolo.NOTE, "teacher.pt", RESTORED, "finished"):
            (folder / name).unlink(missing_ok=True)


def _teacher(job: Job, session: Session, wanted: str, opened: tracking.Run) -> Path:
    """The teacher's weights, copied into the job's folder once, so that a continued run keeps its teacher."""
    kept, note = job.folder / "teacher.pt", job.folder / "teacher.json"
    if not kept.is_file():
        source, run_id = _find(job, session, wanted, opened)
        note.write_text(json.dumps({"run_id": run_id, "weights": str(source)}), "utf-8")
        part = kept.with_suffix(".part")
        shutil.copyfile(source, part)
        part.replace(kept)
    known = json.loads(note.read_text("utf-8"))
    opened.tags({"teacher.detector.run_id": known["run_id"], "teacher.detector.weights": Path(known["weights"]).name})
    return kept


def _find(job: Job, session: Session, wanted: str, opened: tracking.Run) -> tuple[Path, str]:
    """(weights, run id or "none") of the teacher that is meant."""
    if wanted.startswith("run:"):
        run_id = wanted.removeprefix("run:")
        if "weights/best.pt" in tracking.listing(run_id, "weights"):
            return tracking.artifact(run_id, "weights/best.pt"), run_id
        tensors = tracking.artifact(run_id, "model/weights.safetensors")  # of a teacher that came in a bundle
        return evaluate.restored(tensors, job.folder / RESTORED), run_id
    if wanted != LATEST:
        if not Path(wanted).is_file():
            do = "give weights (.pt), run:<id> of a `detect` run, or latest"
            raise SpkdError("params.yaml: detect.distill.teacher", "a teacher", repr(wanted), do)
        return Path(wanted), "none"
    data = job.data.parent.name or "data"
    query = f"tags.kind = 'detect' AND tags.`distill.method` = 'none' AND tags.`data.name` = '{data}'"
    found = tracking.find(f"{query} AND attributes.status = 'FINISHED'", limit=1)
    if found:
        return tracking.artifact(found[0].id, "weights/best.pt"), found[0].id
    print(f"spkd: no finished plain `detect` run on {data} yet: its teacher is trained first, as a nested run")
    plain = replace(job, folder=job.folder / "teacher", plan=replace(job.plan, method="none", teacher=""))
    chosen = {**session.chosen, "detect": {**session.chosen["detect"], "distill": {"method": "none"}}}
    run_id, _ = run(plain, replace(session, chosen=chosen), "", parent=opened)
    return plain.folder / "weights" / "best.pt", run_id


def describe(job: Job, numbers: Mapping[str, float], code: Mapping[str, Any]) -> str:
    """The markdown of the run's page."""
    plan, teacher = job.plan, Path(job.plan.teacher).name
    levels = ", ".join(plan.levels)
    how = {
        "none": "no teacher",
        "builtin": f"ultralytics' own distillation (dis {job.dis}) from `{teacher}`",
        "sp": f"SPKD ({plan.mode}, {levels}, gain {plan.gain}, batch {job.batch}) from `{teacher}`",
    }[plan.method]
    origin = preflight.recorded_origin(job.data)
    warning = "> **Simulated data.** The numbers show that the software works, nothing about photographs."
    rows = "\n".join(f"| {key} | {value:.4g} |" for key, value in numbers.items())
    parts = [
        f"{job.title}: `{Path(job.model).name}` on `{job.data}` ({origin}), {how}.",
        f"{job.epochs} epochs at {job.imgsz} px, batch {job.batch}.",
        *([warning] if origin == "simulated" else []),
        f"Headline: {yolo.HEADLINE}.",
        f"| | |\n|---|---|\n{rows}",
        f"Repeat: `git checkout {code['commit']}`{' and code.patch' if code['dirty'] else ''}, `dvc repro coco`, "
        "`spkd detect` with the settings of `settings.json`.",
    ]
    return "\n\n".join(parts) + "\n"
