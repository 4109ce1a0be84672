"""What a run pays beside its training: tracking, a checkpoint every epoch; and what the commands pay to start.

Tracking and checkpoints: a student of one remembered teacher on the sample's PAMAP2 windows, 10 epochs each, in turn.
CPU seconds of the process (its sender thread included), one thread. Commands: wall clock.

    python benchmarks/overheads.py [repeats]
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import _measure
import _study
import numpy as np
import torch

from spkd.evidence import similarity, tracking
from spkd.losses import sp
from spkd.training import loop
from spkd.training.remembered import remember
from spkd.training.taps import taps

EPOCHS, EVERY = 10, 5


def runs(repeats: int, folder: Path) -> list[dict]:
    """The whole fit with and without the witness, and with a checkpoint every epoch or at the end alone."""
    seen = _study.device_windows(_study.windows(1024))
    rows = torch.arange(1024)
    teacher, _ = remember(_study.teacher("signal", seen), rows, 512, 2**33, folder, sp.Products)
    probe = rows[similarity.probe(seen.label.numpy(), 4)]
    count = iter(range(10_000))

    def fit(witness=None, every: int = 1) -> None:
        task, number = _study.task(seen, [teacher], rows), next(count)
        settings = _study.train(epochs=EPOCHS, batch=128, checkpoint_every=every)
        if witness is None:
            loop.fit(task, settings, 0, folder / f"{number}.c", "k", lambda state: None)
            return
        with tracking.open_run(f"r{number}", folder / str(number), "bench") as run:
            loop.fit(task, settings, 0, folder / f"{number}.c", "k", lambda state: witness(run, task, state))

    def witness(run, task, state) -> None:
        for epoch in state.history[-1:]:
            run.metrics({"train/loss": epoch.losses["total"], **epoch.validation}, epoch.number)
        if state.epoch % EVERY:
            return
        with torch.no_grad(), taps(task.network.eval(), _study.TAPS) as found:
            task.network(seen.batch(probe))
        layers = {t: similarity.Layer(sp.similarity(f).numpy()) for t, f in found.items()}
        labels = seen.label[probe].numpy()
        for tap, layer in layers.items():
            run.metrics({f"{tap}/{k}": v for k, v in similarity.numbers(layer, labels).items()}, state.epoch)
            for name, pixels in similarity.images(layer, labels).items():
                run.image(f"maps/{tap}/{name}", pixels, state.epoch)
        panel = similarity.panel(layers, labels, seen.classes, "bench")
        run.figure(panel, f"maps/panel_{state.epoch:04d}.png")

    calls = {"tracked": lambda: fit(witness), "bare": fit, "last": lambda: fit(every=EPOCHS)}
    seconds = _measure.turns(calls, repeats)
    return [
        _measure.dearer("run of 10 epochs, tracked with maps", "the same untracked", seconds, "tracked", "bare", 1.03),
        _measure.dearer("checkpoint every epoch", "one at the end", seconds, "bare", "last", 1.02),
    ]


def commands(repeats: int) -> list[dict]:
    """Seconds to start, beside a bound in seconds."""
    here = str(Path(sys.executable).parent)
    env = os.environ | {"PYTHONPATH": str(_measure.ROOT / "src"), "PATH": here + os.pathsep + os.environ["PATH"]}
    rows = []
    for words, bound in ((["python", "-m", "spkd", "--help"], 0.7), (["dvc", "repro", "--quiet"], 2.0)):
        taken = []
        for _ in range(repeats + 1):
            started = time.perf_counter()
            subprocess.run(words, cwd=_measure.ROOT, env=env, check=True, capture_output=True)
            taken.append(time.perf_counter() - started)
        what = f"{' '.join(words)}, {np.median(taken[1:]):.2f} s"
        rows.append(_measure.dearer(what, f"{bound} s", {"a": taken[1:], "b": [bound] * repeats}, "a", "b", 1))
    return rows


def main(words: list[str]) -> None:
    repeats = int(words[0]) if words else 5
    _study.fair()
    with tempfile.TemporaryDirectory() as place:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{place}/mlflow.db"
        rows = runs(repeats, Path(place))
    _measure.keep("overheads", rows + commands(repeats), ("torch", "mlflow", "dvc"), "load of the machine: see machine")


if __name__ == "__main__":
    main(sys.argv[1:])
