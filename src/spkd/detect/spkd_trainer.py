"""ultralytics' trainer with SPKD, checkpoints that survive `kill -9`, and a record on disk.

Contract: the trainer writes facts below its folder (epochs.jsonl, maps/*.npz, started.json, first_step.json) and knows
no tracking, so that it does the same in this process and in the workers of multi-GPU training. ultralytics pickles the
trainer's CLASS for those workers: settings therefore travel on a class made by `planned`. Its name must contain
"Trainer" (ultralytics looks).
"""

import hashlib
import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import DEFAULT_CFG, RANK
from ultralytics.utils.torch_utils import unwrap_model

from spkd import atomic, seeding
from spkd.detect import continued, hermetic, networks, probe, workers
from spkd.detect.criterion import KEY, SpCriterion
from spkd.detect.plan import Plan
from spkd.errors import SpkdError
from spkd.evidence import outbox
from spkd.evidence.provenance import state_sha256

GUARD = "needs_spkd_detect"  # unknown to ultralytics: its own resume stops at it instead of dropping the distillation
SMALLER = "lower detect.batch (and choose the gain anew: SP depends on it), or detect.imgsz"
OF_TRAINING = (f"val/{KEY}", "val/dis_loss")  # no validation computes these terms; ultralytics gives each a 0


def planned(plan: Plan) -> type["SpkdTrainer"]:
    """A trainer class that carries its plan, and whose it is; picklable by value, as multi-GPU training needs."""
    carried = {"plan": plan, "command": outbox.this_process(), "__module__": __name__}
    return type("PlannedTrainer", (SpkdTrainer,), carried)


