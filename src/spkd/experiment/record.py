"""What a run on recordings tells MLflow while it runs: settings, machine, code, data, every epoch, similarity maps.

Reads plans and training states, computes nothing that changes them.
"""

import copy
import hashlib
from typing import Any

import numpy as np
import torch

from spkd import plugin, seeding
from spkd.data import windowset
from spkd.data.batches import DeviceWindows, order
from spkd.evidence import panel, prepared_data, provenance, similarity, simulated, tracking
from spkd.experiment import plan
from spkd.experiment.lineage import EARLY_WEIGHTS, Ancestor, check_view
from spkd.experiment.plan import Plan
from spkd.training import step, weights
from spkd.training.schedule import early_epoch
from spkd.training.state import Epoch, State
from spkd.training.taps import taps
from spkd.training.teachers import LiveTeacher, Render

HEADLINES = {
    "validation": "test result at the epoch chosen on validation subjects",
    "last": "test result at the last epoch",
    "paper": "best test epoch (chosen on the TEST subjects, as the published line does: optimistic)",
}
Products = dict[str, np.ndarray]


def check_data(made: Plan) -> None:
    """Raise SpkdError where prepared windows, or the own view of them, are older than what makes them."""
    name, used = made.settings.dataset, made.windows.manifest["settings"]
    wanted = made.raw["datasets"][name]["windows"]
    prepared_data.check_fresh(windowset.FOLDER / name, used, wanted, made.places.project)
    check_view(made, made.model.view)


def kind(made: Plan) -> str:
    """teacher, scratch (a student without teachers) or student."""
    if made.role == "teacher":
        return "teacher"
    return "student" if made.settings.distill.teachers else "scratch"


def tags(made: Plan) -> dict[str, Any]:
    """What a run is found by."""
    return {
        "kind": kind(made),
        "view": made.model.view,
        "network": made.model.network,
        "fold": made.settings.fold,
        "trial": made.settings.run.seed,
        "data.dataset": made.settings.dataset,
        "data.digest": made.windows.digest,
        "data.origin": made.origin,
        "data.window": f"{made.windows.length} samples at {made.windows.rate_hz:g} Hz",
        "train_subjects": " ".join(made.split.train_subjects),
        "validation_subjects": " ".join(made.split.validation_subjects) or "none",
        "test_subjects": " ".join(made.split.test_subjects),
        "test_windows": len(made.split.test),
        "headline": HEADLINES[made.settings.train.headline],
        "fingerprint": plan.fingerprint(made),
    }


def lineage(run: tracking.Run, teachers: list[Ancestor], shares: list[float], scratch: Ancestor | None) -> None:
    """Which runs this one builds on, and the hashes of their weights."""
    named = {f"teacher.{t.name}": t for t in teachers} | ({"init": scratch} if scratch else {})
    for name, ancestor in named.items():
        run.tags({f"{name}.run_id": ancestor.run_id, f"{name}.sha256": ancestor.sha256})
    run.tags({f"teacher.{t.name}.alpha": share for t, share in zip(teachers, shares, strict=True)})
    run.tags({"teachers": " ".join(t.name for t in teachers) or "none"})


def beginning(run: tracking.Run, made: Plan, flags: dict[str, Any]) -> dict[str, Any]:
    """Log settings, environment, code and data lineage: all that is known before the first step. Returns the code."""
    relevant = plan.relevant(made)
    run.params(plan.deciding(relevant))
    run.params({"train": {key: relevant["train"][key] for key in plan.SAME_BITS}}, prefix="machine/")
    _, code = provenance.tell(run, {**flags, "device": str(made.device)}, made.places.project)
    folder = windowset.FOLDER / made.settings.dataset
    dvc_md5, dvc_lock = prepared_data.lineage(folder, made.places.project)
    digest = dvc_md5 or made.windows.digest
    manifest = made.windows.manifest
    profile = {k: manifest[k] for k in ("n_windows", "length", "step", "rate_hz", "rule", "origin", "counts", "drops")}
    run.dataset(made.settings.dataset, digest, str(folder), profile)
    run.tags({"data.dvc_md5": dvc_md5 or "none", "data.missing_in_training": " ".join(made.split.missing) or "none"})
    run.json(manifest, "data/manifest.json")
    run.text(dvc_lock, "data/dvc.lock")
    if made.split.missing:
        print(f"classes that the training subjects do not have: {', '.join(made.split.missing)}", flush=True)
    if made.scaling.constant:
        print(f"constant channels, scaled to 0: {', '.join(made.scaling.constant)}", flush=True)
    return code


