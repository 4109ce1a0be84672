"""Six small students on one machine: one after the other with all threads or one, and in two processes.

WRN16-1 on 512 windows each, of its own seed and subjects, from the first step to the last evaluation, checkpoints
included. Wall clock; the start of the two processes (one thread each) is not counted, as a table starts them once.
Beside them the loop that people write, one after the other, with all threads: plain layers and a DataLoader, neither
evaluation nor checkpoints.

    python benchmarks/side_by_side.py [repeats] [epochs]
"""

import functools
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _measure
import _study
import torch
from distillation import usual_loop

from spkd import executor, seeding
from spkd.data.batches import DeviceWindows
from spkd.training import loop
from spkd.training.loop import Run

STUDENTS, WINDOWS, WORKERS = 6, 512, 2
CORES = os.cpu_count() or 1


@functools.cache
def seen() -> DeviceWindows:
    """The windows of all students, made once in every process."""
    return _study.device_windows(_study.windows(WINDOWS * 4 // 3))


def run(k: int, folder: Path) -> Run:
    """The k-th student, fresh: three quarters of the windows, another quarter left out every time."""
    every = torch.arange(len(seen()))
    task = _study.task(seen(), [], every[seen().subject != k % 4])
    task.network.load_state_dict(_study.network(16, 1, 1, seed=k).state_dict())
    return Run(task, k, folder / f"{k}", "key", lambda state: None)


def train(job: dict[str, Any]) -> str:
    """One student alone, on one thread: a job of a worker."""
    seeding.set_flags(deterministic=True, tf32=False, threads=1)
    alone(run(job["k"], Path(job["folder"])), job["epochs"])
    return ""


def alone(one: Run, epochs: int) -> None:
    settings = _study.train(epochs=epochs, batch=128)
    loop.fit(one.task, settings, one.seed, one.path, one.key, one.on_epoch)


def sides(workers: executor.Executor, epochs: int, folder: Path) -> dict[str, Any]:
    """The ways, each from fresh students and without checkpoints of earlier rounds."""

    def fresh() -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def one_after_the_other(threads: int) -> None:
        place = fresh()
        torch.set_num_threads(threads)
        for k in range(STUDENTS):
            alone(run(k, place), epochs)

    def usual() -> None:
        torch.set_num_threads(CORES)
        for k in range(STUDENTS):
            epoch = usual_loop(seen(), run(k, folder).task.train)
            for _ in range(epochs):
                epoch()

    def processes() -> None:
        place, waiting, ended = fresh(), list(range(STUDENTS)), 0
        while ended < STUDENTS:
            while waiting and workers.free():
                workers.submit(str(waiting[0]), {"k": waiting.pop(0), "folder": str(place), "epochs": epochs})
            for outcome in workers.collect(60):
                assert outcome.ended == "done", outcome.text
                ended += 1

    return {
        "one after the other": lambda: one_after_the_other(CORES), "one thread": lambda: one_after_the_other(1),
        "usual": usual, "processes": processes,
    }  # fmt: skip


def main(words: list[str]) -> None:
    repeats, epochs = (int(word) for word in (*words, *("3", "15")[len(words) :]))
    seeding.set_flags(deterministic=True, tf32=False, threads=0)
    with tempfile.TemporaryDirectory() as place, executor.opened("local", train, WORKERS, 0.0) as workers:
        seconds = _measure.turns(sides(workers, epochs, Path(place) / "runs"), repeats, time.perf_counter)
    peer = f"one after the other, {CORES} threads"
    what = f"6 students in {WORKERS} processes of 1 thread (wall clock)"
    written = f"DataLoader and plain layers, one after the other, {CORES} threads"
    single = "one after the other, 1 thread each, as a table's cells are"
    rows = [
        _measure.faster(what, peer, seconds, "processes", "one after the other", 1.6),
        _measure.faster(what, written, seconds, "processes", "usual", 1.6),
        _measure.faster(what, single, seconds, "processes", "one thread", 1.6),
    ]
    notes = f"wall clock, {epochs} epochs; processes were started beforehand"
    _measure.keep("side_by_side", rows, ("torch",), notes)


if __name__ == "__main__":
    main(sys.argv[1:])
