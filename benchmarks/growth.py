"""How the cost of a student's epoch grows: over windows, channels, batch size and remembered teachers; and its memory.

CPU seconds of one thread for each training window: of one epoch of WRN16-1, alone or of WRN16-1 signal teachers whose
answers are remembered, and of filling the cache with a WRN28-3 signal teacher's answers. Memory is the most that a
process of its own held while it read the windows from their files, filled the cache and trained one epoch. The cache's
bytes are those of its plan, for teachers of WRN28-3 on 40 channels. Every point stands beside the first of its curve;
the table shows the last of each, docs/growth-<processor>.png all.

    python benchmarks/growth.py [rounds]
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import _measure
import _study
import torch
from matplotlib.figure import Figure

from spkd.data import windowset
from spkd.data.batches import DeviceWindows
from spkd.losses import sp
from spkd.training.remembered import layout, remember

WINDOWS, CHANNELS = (512, 1024, 2048, 4096), (5, 10, 20, 40, 80)
BATCHES, TEACHERS = (32, 64, 128, 256, 512), (0, 1, 2, 3)
N, BATCH, N_CHANNELS, ROUNDS = 1024, 128, 40, 9
FILLED, FILLINGS = (256, 1024, 4096, 8192), 3
HELD, PROCESSES = (1024, 2048, 4096, 8192), 2
CACHE = (256, 1024, 4096, 16_384, 65_536)
PICTURE = f"docs/growth-{_measure.slug(str(_measure.machine()['cpu']))}.png"
SIDES = {0: "without a teacher", 1: "of one teacher"}

Points = dict[int, list[float]]
"""What every round took, by the argument that a curve is over."""


@dataclass(frozen=True)
class Curve:
    """One line of the figure; those of the same `what` and `over` share a panel. summed: worked out, not measured."""

    what: str
    unit: str
    over: str
    points: Points
    side: str = ""
    summed: bool = False

    @property
    def axes(self) -> tuple[str, str, str]:
        return self.over, self.what, self.unit

    def rows(self) -> list[dict]:
        """A row for every point after the first, beside the first; the table shows the last."""
        what = f"{self.what}, {self.side}" if self.side else self.what
        (first, least), *others = self.points.items()
        made = []
        for value, taken in others:
            made.append({
                "what": f"{what}, {value} {self.over}, cost beside", "peer": f"{first} {self.over}",
                "ratio": _measure.ratio(taken, least), "target": "-", "met": None,
                "shown": value == others[-1][0] and not self.summed,
                "amounts": {"ours": taken, "first": least, "unit": self.unit},
            })  # fmt: skip
        return made


def epoch(seen: DeviceWindows, batch: int, n_teachers: int) -> Callable[[], None]:
    """A function that trains one more epoch of a student on all windows."""
    rows, taught = torch.arange(len(seen)), []
    with tempfile.TemporaryDirectory() as place:
        for k in range(n_teachers):
            live = _study.teacher("signal", seen, depth=16, width=1)
            live.name = f"t{k}"
            taught.append(remember(live, rows, 512, 2**33, Path(place), sp.Products)[0])
    return _study.epoch(_study.task(seen, taught, rows), _study.train(batch=batch))


def epochs(name: str, values: tuple[int, ...], rounds: int, sides: Iterable[int] = (0,)) -> dict[int, Points]:
    """Microseconds of one thread for each window of an epoch, by teachers and one argument; all take turns."""
    calls, n = {}, {}
    for n_teachers in sides:
        for value in values:
            of = {"windows": N, "channels": N_CHANNELS, "batch": BATCH, "teachers": n_teachers, name: value}
            seen = _study.device_windows(_study.windows(of["windows"], of["channels"]))
            calls[n_teachers, value], n[n_teachers, value] = epoch(seen, of["batch"], of["teachers"]), len(seen)
    seconds = _measure.turns(calls, rounds)
    return {k: {value: [1e6 * s / n[k, value] for s in seconds[k, value]] for value in values} for k in sides}


def filling(values: tuple[int, ...], rounds: int) -> Points:
    """Microseconds of one thread for each window of filling the cache, by the number of windows."""
    calls = {}
    with tempfile.TemporaryDirectory() as place:
        for n in values:
            seen = _study.device_windows(_study.windows(n))
            live, rows = _study.teacher("signal", seen), torch.arange(n)
            calls[n] = lambda t=live, r=rows: remember(t, r, 512, 2**33, Path(place), sp.Products)
        return {n: [1e6 * s / n for s in taken] for n, taken in _measure.turns(calls, rounds).items()}


def memory(values: tuple[int, ...], rounds: int) -> dict[int, Points]:
    """GiB that a process held at most, by its teachers and windows."""
    found: dict[int, Points] = {n_teachers: {n: [] for n in values} for n_teachers in SIDES}
    with tempfile.TemporaryDirectory() as place:
        for n in values:
            _study.windows(n).save(Path(place) / f"{n}")
        for _ in range(rounds):
            for n_teachers, held in found.items():
                for n in values:
                    words = [sys.executable, __file__, "--child", f"{place}/{n}", f"{n_teachers}"]
                    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
                    held[n].append(json.loads(done.stdout.splitlines()[-1]))
    return found


def child(folder: Path, n_teachers: int) -> float:
    """GiB that this process has held at most after an epoch on the windows of a folder.

    Not as getrusage says, which counts what the process that started this one had held.
    """
    _study.fair()
    epoch(_study.device_windows(windowset.load(folder)), BATCH, n_teachers)()
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


def cache_mib(view: str, n: int) -> float:
    """What is kept of one WRN28-3 teacher for n windows [MiB]."""
    teacher = _study.teacher(view, _study.device_windows(_study.windows(4, N_CHANNELS)))
    return layout(teacher(torch.arange(1)), n, True).n_bytes / 2**20


def draw(curves: list[Curve]) -> None:
    """The processor's picture: medians; what is summed goes over powers."""
    figure = Figure((13, 6), layout="constrained")
    places = list(figure.subplots(2, 4).flat)
    for axes, lines in groupby(curves, key=lambda one: one.axes):
        over, what, unit = axes
        place = places.pop(0)
        for one in lines:
            medians = [statistics.median(taken) for taken in one.points.values()]
            place.plot(list(one.points), medians, "o-", label=one.side)
        place.set(xlabel=over, ylabel=f"{what} [{unit}]")
        place.set(xscale="log", yscale="log") if one.summed else place.set(ylim=(0, 1.1 * place.get_ylim()[1]))
        if one.side:
            place.legend()
    for place in places:
        place.remove()
    figure.savefig(_measure.ROOT / PICTURE, dpi=110)


