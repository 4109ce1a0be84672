"""Carries what the trainer wrote to disk into the run: metrics of each epoch, maps, first weights, first step.

Reads whole lines and whole files only. In one process it is called after every epoch; for several GPUs a thread calls
it while the workers train.
"""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spkd.evidence import panel, similarity, simulated

if TYPE_CHECKING:
    from spkd.evidence.tracking import Run

RENAMED = {
    "metrics/precision(B)": "val/precision",
    "metrics/recall(B)": "val/recall",
    "metrics/mAP50(B)": "val/mAP50",
    "metrics/mAP50-95(B)": "val/mAP50-95",
}


def metric_name(theirs: str) -> str:
    """Our name of one of ultralytics' metrics: MLflow allows no parentheses."""
    return RENAMED.get(theirs, theirs.replace("(", "_").replace(")", ""))


class Follower:
    """Logs each fact below a training folder once. One thread at a time."""

    def __init__(self, run: "Run", folder: Path, classes: Sequence[str], origin: str) -> None:
        self.run, self.folder, self.classes, self.origin = run, folder, classes, origin
        self.read_to = 0
        self.done: set[str] = set()

    def drain(self, *_: Any) -> None:
        """Log what is new. Arguments of an ultralytics callback are ignored."""
        self._started()
        self._first_step()
        self._epochs()
        for path in sorted((self.folder / "maps").glob("*.npz")):
            if path.name not in self.done:
                self._maps(path)
                self.done.add(path.name)

    def finish(self) -> None:
        """Log what the training left, and the panel of its last maps: which epoch that is shows only now."""
        self.drain()
        last = max((self.folder / "maps").glob("*.npz"), default=None)
        if last is not None:
            self._panels(_shown(last), int(last.stem))

    def _started(self) -> None:
        path = self.folder / "started.json"
        if "started" in self.done or not path.is_file():
            return
        started = json.loads(path.read_text("utf-8"))
        known = {key: started.get(key, "not recorded") for key in ("precision", "optimizer")}  # begun before they were
        self.run.tags({"weights.initial_sha256": started["initial_sha256"], **known})
        if "teacher_sha256" in started:
            self.run.tags({"teacher.detector.sha256": started["teacher_sha256"]})
        self.run.json(started, "data/probe.json")
        self.done.add("started")

    def _first_step(self) -> None:
        path = self.folder / "first_step.json"
        if "first step" in self.done or not path.is_file():
            return
        found = json.loads(path.read_text("utf-8"))
        self.run.tags({"first_step.rows_sha256": found["images_sha256"]})
        self.run.metrics({f"first_step/{metric_name(name)}": value for name, value in found["losses"].items()}, 0)
        self.done.add("first step")

    def _epochs(self) -> None:
        path = self.folder / "epochs.jsonl"
        if not path.is_file():
            return
        with path.open("rb") as file:
            file.seek(self.read_to)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self.read_to += len(line)
                fact = json.loads(line)
                clock = {"seconds": fact["seconds"]} if "seconds" in fact else {}  # older trainings had none
                self.run.metrics({metric_name(k): v for k, v in fact["values"].items()} | clock, step=fact["step"])

    def _maps(self, path: Path) -> None:
        self.run.file(path, f"maps/{path.name}")
        shown, step = _shown(path), int(path.stem)
        for what, (layers, labels) in shown.items():
            for level, layer in layers.items():
                found = similarity.numbers(layer, labels)
                self.run.metrics({f"sim/{what}/{level}/{key}": value for key, value in found.items()}, step=step)
                for name, pixels in similarity.images(layer, labels).items():
                    marked = simulated.marked(pixels, self.origin)
                    self.run.image(f"maps/{what}/{level}/{name}", marked, step=step)
        if step == 0:
            self._panels(shown, step)

    def _panels(self, shown: "Shown", step: int) -> None:
        for what, (layers, labels) in shown.items():
            title = f"{what}s of the probe, epoch {step}"
            drawn = panel.draw(layers, labels, self.classes, title, self.origin)
            self.run.text(drawn, f"maps/{what}s_{step:05}.svg")


Shown = dict[str, tuple[dict[str, similarity.Layer], np.ndarray]]


def _shown(path: Path) -> Shown:
    """{"image", "object": (layer by level, classes)} of a maps file; without what has fewer than two things to show."""
    with np.load(path, allow_pickle=False) as stored:
        layers = similarity.stored(dict(stored))
    found: Shown = {}
    for name, (layer, labels) in layers.items():
        what, _, level = name.partition("/")
        if len(labels) > 1:
            found.setdefault(what, ({}, labels))[0][level] = layer
    return found


@contextmanager
def alongside(follower: Follower, seconds: float = 1.0) -> Iterator[None]:
    """Drain from a thread while the workers of multi-GPU training write; once more at the end."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(seconds):
            follower.drain()

    thread = threading.Thread(target=loop, name="follow-training", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        follower.drain()