class SpkdTrainer(DetectionTrainer):
    """DetectionTrainer with a plan; made by `planned`. The teacher lives beside the model, never in it."""

    plan: ClassVar[Plan]
    command: ClassVar[dict[str, Any]]

    def __init__(
        self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict[str, Any] | None = None
    ) -> None:
        if RANK != -1:
            workers.end_with(self.command)
        hermetic.quiet()
        super().__init__(cfg, overrides, _callbacks)
        if self.device.type == "cpu":  # ultralytics has just set 0: a GPU's augmentation is drawn in the workers
            self.args.workers = (overrides or {}).get("workers", self.args.workers)
            self.args.amp = False  # bf16, about which no `check_amp` is asked, would raise
        # A worker of multi-GPU training is a new process, and on a CPU ultralytics has just set threads of its own.
        threads = self.plan.threads or torch.get_num_threads()
        seeding.set_flags(bool(self.args.deterministic), self.plan.tf32, threads, warn_only=True)
        self.first_images: list[str] | None = None
        self.batch_of_epoch = (-1, 0)
        self.validated = -1
        self.add_callback("on_train_batch_end", refuse_non_finite)
        self.add_callback("on_train_batch_end", record_first_step)

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """ultralytics' own, keeping the names of the first batch's images and counting the batches of the epoch."""
        if self.first_images is None:
            self.first_images = [Path(name).name for name in batch["im_file"]]
        (before, step), epoch = self.batch_of_epoch, getattr(self, "epoch", -1)
        self.batch_of_epoch = (epoch, step + 1 if epoch == before else 1)
        prepared: dict[str, Any] = super().preprocess_batch(batch)
        return prepared

    def check_resume(self, overrides: dict[str, Any]) -> None:
        """Resume our own checkpoint: take the guard out of a copy of it, then as ultralytics does."""
        if self.args.resume:
            path = Path(str(self.args.resume))
            content = continued.checkpoint(path)
            if content["train_args"].pop(GUARD, None):  # workers of multi-GPU training get the clean copy
                clean = path.with_name("resume.pt")
                with atomic.file(clean) as new:
                    torch.save(content, new)
                self.args.resume = str(clean)
        super().check_resume(overrides)

    def _build_train_pipeline(self) -> None:
        """ultralytics' own, but never again with half the batch: the run would not be what its settings say.

        SP is bounded by 4 / n of the n things in a batch, so that a gain holds for one batch size.
        """
        if getattr(self, "_oom_retries", 0):
            got = f"out of memory in the first epoch; ultralytics would go on with {self.batch_size} images a step"
            raise SpkdError("params.yaml: detect.batch", f"a batch that fits on {self.device}", got, SMALLER) from None
        super()._build_train_pipeline()

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """Stop, where ultralytics would load an earlier checkpoint and repeat the epoch as if nothing had been."""
        refuse_non_finite(self)
        if self.fitness is not None and not math.isfinite(self.fitness):
            raise SpkdError(f"epoch {epoch + 1}", "a finite mAP", self.fitness, "look at the validation images")
        return False

    def _setup_train(self) -> None:
        with hermetic.amp_as_asked():
            super()._setup_train()
        model = unwrap_model(self.model)
        self.teacher: nn.Module | None = None
        if self.plan.method != "none":
            self.teacher = networks.load(self.plan.teacher).to(self.device).eval().requires_grad_(False)
        if self.plan.method == "sp" and self.teacher is not None:
            base = getattr(model, "criterion", None) or model.init_criterion()
            model.criterion = SpCriterion(base, self.teacher, model.stride, self.plan)
        if RANK in {-1, 0}:
            self._record_start(getattr(model, "student_model", model))

    def _record_start(self, student: nn.Module) -> None:
        """Settings beside args.yaml, the student's first weights, and the maps before any step."""
        atomic.write_text(self.save_dir / "plan.json", json.dumps(asdict(self.plan), indent=1))
        self.probe = probe.choose(
            self.test_loader.dataset.labels, self.plan.probe_images, self.plan.probe_objects, self.args.imgsz
        )
        self.probe_teacher = (
            probe.maps(self.teacher, self.probe, list(self.plan.levels), self.plan.mode) if self.teacher else {}
        )
        if self.start_epoch:
            return
        precision = "float32" if not self.amp else "bfloat16" if self.args.amp == "bf16" else "float16"
        first = state_sha256(student.state_dict())
        started = {"initial_sha256": first, "precision": precision, "probe": self.probe.paths}
        started["optimizer"] = in_use(self.optimizer, self.args.optimizer, self.args.lr0)
        if self.teacher is not None:
            started["teacher_sha256"] = state_sha256(self.teacher.state_dict())
        atomic.write_text(self.save_dir / "started.json", json.dumps(started))  # a thread may be waiting to read it
        self._record_maps(0, student)

    def _record_maps(self, step: int, student: nn.Module) -> None:
        found = probe.maps(student, self.probe, list(self.plan.levels), self.plan.mode)
        probe.save(self._maps_file(step), found, self.probe_teacher, self.probe)

    def _record_smoothed(self, step: int) -> None:
        """The maps of the weights that are kept: their moving average."""
        smoothed = self.ema.ema
        self._record_maps(step, getattr(smoothed, "student_model", smoothed))

    def _record_last(self) -> None:
        if not self._maps_file(self.epoch + 1).is_file():
            self._record_smoothed(self.epoch + 1)

    def _maps_file(self, step: int) -> Path:
        path: Path = self.save_dir / "maps" / f"{step:05}.npz"
        return path

    def save_metrics(self, metrics: dict[str, float]) -> None:
        """One epoch's facts: ultralytics' CSV row, our line, and the similarity maps when they are due."""
        metrics = {key: value for key, value in metrics.items() if key not in OF_TRAINING}
        super().save_metrics(metrics)
        step = self.epoch + 1
        if self.validated != self.epoch:  # the CSV needs every column, and gets zeros
            metrics = {key: value for key, value in metrics.items() if key not in self.metrics}
        with (self.save_dir / "epochs.jsonl").open("a", encoding="utf-8") as file:
            fact = {"step": step, "seconds": time.time() - self.epoch_time_start}
            file.write(json.dumps({**fact, "values": {k: float(v) for k, v in metrics.items()}}) + "\n")
        if step % self.plan.maps_every == 0:
            self._record_smoothed(step)

    def validate(self) -> tuple[dict[str, float] | None, float | None]:
        """ultralytics' own, remembering the epoch: with `val: false` only the last one is validated."""
        found: tuple[dict[str, float] | None, float | None] = super().validate()
        self.validated = self.epoch
        return found

    def save_model(self) -> bool:
        """Write checkpoints beside their names and rename them: a kill leaves the old or the new, never half of one.

        A training that ends gets its last maps first, whichever epoch that is: after its last checkpoint nothing is
        missing. best.pt is renamed before last.pt; a kill between is settled where it goes on.
        """
        if self.stop:
            self._record_last()
            setattr(self.args, continued.OVER, True)
        last, best = self.wdir / "last.pt", self.wdir / "best.pt"
        self.last, self.best = last.with_suffix(".part"), best.with_suffix(".part")
        for part in (self.last, self.best):  # of a save that was killed: a best one would become best.pt below
            part.unlink(missing_ok=True)
        if self.plan.method == "sp":
            setattr(self.args, GUARD, "resume with `spkd detect`: ultralytics' own resume would drop the distillation")
        try:
            saved = bool(super().save_model())
        finally:
            for own in (GUARD, continued.OVER):
                self.args.__dict__.pop(own, None)
            self.last, self.best = last, best
        for path in (best, last):
            if path.with_suffix(".part").is_file():
                path.with_suffix(".part").replace(path)
        return saved

    def final_eval(self) -> None:
        """Mark the training as complete; evaluation is the caller's (it has the tracking and the annotations)."""
        if RANK in {-1, 0}:
            self._record_last()  # detect.train.time may end it after its checkpoint
            (self.save_dir / "trained").touch()


