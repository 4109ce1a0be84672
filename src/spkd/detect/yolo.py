"""One detection run from check to evidence: preflight, training with or without distillation, evaluation.

Contract: tracks through the `Run` it is given and nothing else; a killed training in the same folder is continued.
"""

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ultralytics.utils import DEFAULT_CFG_DICT
from ultralytics.utils.plotting import plot_results
from ultralytics.utils.torch_utils import strip_optimizer

from spkd import atomic, memory, seeding
from spkd.detect import coco, continued, evaluate, follow, hardware, hermetic, networks, spkd_trainer
from spkd.detect.checks import preflight, sheet
from spkd.detect.plan import Job
from spkd.errors import SpkdError
from spkd.evidence import simulated

if TYPE_CHECKING:
    from spkd.evidence.tracking import Run

NOTE = "job.json"  # whose work a folder holds: the job, and the digest of the data it began with
BEST_EPOCH = "best epoch on the validation images, which also choose it: optimistic"
LAST_EPOCH = "last epoch, the only one that was validated (detect.train.val false)"


def look(job: Job) -> preflight.Report:
    """What preflight finds in the data set: to be asked before a run is opened.

    Raises SpkdError where a setting is wrong, or the model or data.yaml cannot be read; problems of the data are in the
    report.
    """
    hermetic.quiet()
    hermetic.train_arguments(job.extra)
    model = networks.build(job.model, "detect.model")
    networks.require_side(model, job.imgsz, "detect.imgsz")
    hermetic.require_layers(job.extra.get("freeze"), len(model.model))
    return preflight.check(job.data, job.annotations, job.limits, job.extra.get("classes"))


def class_names(job: Job, report: preflight.Report) -> list[str]:
    """What the classes of a training are called, in ultralytics' words."""
    return ["item"] if job.extra.get("single_cls") else list(report.names.values())


def continues(job: Job, report: preflight.Report) -> bool:
    """Whether the job's folder holds the start of this very job on these very data.

    Raises SpkdError where a training that got as far as a checkpoint is of another job, or of other data.
    """
    known, wanted = _known(job), _note(job, report)
    if known == wanted or not any(job.folder.rglob("last.pt")):
        return bool(known == wanted)
    other = [key for key in wanted if known.get(key) != wanted[key]]
    expected, got = "the folder of this very job", f"one of another job ({', '.join(other)} differ)"
    if "data.digest" not in known:
        got = "one that an earlier version of this program began"
    elif other == ["data.digest"]:
        expected, got = f"the data that the training there began with ({job.data})", "changed images, labels or names"
    do = f"bring them back, or begin anew: rm -r {shlex.quote(str(job.folder))}, or choose another run.folder"
    raise SpkdError(job.folder, expected, got, do)


def is_noted(job: Job, report: preflight.Report) -> bool:
    """Whether the job's folder is noted as that of this very job on these very data."""
    return _known(job) == _note(job, report)


def claim(job: Job, report: preflight.Report) -> None:
    """Note in the job's folder whose it is from now on."""
    atomic.write_text(job.folder / NOTE, json.dumps(_note(job, report), sort_keys=True))


def _known(job: Job) -> dict[str, Any]:
    """The note in the job's folder; {} where there is none."""
    note = job.folder / NOTE
    return dict(json.loads(note.read_text("utf-8"))) if note.is_file() else {}


def _note(job: Job, report: preflight.Report) -> dict[str, Any]:
    wanted = {**job.overrides(), "plan": vars(job.plan), "data.digest": report.digest()}
    note: dict[str, Any] = json.loads(json.dumps(wanted, default=str))
    return note


def train(job: Job, report: preflight.Report, run: "Run") -> dict[str, float]:
    """Train (or continue) in a claimed folder, evaluate, log.

    Returns the headline numbers (mAP50, mAP50-95, ...), the cost, and "epochs": how many were trained.
    """
    follower = follow.Follower(run, job.train_folder, class_names(job, report), report.origin)
    _train(job, follower)
    # ultralytics has unset them: evaluation is the same whether or not it follows its training in one process.
    seeding.set_flags(job.deterministic, job.plan.tf32, job.plan.threads, warn_only=True)
    follower.finish()
    spkd_trainer.require_distilled(job.train_folder, job.plan)
    return log_result(job, run, plots=bool(job.extra.get("plots", True)))


def checkpoint(job: Job) -> Path | None:
    """What an unfinished training in the job's folder goes on from; None where it begins anew."""
    last = job.train_folder / "weights" / "last.pt"
    return last if last.is_file() else None


