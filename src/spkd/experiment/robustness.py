"""Test accuracy of trained runs under disturbances of the recordings.

Normalisation, view and class order are those of the weights' card; what a view stores is computed anew from the
disturbed windows. Every run meets the same disturbances. Level 0 must be the result that the run recorded.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spkd import config, plugin, seeding
from spkd.data import disturb, scaling, windowset
from spkd.data.batches import DeviceWindows
from spkd.data.scaling import Scaling
from spkd.data.windowset import WindowSet
from spkd.errors import SpkdError
from spkd.evidence import tracking
from spkd.evidence.tracking import RunInfo
from spkd.experiment.lineage import WEIGHTS
from spkd.training import metrics, weights
from spkd.training.weights import Card


@dataclass(frozen=True)
class Candidate:
    """One trained run and the windows it is tested on. rows: (n,) of its test subjects. recorded: its accuracy."""

    run: RunInfo
    network: torch.nn.Module
    card: Card
    windows: WindowSet
    rows: np.ndarray
    statistics: Scaling
    batch: int
    recorded: float


@dataclass(frozen=True)
class Result:
    """One test. kind, level, draw: of the disturbance; accuracy, macro_f1: of all windows together, 0 to 1."""

    run: RunInfo
    kind: str
    level: float
    draw: int
    accuracy: float
    macro_f1: float
    recorded: float


def load(run: RunInfo, data: Path, folder: Path, device: torch.device) -> Candidate:
    """A run ready to be tested. data: the project's data folder. folder: where weights are downloaded to.

    Raises SpkdError where the windows on disk are not those that the run was trained on, or it recorded no result.
    """
    network, card = weights.load(tracking.artifact(run.id, WEIGHTS, folder / run.id))
    windows = windowset.load(data / "windows" / card.dataset)
    if windows.digest != card.data_digest:
        do = f'run "dvc repro windows@{card.dataset}" with the settings of that run, or leave it out'
        raise SpkdError(f"run {run.id}", f"windows with digest {windows.digest}", card.data_digest, do)
    if windows.classes != card.classes:
        raise SpkdError(f"run {run.id}", f"classes {windows.classes}", card.classes, "leave the run out")
    tested = [windows.subjects.index(name) for name in card.test_subjects]
    rows = np.flatnonzero(np.isin(windows.subject, tested)).astype(np.int64)
    statistics = scaling.from_dict(card.scaling)
    try:
        batch, accuracy = int(run.params["cfg/train.eval_batch"]), recorded(run)
    except KeyError as missing:
        raise SpkdError(f"run {run.id}", f"its {missing.args[0]}", f"none ({run.status})", "leave it out") from None
    return Candidate(run, network.to(device), card, windows, rows, statistics, batch, accuracy)


def recorded(run: RunInfo) -> float:
    """The accuracy that the run logged for the weights it kept: of the validation-chosen epoch, or of the last."""
    name = "validation" if run.tags["weights.epoch"] == f"{run.metrics['validation/epoch']:.0f}" else "last"
    return run.metrics[f"{name}/accuracy"]


def measure(own: Candidate, levels: Mapping[str, Sequence[float]], draws: int, seed: int) -> Iterator[Result]:
    """A run undisturbed (level 0, once for each kind), then under `draws` draws of each level of each kind.

    levels: kind of data/disturb.py -> levels > 0. A draw is the same for every run on the same test windows.
    """
    clean = _tested(own, "noise", 0.0, 0, seed)
    for kind, values in levels.items():
        yield Result(own.run, kind, 0.0, 0, *clean, own.recorded)
        for level in values:
            for draw in range(draws):
                found = _tested(own, kind, level, draw, seed)
                yield Result(own.run, kind, level, draw, *found, own.recorded)


def _tested(own: Candidate, kind: str, level: float, draw: int, seed: int) -> tuple[float, float]:
    """(accuracy, macro-F1) of one run under one draw of one disturbance."""
    group = own.statistics.group(own.windows)[np.asarray(own.windows.subject)[own.rows]]
    mean, std = own.statistics.mean[group], own.statistics.std[group]
    rng = seeding.numpy_stream(seed, "robustness", kind, level, draw)
    windows = disturb.KINDS[kind](own.windows.windows(own.rows), mean, std, level, rng)
    disturbed = disturb.as_set(windows, own.windows, own.rows)
    found = metrics.scores(disturbed.label.astype(np.int64), predict(own, disturbed))
    return found.accuracy, found.macro_f1


@torch.no_grad()
def predict(own: Candidate, windows: WindowSet) -> np.ndarray:
    """(n,) predicted classes of every window of a set, through the card's scaling and view."""
    device = next(own.network.parameters()).device
    view = plugin.load("views", own.card.view)
    settings = config.check(view.Settings, own.card.view_settings, f"views.{own.card.view}")
    prepared = view.prepare(windows, settings) if hasattr(view, "prepare") else {}
    stored = {name: torch.from_numpy(array).to(device) for name, array in prepared.items()}
    render = view.view(settings, stored)
    on_device = DeviceWindows(windows, own.statistics, device)
    every = torch.arange(len(windows), device=device)
    own.network.eval()
    parts = [own.network(render(on_device.batch(r), r)).argmax(1) for r in torch.split(every, own.batch)]
    return torch.cat(parts).cpu().numpy()


def columns(results: Sequence[Result]) -> dict[str, list[Any]]:
    """The results as a table, a row a test."""
    return {
        "run": [r.run.name for r in results],
        "id": [r.run.id for r in results],
        "disturbance": [r.kind for r in results],
        "level": [r.level for r in results],
        "draw": [r.draw for r in results],
        "accuracy": [r.accuracy for r in results],
        "macro_f1": [r.macro_f1 for r in results],
        "recorded": [r.recorded for r in results],
    }