def in_use(optimizer: torch.optim.Optimizer, name: str, lr0: float) -> str:
    """What steps are taken by. args.yaml was written before optimizer auto chose, by the number of steps and classes.

    name, lr0: ultralytics' own, which hold that choice by now; it also scales the weight decay by batch and nbs.
    """
    group = optimizer.param_groups[0]
    momentum = group["betas"][0] if "betas" in group else group["momentum"]
    decay = max(group["weight_decay"] for group in optimizer.param_groups)
    return f"{name}, lr0 {lr0:g}, momentum {momentum:g}, weight_decay {decay:g}"


def refuse_non_finite(trainer: SpkdTrainer) -> None:
    """Raise SpkdError where a loss of the step is not finite. last.pt keeps the weights of the last whole epoch."""
    if trainer.loss is None or math.isfinite(float(trainer.loss.detach())):
        return
    terms = {str(name): float(value) for name, value in trainer.loss_items.items()}
    broken = ", ".join(name for name, value in terms.items() if not math.isfinite(value)) or "the sum"
    epoch, step = trainer.batch_of_epoch
    do = "lower that term's weight, or the learning rate (detect.train: optimizer and lr0; optimizer auto ignores lr0)"
    do += "; or set detect.train.amp false" if trainer.amp else ""
    raise SpkdError(f"epoch {epoch + 1}, step {step}", "a finite loss", f"{broken} not finite", do)


def epochs_trained(folder: Path) -> int:
    """How many epochs the training below a folder has whole: fewer than asked for where it stopped early."""
    return int(json.loads((folder / "epochs.jsonl").read_text("utf-8").splitlines()[-1])["step"])


def record_first_step(trainer: SpkdTrainer) -> None:
    """The losses of the first batch of a training, made by the first weights, and which images it held: once.

    Not for several GPUs, whose first process sees its own share of the batch alone.
    """
    path = trainer.save_dir / "first_step.json"
    if RANK != -1 or trainer.start_epoch or path.is_file():
        return
    losses = {str(name): float(value) for name, value in trainer.loss_items.items()}
    images = hashlib.sha256("\n".join(trainer.first_images or []).encode()).hexdigest()
    atomic.write_text(path, json.dumps({"losses": losses, "images_sha256": images}))


def require_distilled(folder: Path, plan: Plan) -> None:
    """Raise SpkdError where the training below folder was meant to distil by SP and did not: the stock trainer ran."""
    header = (folder / "results.csv").read_text("utf-8").splitlines()[0] if (folder / "results.csv").is_file() else ""
    columns = [c.strip() for c in header.split(",")]
    if plan.method == "sp" and f"train/{KEY}" not in columns:
        do = "start it again with `spkd detect`; do not resume it with ultralytics' own command"
        raise SpkdError(folder / "results.csv", f"a column train/{KEY}", f"{columns[:6]}", do)