def _train(job: Job, follower: follow.Follower) -> None:
    """Run or continue ultralytics' training below the job's folder."""
    if (job.train_folder / "trained").is_file():
        return
    continued.settle(job.train_folder / "weights")
    last = checkpoint(job)
    if last is None:
        shutil.rmtree(job.train_folder, ignore_errors=True)
    elif continued.is_over(last):  # killed after its last checkpoint: only this plot and the mark came after that
        if job.extra.get("plots", True):
            plot_results(job.train_folder / "results.csv")
        (job.train_folder / "trained").touch()
        return
    else:
        kept = continued.cut(job.train_folder)
        follower.run.tags({"epochs.continued": f"after epoch {kept}: other bits than without the stop"})
    resume = {} if last is None else {"resume": str(last)}
    trainer = spkd_trainer.planned(job.plan)(overrides=job.overrides() | resume)
    if trainer.ddp:
        try:
            with follow.alongside(follower):
                trainer.train()
        except subprocess.CalledProcessError as error:
            got = f"exit status {error.returncode}: the message of the first of them that failed is above"
            do = "mend what it names; the same command goes on from the last checkpoint"
            raise SpkdError(job.train_folder, f"workers on GPUs {job.device} that end well", got, do) from None
    else:
        trainer.add_callback("on_train_start", follower.drain)
        trainer.add_callback("on_fit_epoch_end", follower.drain)
        with memory.enough("params.yaml: detect.batch", spkd_trainer.SMALLER):
            trainer.train()
    if not (job.train_folder / "trained").is_file():
        raise SpkdError(
            job.train_folder, "a completed training", "none", "look at the messages above, then start again"
        )


def log_data(job: Job, report: preflight.Report, run: "Run") -> None:
    """What the run was given: counts, contact sheet, digest, and the converter's own report where there is one.

    Raises SpkdError where it must not be trained on; that is on record then.
    """
    run.json(report.summary(), "data/preflight.json")
    for name, split in report.splits.items():
        if split.seen:
            seen = simulated.marked(sheet.draw(split.trained, report.names), report.origin)
            run.image(f"data/{name}", seen, step=0)
    counts = {name: {"images": len(s.seen), "objects": s.objects().total()} for name, s in report.splits.items()}
    run.dataset(job.data_name, report.digest(), str(job.data), counts)
    if (conversion := job.data.parent / coco.REPORT).is_file():
        run.file(conversion, f"data/{coco.REPORT}")
    run.file(job.data, "data/data.yaml")
    for note in report.notes:
        print(f"note: {note}")
    if report.same_as_train:
        run.tags({"data.same_as_train": ", ".join(report.same_as_train)})
    if why := evaluate.without_coco(job.annotations.get("val"), job.extra):
        print(f"spkd: no COCO metric: {why}")
        run.tags({"coco.without": why})
    report.require()


def log_result(job: Job, run: "Run", plots: bool) -> dict[str, float]:
    """Evaluate the best weights; log numbers, tables, plots, weights. Returns what `train` does."""
    trained = spkd_trainer.epochs_trained(job.train_folder)
    run.tags({"epochs.trained": trained} | ({"epochs.ended": ended(job)} if trained != job.epochs else {}))
    finished = job.folder / "weights"
    names = [n for n in ("best", "last") if (job.train_folder / "weights" / f"{n}.pt").is_file()]
    with hermetic.hushed():
        for name in names:
            with atomic.file(finished / f"{name}.pt") as new:
                strip_optimizer(job.train_folder / "weights" / f"{name}.pt", s=new)
    best = finished / f"{names[0]}.pt"
    result = evaluate.validate(best, job.data, job.folder / "val", job.imgsz, job.device,
                               plots, job.annotations.get("val"), job.extra)  # fmt: skip
    run.metrics({f"best/{k}": v for k, v in result.numbers.items()}, step=trained)
    run.metrics({f"coco/{k}": v for k, v in result.coco.items()}, step=trained)
    run.table("per_class_ap", result.per_class)
    while_training = [*sorted(job.train_folder.glob("*.png")), *sorted(job.train_folder.glob("*.jpg"))]
    # A name may be there twice: ultralytics draws its validation of a last epoch, too, and here the best weights count.
    for name, plot in {plot.name: plot for plot in [*while_training, *result.plots]}.items():
        run.file(plot, f"plots/{name}")
    for path in (job.train_folder / "results.csv", job.train_folder / "args.yaml", job.train_folder / "plan.json"):
        run.file(path, path.name)
    model = networks.load(best)
    cost = evaluate.cost(model, job.imgsz, hardware.first(job.device))
    run.metrics({f"cost/{k}": v for k, v in cost.items()}, step=0)
    _log_weights(job, run, model, names)
    run.tags({"headline": headline(job)})
    return {**result.numbers, **{f"coco/{k}": v for k, v in result.coco.items()}, **cost, "epochs": trained}


def headline(job: Job) -> str:
    """Which epoch the numbers of a training are of."""
    return BEST_EPOCH if job.extra.get("val", True) else LAST_EPOCH


def ended(job: Job) -> str:
    """Why a training ended after another number of epochs than was asked for."""
    patience, hours = job.extra.get("patience", DEFAULT_CFG_DICT["patience"]), job.extra.get("time")
    if hours and not 0 < (patience or 0) <= continued.since_best(job.train_folder / "weights" / "last.pt"):
        return f"detect.train.time, {hours} h, replaces detect.epochs"
    return f"no better one in {patience}: detect.train.patience"


def _log_weights(job: Job, run: "Run", model: Any, names: list[str]) -> None:
    for name in names:
        run.file(job.folder / "weights" / f"{name}.pt", f"weights/{name}.pt")
    path = job.folder / "weights" / "best.safetensors"
    run.tags({"weights.sha256": networks.keep(model, path, model=Path(job.model).name, task="detect")})
    run.model(path, Path(job.model).stem)
