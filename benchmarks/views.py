"""GAF against pyts, persistence diagrams and images against gudhi: the same windows, CPU seconds on one thread.

GAF by wall clock, too, with all cores, as a run has them; pyts uses one.

The peers' own batch calls: pyts' GramianAngularField.fit_transform of all channels at once (numba compiled before), and
gudhi as its users call it, one series at a time, then PersistenceImage of all diagrams.

    python benchmarks/views.py [repeats]
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import _measure
import _study
import numpy as np
import torch
from gudhi import CubicalComplex
from gudhi.representations import PersistenceImage
from pyts.image import GramianAngularField

from spkd import __main__, config, seeding
from spkd.views import gaf, persistence

WINDOWS, SIZE = 64, 64
LOT = 6  # images of a forward pass: remembered.fastest_batch of 40 channels of 64x64
ROUNDS = 7  # of which a process gives the middle one
PACKAGES = ("torch", "numpy", "pyts", "numba", "gudhi", "scikit-learn")


def gramian(side: str) -> dict[str, float]:
    """Seconds of 40 channels, 64x64, {name: seconds}. Ours: all windows in one call; and LOT at a time, as a teacher
    draws and forgets them. pyts: all in one call, and window by window. The bound: nothing but writing the images.
    "cores": ours by wall clock.
    """
    seen = _study.device_windows(_study.windows(4 * WINDOWS))
    x = seen.batch(torch.arange(WINDOWS)).contiguous()
    if side == "cores":
        seeding.set_flags(deterministic=True, tf32=False, threads=0)
        return _medians({"cores": lambda: gaf.render(x, SIZE)}, time.perf_counter)
    if side == "ours":
        _study.fair()
        return _medians({
            "ours": lambda: gaf.render(x, SIZE),
            "drawn": lambda: [None for part in torch.split(x, LOT) if gaf.render(part, SIZE) is None],
            "writing": lambda: torch.empty(WINDOWS, x.shape[1], SIZE, SIZE).fill_(1.0),
        })  # fmt: skip
    torch.set_num_threads(1)
    flat, field = x.reshape(-1, x.shape[-1]).numpy(), GramianAngularField(image_size=SIZE, method="summation")
    each = np.split(flat, WINDOWS)
    calls = {
        "pyts": lambda: field.fit_transform(flat),
        "pyts each": lambda: [field.fit_transform(window) for window in each],
    }  # fmt: skip
    return {**_medians(calls), **{f"{name}, wall": s for name, s in _medians(calls, time.perf_counter).items()}}


def _medians(
    calls: dict[str, Callable[[], object]], clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    return {name: statistics.median(taken) for name, taken in _measure.turns(calls, ROUNDS, clock).items()}


def fields(repeats: int) -> list[dict]:
    """Gramian fields, a process for each side, which take turns: ours keeps freed memory, as a run of ours does."""
    seconds: dict[str, list[float]] = {}
    for _ in range(repeats):
        for side in ("ours", "cores", "pyts"):
            words = [sys.executable, __file__, "--child", side]
            env = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")} | {"GOMP_SPINCOUNT": __main__.SPINS}
            done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env=env)
            for name, taken in json.loads(done.stdout.splitlines()[-1]).items():
                seconds.setdefault(name, []).append(taken)
    what = "GAF, 40 channels, 64x64"
    return [
        _measure.faster(what, "pyts, one call", seconds, "ours", "pyts", 20),
        _measure.faster(what, "pyts, a window at a time", seconds, "ours", "pyts each", 20),
        _measure.faster(f"{what}, wall clock, all cores", "pyts, one call", seconds, "cores", "pyts, wall", 20),
        _measure.faster(
            f"{what}, wall clock, all cores", "pyts, a window at a time", seconds, "cores", "pyts each, wall", 20
        ),
        _measure.faster(f"{what}, {LOT} at a time", "pyts, one call", seconds, "drawn", "pyts", 20),
        _measure.faster(f"{what}, {LOT} at a time", "pyts, a window at a time", seconds, "drawn", "pyts each", 20),
        _measure.faster(f"{what}: writing images alone, the bound", "pyts, one call", seconds, "writing", "pyts", 20),
    ]


def images(repeats: int) -> dict:
    """Diagrams and images of all channels of the same windows."""
    whole = _study.windows(WINDOWS)
    settings = config.part("views", "persistence", _study.PARAMS)
    series = persistence.scaled(whole.windows(np.arange(WINDOWS)).reshape(-1, whole.length))
    x, rows = torch.zeros(WINDOWS, len(whole.channels), whole.length), torch.arange(WINDOWS)
    drawn = PersistenceImage(
        bandwidth=settings.spread, resolution=[SIZE, SIZE], im_range=[settings.low, settings.high] * 2
    )

    def ours() -> None:
        stored = {name: torch.from_numpy(a) for name, a in persistence.prepare(whole, settings).items()}
        persistence.view(settings, stored)(x, rows)

    def peer() -> None:
        found = []
        for one in series:
            pairs = CubicalComplex(vertices=one)
            pairs.compute_persistence()
            points = pairs.persistence_intervals_in_dimension(0)
            found.append(points[np.isfinite(points[:, 1]) & (points[:, 1] - points[:, 0] > settings.min_lifetime)])
        drawn.fit_transform(found)

    seconds = _measure.turns({"ours": ours, "gudhi": peer}, repeats)
    return _measure.faster("persistence diagrams and images", "gudhi", seconds, "ours", "gudhi", 50)


def main(words: list[str]) -> None:
    if words[:1] == ["--child"]:
        print(json.dumps(gramian(words[1])))
        return
    repeats = int(words[0]) if words else 5
    _study.fair()
    rows = [*fields(repeats), images(repeats)]
    _measure.keep("views", rows, PACKAGES, f"{WINDOWS} windows of 40 x 100")


if __name__ == "__main__":
    main(sys.argv[1:])
