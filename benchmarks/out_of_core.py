"""A student's step on what stays in its file, against the same in memory: windows, many times PAMAP2's, and answers.

The file holds `times` copies of PAMAP2's number of training windows (22,512 of 40 channels x 100 samples, step 22): the
signal is one random walk repeated. Steps are taken on windows drawn at random from the whole file. Wall clock, all
cores; memory is what the process has for itself: pages of the file are the system's, which may take them back.
The answers are a WRN28-3 signal teacher's features for PAMAP2's training windows, spilled to disk and not.

The files were just written: a machine with much memory still holds them. Before the cold steps the system is told to
forget a file's pages, so that the disk is read.

    python benchmarks/out_of_core.py [times] [steps]
"""

import ctypes
import functools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
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
ROUNDS = 8
MADV_DONTNEED = 4


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
        started = time.perf_counter()
        from_file = DeviceWindows(large, statistics, "cpu", memory_bytes=0, folder=Path(place))
        writing = [time.perf_counter() - started]
        in_memory = DeviceWindows(small, statistics, "cpu")
        rng = torch.Generator().manual_seed(0)
        what = f"{steps} steps on windows of a file of {gib:.1f} GiB ({times} times PAMAP2)"
        rows = beside_memory(
            what, "the same steps on PAMAP2 in memory", _steps(from_file, settings, steps, rng),
            _steps(in_memory, settings, steps, rng), [Path(f"/proc/self/fd/{from_file._file.file}")],
        )  # fmt: skip
        grown = own_gib() - before
    memory = {"a": [grown], "b": [gib]}
    epoch = [seconds / steps * len(large) / BATCH for seconds in rows[0]["seconds"]["ours"][:1]]
    copy = f"writing the scaled signal, {gib:.1f} GiB, once a run, wall clock"
    worked_out = "an epoch of its windows, worked out from the first warm steps"
    rows.append(_measure.dearer(copy, worked_out, {"a": writing, "b": epoch}, "a", "b", 0.25))
    rows.append(_measure.dearer("own memory", f"the file, {gib:.1f} GiB", memory, "a", "b", 0.5))
    rows += spilled(in_memory, settings, steps)
    notes = "Files were written just before: warm ones are in the page cache as far as memory allows."
    _measure.keep("out_of_core", rows, ("torch", "numpy"), notes)


def beside_memory(
    what: str, peer: str, mapped: Callable[[], None], held: Callable[[], None], files: list[Path]
) -> list[dict]:
    """The rows of steps on mapped files, each beside the same in memory: all warm ones before a page is forgotten."""
    rows = []
    for side, before in (("warm", {}), ("cold", {"mapped": functools.partial(forget, files)})):
        seconds = _measure.turns({"mapped": mapped, "held": held}, ROUNDS, time.perf_counter, before)
        rows.append(_measure.dearer(f"{what}, {side}, wall clock", peer, seconds, "mapped", "held", 2))
    return rows


def forget(files: list[Path]) -> None:
    """Have the system drop the files' pages from memory: from this process's maps first, as mapped pages stay."""
    libc = ctypes.CDLL(None, use_errno=True)
    for line in Path("/proc/self/maps").read_text().splitlines():
        if any(line.endswith(f" {file.resolve()}") for file in files):
            first, last = (int(word, 16) for word in line.split()[0].split("-"))
            if libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), MADV_DONTNEED):
                raise OSError(ctypes.get_errno(), f"madvise of {line}")
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def spilled(seen: DeviceWindows, settings, steps: int) -> list[dict]:
    """Steps of a student of one teacher whose answers are mapped from a file, beside such as are held."""
    every, rng = torch.arange(len(seen)), torch.Generator().manual_seed(0)
    with tempfile.TemporaryDirectory() as place:
        teachers = {}
        for name, memory in (("mapped", 0), ("in memory", 8 * 2**30)):
            made = _study.teacher("signal", seen)
            teachers[name], how = remember(made, every, 512, memory, Path(place) / name, sp.Products)
            print(f"signal teacher answers {how}", flush=True)
        mapped, held = (_steps(seen, settings, steps, rng, [teacher]) for teacher in teachers.values())
        what = f"{steps} steps on a teacher's answers ({how.split(': ')[1].split(' in')[0]}) mapped from a file"
        return beside_memory(what, "the same answers in memory", mapped, held, list(Path(place).rglob("*.npy")))


def _steps(seen: DeviceWindows, settings, steps: int, rng: torch.Generator, teachers: Sequence[Teacher] = ()):
    """A function that trains a student for some steps on rows drawn anew each time."""
    rows = torch.arange(len(seen))

    def run() -> None:
        drawn = rows[torch.randint(len(rows), (steps * BATCH,), generator=rng)]
        _study.epoch(_study.task(seen, list(teachers), drawn), settings)()

    return run


if __name__ == "__main__":
    main(sys.argv[1:])
