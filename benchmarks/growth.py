"""How the cost of a student's epoch grows: over windows, channels, batch size and remembered teachers; and its memory.

CPU seconds of one thread for each training window of one epoch of WRN16-1, least of some rounds; the cache's bytes are
those of its plan, for teachers of WRN28-3 on 40 channels. Draws docs/growth.png.

    python benchmarks/growth.py [rounds]
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import _measure
import _study
import torch
from matplotlib.figure import Figure

from spkd.losses import sp
from spkd.training.remembered import layout, remember

WINDOWS, CHANNELS, BATCHES, TEACHERS = (
    (512, 1024, 2048, 4096),
    (5, 10, 20, 40, 80),
    (32, 64, 128, 256, 512),
    (0, 1, 2, 3),
)
N, BATCH, N_CHANNELS = 1024, 128, 40
CACHE = (256, 1024, 4096, 16_384, 65_536)


def epoch(n: int, channels: int, batch: int, n_teachers: int) -> Callable[[], None]:
    """A function that trains one more epoch of a student."""
    seen, rows = _study.device_windows(_study.windows(n, channels)), torch.arange(n)
    taught = []
    with tempfile.TemporaryDirectory() as place:
        for k in range(n_teachers):
            live = _study.teacher("signal", seen, depth=16, width=1)
            live.name = f"t{k}"
            taught.append(remember(live, rows, 512, 2**33, Path(place), sp.Products)[0])
    return _study.epoch(_study.task(seen, taught, rows), _study.train(batch=batch))


def curve(name: str, values: tuple[int, ...], rounds: int) -> dict[int, float]:
    """Microseconds of one thread for each window of an epoch, by the value of one argument; the values take turns."""
    base = {"n": N, "channels": N_CHANNELS, "batch": BATCH, "n_teachers": 0}
    changed = [{**base, name: value} for value in values]
    calls = {str(one[name]): epoch(**one) for one in changed}
    seconds = _measure.turns(calls, rounds)
    return {one[name]: 1e6 * min(seconds[str(one[name])]) / one["n"] for one in changed}


def cache_mib(view: str, n: int) -> float:
    """What is kept of one WRN28-3 teacher for n windows [MiB]."""
    seen = _study.device_windows(_study.windows(4, N_CHANNELS))
    return layout(_study.teacher(view, seen), torch.zeros(n, dtype=torch.int64), True).n_bytes / 2**20


def draw(curves: dict[str, dict[int, float]], caches: dict[str, dict[int, float]]) -> None:
    figure = Figure((13, 3), layout="constrained")
    panels = figure.subplots(1, len(curves) + 1)
    for panel, (name, points) in zip(panels, curves.items(), strict=False):
        panel.plot(list(points), list(points.values()), "o-")
        panel.set(xlabel=name, ylim=(0, None), ylabel="CPU time a window [us]" if panel is panels[0] else "")
    for view, points in caches.items():
        panels[-1].plot(list(points), list(points.values()), "o-", label=view)
    panels[-1].set(xlabel="windows", ylabel="cache of one teacher [MiB]", xscale="log", yscale="log")
    panels[-1].legend()
    figure.savefig(_measure.ROOT / "docs" / "growth.png", dpi=110)


def main(words: list[str]) -> None:
    rounds = int(words[0]) if words else 5
    _study.fair()
    curves = {
        "windows": curve("n", WINDOWS, rounds), "channels": curve("channels", CHANNELS, rounds),
        "batch": curve("batch", BATCHES, rounds), "remembered teachers": curve("n_teachers", TEACHERS, rounds),
    }  # fmt: skip
    caches = {view: {n: cache_mib(view, n) for n in CACHE} for view in ("signal", "gaf")}
    draw(curves, caches)
    print(curves, caches)
    rows = []
    for name, points in curves.items():
        (least, low), (most, high) = min(points.items()), max(points.items())
        seconds = {"most": [high], "least": [low]}
        row = _measure.dearer(f"CPU time a window, {most} {name}", f"{least} {name}", seconds, "most", "least", 0)
        rows.append({**row, "target": "-", "met": None})
    _measure.keep("growth", rows, ("torch", "numpy"), "Curves: docs/growth.png.")


if __name__ == "__main__":
    main(sys.argv[1:])