def measured(rounds: int) -> list[Curve]:
    """All curves, in the order of the panels."""
    time, fill, most = "CPU time a window", "CPU time a window of filling", "most memory of a training"
    windows = epochs("windows", WINDOWS, rounds, SIDES)
    held = memory(HELD, min(rounds, PROCESSES))
    caches = {view: {n: [cache_mib(view, n)] for n in CACHE} for view in ("signal", "gaf")}
    return [
        *(Curve(time, "us", "windows", windows[k], side) for k, side in SIDES.items()),
        Curve(time, "us", "channels", epochs("channels", CHANNELS, rounds)[0]),
        Curve(time, "us", "windows a batch", epochs("batch", BATCHES, rounds)[0]),
        Curve(time, "us", "remembered teachers", epochs("teachers", TEACHERS, rounds)[0]),
        Curve(fill, "us", "windows", filling(FILLED, min(rounds, FILLINGS)), "signal teacher"),
        *(Curve(most, "GiB", "windows", held[k], side) for k, side in SIDES.items()),
        *(Curve("cache of one teacher", "MiB", "windows", found, view, True) for view, found in caches.items()),
    ]


def main(words: list[str]) -> None:
    if words[:1] == ["--child"]:
        print(json.dumps(child(Path(words[1]), int(words[2]))))
        return
    _study.fair()
    curves = measured(int(words[0]) if words else ROUNDS)
    draw(curves)
    rows = [row for one in curves for row in one.rows()]
    _measure.keep("growth", rows, ("torch", "numpy"), f"Curves: {PICTURE}.")


if __name__ == "__main__":
    main(sys.argv[1:])
