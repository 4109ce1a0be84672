"""A detection run in MLflow: opens it, names its teacher, logs machine and code, trains, describes it.

A teacher may be a file, weights that ultralytics publishes, an earlier run, or `latest`: the newest finished plain
`detect` run on the very same data. Where there is none yet it is trained first, as a nested run with the same settings,
and said so. A file is kept once in the store, as a run of kind `imported`, so that its students can be repeated.
"""

import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from spkd import atomic
from spkd.detect import coco, networks, stored, yolo
from spkd.detect.checks import preflight
from spkd.detect.plan import Job
from spkd.errors import SpkdError
from spkd.evidence import provenance, tracking
from spkd.evidence.outbox import Outbox
from spkd.evidence.reproduction import imported

LATEST, FILE = "latest", "none"
KEY = "detect.distill.teacher"
KEPT = "teacher.pt"
ANCESTORS = ("init.run_id", "teacher.detector.run_id")


@dataclass(frozen=True)
class Session:
    """What the runs of one command share. chosen: settings to log. flags: what seeding.set_flags returned."""

    experiment: str
    chosen: Mapping[str, Any]
    flags: Mapping[str, Any]


@dataclass(frozen=True)
class Teacher:
    """Weights to learn from. name: of the file they came in. network: what it is called, as yolov8x.

    run_id: of the run that made them; FILE for a file; "" for the teacher of a training that goes on.
    """

    weights: Path
    run_id: str
    name: str
    network: str
    classes: tuple[str, ...]

    @classmethod
    def opened(cls, weights: Path, run_id: str, name: str, side: int) -> Self:
        """A teacher with what its weights know.

        Raises SpkdError where they are no detection network's, or of one that takes no images of this side [pixels].
        """
        built = networks.build(str(weights), KEY)
        networks.require_side(built, side, "detect.imgsz, of the teacher")
        network = Path(str(built.yaml.get("yaml_file", name))).stem
        return cls(weights, run_id, name, network, tuple(built.names.values()))


def run(job: Job, session: Session, wanted_teacher: str, parent: tracking.Run | None = None) -> str:
    """Train a job in its folder, or continue it there; prints the headline numbers, returns the run id.

    wanted_teacher: a .pt file, or ultralytics' own by name, run:<id> or latest; ignored by a plan without distillation.
    """
    job = stored.begun(job)
    report = yolo.look(job)
    goes_on = _goes_on(job, report)
    found, lineage = _found(job, report, wanted_teacher, goes_on)
    tags = {"kind": "detect", "data.name": job.data_name, "data.digest": report.digest()}
    tags |= {"data.origin": report.origin, "distill.method": job.plan.method}
    title = job.title(found.network if found else Path(job.model).stem)  # one that is trained first is of this model
    with tracking.open_run(title, job.folder, session.experiment, parent, tags, fresh=not goes_on) as opened:
        if not opened.goes_on:
            clear(job.folder)
        if goes_on and not opened.goes_on:  # another command ended it while this one was looking: this is the next one
            found, lineage = _found(job, report, wanted_teacher, goes_on=False)
        yolo.claim(job, report)
        begins = {}
        if anew := yolo.checkpoint(job) is None:  # else the file may be another by now than the one it began with
            begins = stored.lineage(job, opened)
            opened.tags(begins)
        opened.params(session.chosen)
        _, code = provenance.tell(opened, session.flags)
        yolo.log_data(job, report, opened)
        if job.plan.method != "none":
            if found is None:
                found = _trained_first(job, session, opened, report)
                lineage = _lineage(found, report, job)
            if found.run_id == FILE:
                lineage["teacher.detector.run_id"], _, _ = stored.kept(found.weights, job.folder, opened)
            opened.tags(lineage)
            job = replace(job, plan=replace(job.plan, teacher=str(_kept(job, found))))
        if anew:
            stored.learnt(report, [text for key, text in {**begins, **lineage}.items() if key in ANCESTORS], opened)
        with atomic.naming(job.folder):  # a full disk's error names no file where ultralytics writes it
            numbers = yolo.train(job, report, opened)
        opened.note(describe(title, job, numbers, code))
    print(f"{title} (run {opened.id}): " + "  ".join(f"{k} {v:.4g}" for k, v in numbers.items()), flush=True)
    return opened.id


def _goes_on(job: Job, report: preflight.Report) -> bool:
    """Whether the folder holds a training of this job that was not done, or whose run did not all arrive in MLflow.

    Raises SpkdError where it holds an unfinished one of another job, or of other data.
    """
    if not yolo.is_noted(job, report):
        tracking.sweep(job.folder)  # what did not arrive of another job's run would be lost
    box = Outbox(job.folder)
    return (box.late or not box.finished) and yolo.continues(job, report)