class Callback:
    """Called by the loop before the first epoch and after each: logs what is new, and the maps every few epochs."""

    def __init__(self, run: tracking.Run, made: Plan, task: step.Task, teachers: list[LiveTeacher]) -> None:
        """teachers: asked for their maps here, once, and not kept: they may hold windows of their own scaling."""
        self.run, self.made, self.task, self.told = run, made, task, 0
        labels = np.asarray(made.windows.label)
        self.rows = similarity.probe(labels, made.settings.tracking.probe_per_class, np.asarray(made.windows.subject))
        self.labels = labels[self.rows]
        rows, taps = task.windows.rows(self.rows), list(made.settings.distill.taps)
        self.taught = {t.name: products(t.network, t.render, t.windows, rows, taps) for t in teachers}

    def __call__(self, state: State) -> None:
        """Log what this process has not: the newest epoch; early weights and maps where they are due.

        The first call of a run that goes on tells of all its epochs: of those that the run has already nothing is
        logged again, and those that a power cut took from the local copy, but not from the checkpoint, come back.
        """
        for epoch in state.history[self.told :]:
            self.run.metrics(epoch_metrics(epoch), epoch.number)
        self.told = len(state.history)
        settings = self.made.settings
        if state.epoch == 0:
            self.run.tags({"weights.initial_sha256": provenance.state_sha256(self.task.network.state_dict())})
            rows = order(self.task.train, settings.run.seed, 0)[: settings.train.batch]
            self.run.tags({"first_step.rows_sha256": hashlib.sha256(rows.cpu().numpy().tobytes()).hexdigest()})
            seeding.set_global(rows.device, settings.run.seed, "step", 0, 0)
            losses = first_step(self.task, rows)
            self.run.metrics({f"first_step/{name}": value for name, value in losses.items()}, 0)
        if self.made.role == "teacher" and state.epoch == early_epoch(settings.train.early, settings.train.epochs):
            weights.save(self.run.folder / "early.safetensors", self.task.network, plan.card(self.made))
            self.run.file(self.run.folder / "early.safetensors", EARLY_WEIGHTS)
            sha256 = provenance.state_sha256(self.task.network.state_dict())
            self.run.tags({"weights.early_epoch": state.epoch, "weights.early_sha256": sha256})
        if state.epoch % settings.tracking.maps_every == 0 or state.epoch == settings.train.epochs:
            self.maps(state.epoch)

    def maps(self, step: int) -> None:
        """Similarity maps of the probe windows: pictures, numbers, the arrays behind them; first and last a panel."""
        rows, taps = self.task.windows.rows(self.rows), list(self.made.settings.distill.taps)
        student = products(self.task.network, self.task.render, self.task.windows, rows, taps)
        layers = {
            tap: similarity.Layer(student[tap], {name: own[tap] for name, own in self.taught.items()}) for tap in taps
        }
        found: dict[str, float] = {}
        for tap, layer in layers.items():
            found |= {f"sim/{tap}/{name}": value for name, value in similarity.numbers(layer, self.labels).items()}
            for name, pixels in similarity.images(layer, self.labels).items():
                self.run.image(f"maps/{tap}/{name}", simulated.marked(pixels, self.made.origin), step)
        self.run.metrics(found, step)
        if step in (0, self.made.settings.train.epochs):
            title = f"{plan.name(self.made)}, epoch {step}"
            drawn = panel.draw(layers, self.labels, self.made.windows.classes, title, self.made.origin)
            self.run.text(drawn, f"maps/panel_{step:04d}.svg")
        self.run.arrays(similarity.arrays(layers, self.labels, self.rows, step), f"maps/arrays_{step:04d}.npz")


@torch.no_grad()
def products(
    network: torch.nn.Module, render: Render, windows: DeviceWindows, rows: torch.Tensor, names: list[str]
) -> Products:
    """{tap: (b, b) products of features} of a network in eval mode for the given rows."""
    network.eval()
    with taps(network, names) as features:
        network(render(windows.batch(rows), rows))
    similarity_of = plugin.load("losses", "sp").similarity
    return {tap: similarity_of(feature).cpu().numpy() for tap, feature in features.items()}


@torch.no_grad()
def first_step(task: step.Task, rows: torch.Tensor) -> dict[str, float]:
    """The losses of a first training batch with the first weights, without noise and dropout layers, which draw other
    numbers on another device; `loss` is the weighted total.

    rows: (b,) of the batch. What another machine must reproduce within rounding: everything later grows from rounding.
    It is a copy that sees the batch: the network's own batch statistics stay as they are.
    """
    network = copy.deepcopy(task.network).train()
    for layer in step.dropping(network):
        layer.eval()
    with taps(network, task.tap_names) as features:
        logits = network(task.render(task.windows.batch(rows), rows))
    known = [teacher(rows, None) for teacher in task.teachers]
    outputs = [(k.name, k.logits, k.features) for k in known]
    total, parts = task.objective(logits, features, outputs, task.windows.label[rows])
    return {"loss": float(total), **{name: float(value) for name, value in parts.items()}}


def epoch_metrics(epoch: Epoch) -> dict[str, float]:
    """One epoch's numbers under the names of the tracking contract."""
    found = {
        "train/loss": epoch.losses["total"],
        "train/accuracy": epoch.train_accuracy,
        "lr": epoch.lr,
        "seconds": epoch.seconds,
        "samples_per_s": epoch.windows_per_s,
    }
    found |= {f"loss/{name}": value for name, value in epoch.losses.items() if name != "total"}
    found |= {f"val/{name}": value for name, value in epoch.validation.items()}
    return found | {f"test/{name}": value for name, value in epoch.test.items()}
