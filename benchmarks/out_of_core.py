"""A student's step on what stays in its file, against the same in memory: windows, many times PAMAP2's, and answers.

The file holds `times` copies of PAMAP2's number of training windows (22,512 of 40 channels x 100 samples, step 22): the
signal is one random walk repeated. Steps are taken on windows drawn at random from the whole file. Wall clock, all
cores; memory is what the process has for itself: pages of the mapped file are the system's, which may take them back.
The answers are a WRN28-3 signal teacher's features for PAMAP2's training windows, spilled to disk and not.

    python benchmarks/out_of_core.py [times] [steps]
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import _measure
import _study
import numpy as np
import torch

from spkd.data import scaling
from spkd.data.batches import DeviceWindows
from spkd.data.windowset import WindowSet
from spkd.losses import sp
from spkd.training.remembered import remember
from spkd.training.teachers import Teacher

WINDOWS, STEP, LENGTH, BATCH = _study.PAMAP2_TRAINING, 22, 100, 128


def on_disk(folder: Path, times: int) -> WindowSet:
    """The windows, mapped from a file of that many times PAMAP2."""
    one = _study.windows(WINDOWS)
    samples = one.signal.shape[1]
    signal = np.lib.format.open_memmap(folder / "signal.npy", "w+", np.float32, (len(one.signal), samples * times))
    for copy in range(times):
        signal[:, copy * samples : (copy + 1) * samples] = one.signal
    signal.flush()
    del signal
    starts = np.concatenate([one.starts + copy * samples for copy in range(times)])
    manifest = {**one.manifest, "n_windows": len(starts)}
    mapped = np.load(folder / "signal.npy", mmap_mode="r")
    return WindowSet(mapped, starts, np.tile(one.label, times), np.zeros(len(starts), np.int16), manifest)


def own_gib() -> float:
    """Memory that belongs to this process alone [GiB]."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("RssAnon"))
    return int(line.split()[1]) / 2**20


def main(words: list[str]) -> None:
    times, steps = int(words[0]) if words else 100, int(words[1]) if len(words) > 1 else 40
    _study.fair()
    torch.set_num_threads(2)
    small = _study.windows(WINDOWS)
    statistics = scaling.measure(small, np.arange(len(small)), "training")
    settings = _study.train(batch=BATCH)
    with tempfile.TemporaryDirectory() as place:
        large = on_disk(Path(place), times)
        gib = large.signal.nbytes / 2**30
        before = own_gib()
        mapped = DeviceWindows(large, statistics, "cpu", memory_bytes=0)
        in_memory = DeviceWindows(small, statistics, "cpu")
        rng = torch.Generator().manual_seed(0)
        calls = {
            "mapped": _steps(mapped, settings, steps, rng), "in memory": _steps(in_memory, settings, steps, rng),
        }  # fmt: skip
        seconds = _measure.turns(calls, 3, time.perf_counter)
        grown = own_gib() - before
    what = f"{steps} steps on windows of a file of {gib:.1f} GiB ({times} times PAMAP2), wall clock"
    rows = [_measure.dearer(what, "the same steps on PAMAP2 in memory", seconds, "mapped", "in memory", 2)]
    memory = {"a": [grown], "b": [gib]}
    rows.append(_measure.dearer(f"own memory, {grown:.2f} GiB", f"the file, {gib:.1f} GiB", memory, "a", "b", 0.5))
    rows += spilled(in_memory, settings, steps)
    _measure.keep("out_of_core", rows, ("torch", "numpy"), "Written just before: partly in the page cache.")


def spilled(seen: DeviceWindows, settings, steps: int) -> list[dict]:
    """Steps of a student of one teacher whose answers are mapped from a file, beside such as are held."""
    every, rng = torch.arange(len(seen)), torch.Generator().manual_seed(0)
    with tempfile.TemporaryDirectory() as place:
        teachers = {}
        for name, memory in (("mapped", 0), ("in memory", 8 * 2**30)):
            made = _study.teacher("signal", seen)
            teachers[name], how = remember(made, every, 512, memory, Path(place) / name, sp.Products)
            print(f"signal teacher answers {how}", flush=True)
        calls = {name: _steps(seen, settings, steps, rng, [teacher]) for name, teacher in teachers.items()}
        seconds = _measure.turns(calls, 3, time.perf_counter)
    what = f"{steps} steps on a teacher's answers ({how.split(': ')[1].split(' in')[0]}) mapped from a file, wall clock"
    return [_measure.dearer(what, "the same answers in memory", seconds, "mapped", "in memory", 2)]


def _steps(seen: DeviceWindows, settings, steps: int, rng: torch.Generator, teachers: Sequence[Teacher] = ()):
    """A function that trains a student for some steps on rows drawn anew each time."""
    rows = torch.arange(len(seen))

    def run() -> None:
        drawn = rows[torch.randint(len(rows), (steps * BATCH,), generator=rng)]
        _study.epoch(_study.task(seen, list(teachers), drawn), settings)()

    return run


if __name__ == "__main__":
    main(sys.argv[1:])