def clear(folder: Path) -> None:
    """Remove the training that an earlier run left in the folder of a run that is open."""
    for name in ("train", "val", "weights", "teacher"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (yolo.NOTE, KEPT):
        (folder / name).unlink(missing_ok=True)


def _kept(job: Job, found: Teacher) -> Path:
    """The teacher's weights in the job's folder, so that a training that goes on keeps its teacher."""
    kept = job.folder / KEPT
    if found.weights != kept:
        with atomic.file(kept) as new:
            shutil.copyfile(found.weights, new)
    return kept


def _found(job: Job, report: preflight.Report, wanted: str, goes_on: bool) -> tuple[Teacher | None, dict[str, str]]:
    """(the teacher, tags of its lineage); None where the plan asks for none, or it is not trained yet."""
    found = _find(job, report, wanted, goes_on) if job.plan.method != "none" else None
    return found, _lineage(found, report, job) if found else {}


def _find(job: Job, report: preflight.Report, wanted: str, goes_on: bool) -> Teacher | None:
    """The teacher that is meant; None where `latest` is not trained yet. Raises SpkdError where it is no teacher."""
    kept = job.folder / KEPT
    if goes_on and yolo.checkpoint(job) and kept.is_file():
        return Teacher.opened(kept, "", KEPT, job.imgsz)
    if wanted == LATEST:
        like = {"kind": "detect", "distill.method": "none", "data.digest": report.digest()}
        newest = next((run for run in tracking.find(tracking.finished(like)) if not run.repeats), None)
        if newest is None:
            return None
        print(f"spkd: the teacher is run {newest.id} ({newest.name})", flush=True)
        return Teacher.opened(tracking.artifact(newest.id, stored.BEST), newest.id, Path(stored.BEST).name, job.imgsz)
    if wanted.startswith(stored.RUN):
        weights, run_id = stored.taken(wanted, job.folder)
        return Teacher.opened(weights, run_id, weights.name, job.imgsz)
    file = networks.weights(wanted, KEY)
    if file is None:
        do = "give weights (.pt), those of ultralytics by name (yolov8x.pt), run:<id> of a `detect` run, or latest"
        raise SpkdError(f"params.yaml: {KEY}", "a teacher", repr(wanted), do)
    return Teacher.opened(file, FILE, file.name, job.imgsz)


def _trained_first(job: Job, session: Session, opened: tracking.Run, report: preflight.Report) -> Teacher:
    """A plain run of the same settings, nested below the student's.

    Raises SpkdError where the data have changed since: it may have taken days.
    """
    print(f"spkd: no finished plain `detect` run on {job.data_name} yet: its teacher is trained first, as a nested run")
    plain = replace(job, folder=job.folder / "teacher", plan=replace(job.plan, method="none", teacher=""))
    own = session.chosen["detect"]
    chosen = {**session.chosen, "detect": {**own, "distill": {**own["distill"], "method": "none"}}}
    run_id = run(plain, replace(session, chosen=chosen), "", parent=opened)
    if yolo.look(job).digest() != report.digest():
        do = f"bring them back, or begin anew: rm -r {shlex.quote(str(job.folder))}"
        raise SpkdError(job.data, "the data that the teacher was trained on", "changed images or labels", do)
    return Teacher.opened(plain.folder / stored.BEST, run_id, Path(stored.BEST).name, job.imgsz)


def _lineage(teacher: Teacher, report: preflight.Report, job: Job) -> dict[str, str]:
    """Tags: which teacher, and whether it learnt from these data and classes; says so where it did not.

    {} where a training goes on: they are on record, and the teacher's run need not be there any more.
    Raises SpkdError where a run with other classes is meant: its id alone does not show that.
    """
    if not teacher.run_id:
        return {}
    classes = teacher.classes
    same = list(classes) == yolo.class_names(job, report)
    told = tracking.get(teacher.run_id).tags if teacher.run_id != FILE else {"kind": imported.KIND}
    own = told.get("data.digest", "unknown")
    if not same and told.get("kind") != imported.KIND:
        do = "choose a run on these classes, or give its weights (.pt) to learn from other classes all the same"
        got = f"{len(classes)} others ({', '.join(classes[:3])} ...)"
        raise SpkdError(f"params.yaml: {KEY}: run {teacher.run_id}", "a teacher of the data set's classes", got, do)
    if not same:
        print(f"spkd: the teacher {teacher.name} knows other classes than {report.data_yaml} ({len(classes)})")
    elif own not in (report.digest(), "unknown"):
        print(f"spkd: the teacher of run {teacher.run_id} learnt the same classes from other images or labels")
    tags = {"run_id": teacher.run_id, "weights": teacher.name, "data.digest": own}
    tags["classes"] = "same" if same else "other"
    return {f"teacher.detector.{key}": text for key, text in tags.items()}


def describe(title: str, job: Job, numbers: Mapping[str, float], code: Mapping[str, Any]) -> str:
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
    made = "`dvc repro coco`, " if job.data.parent.resolve() == coco.OUT.resolve() else ""
    parts = [
        f"{title}: `{Path(job.model).name}` on `{job.data}` ({origin}), {how}.",
        f"{_epochs(job, int(numbers['epochs']))} at {job.imgsz} px, batch {job.batch}.",
        *([warning] if origin == "simulated" else []),
        f"Headline: {yolo.headline(job)}.",
        f"| | |\n|---|---|\n{rows}",
        f"Repeat: `git checkout {code['commit']}`{' and code.patch' if code['dirty'] else ''}, {made}"
        "`spkd detect` with the settings of `settings.json`.",
    ]
    return "\n\n".join(parts) + "\n"


def _epochs(job: Job, trained: int) -> str:
    """How many epochs were trained; where that is not what was asked for, also why."""
    if trained == job.epochs:
        return f"{trained} epochs"
    return f"{trained} epochs of {job.epochs} ({yolo.ended(job)})"
