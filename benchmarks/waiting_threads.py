"""A small student's epoch by all cores, whose threads wait awake for some microseconds, as every command has it.

Beside threads that sleep at once (OMP_WAIT_POLICY=PASSIVE), and beside the library's own way where nothing else runs
(beside other work it may take minutes). Wall clock, WRN16-1, 2048 windows, batch 128. How threads wait is fixed for a
process's life, so each side is a process of its own, and they take turns.

    python benchmarks/waiting_threads.py [rounds]
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import _measure
import _study
import torch

from spkd import __main__, seeding

N, BATCH, EPOCHS = 2048, 128, 3
WAYS = {"ours": {"GOMP_SPINCOUNT": __main__.SPINS}, "asleep": {"OMP_WAIT_POLICY": "PASSIVE"}, "own": {}}
SIDES = {"idle": ("ours", "asleep", "own"), "busy": ("ours", "asleep")}


def child() -> float:
    """Seconds of an epoch, the median of EPOCHS after a first one."""
    seeding.set_flags(deterministic=True, tf32=False, threads=0)
    seen = _study.device_windows(_study.windows(N))
    epoch = _study.epoch(_study.task(seen, [], torch.arange(N)), _study.train(batch=BATCH))
    epoch()
    return sorted(_measure.turns({"epoch": epoch}, EPOCHS, time.perf_counter)["epoch"])[EPOCHS // 2]


@contextlib.contextmanager
def machine(state: str) -> Iterator[None]:
    """Idle, or busy with one other process a core."""
    n_others = (os.cpu_count() or 1) if state == "busy" else 0
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n_others)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main(words: list[str]) -> None:
    if words[:1] == ["--child"]:
        print(json.dumps(child()))
        return
    plain = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")}
    seconds: dict[str, dict[str, list[float]]] = {state: {side: [] for side in SIDES[state]} for state in SIDES}
    for _ in range(int(words[0]) if words else 5):
        for state, sides in SIDES.items():
            with machine(state):
                for side in sides:
                    command = [sys.executable, __file__, "--child"]
                    env = {**plain, **WAYS[side]}
                    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env)
                    seconds[state][side].append(json.loads(done.stdout.splitlines()[-1]))
                    print(state, side, seconds[state][side][-1], flush=True)
    what, asleep = "student's epoch, threads that wait awake for microseconds", "threads asleep at once"
    rows = [
        _measure.dearer(what, asleep, seconds["idle"], "ours", "asleep", 1),
        _measure.dearer(what, "the library's own, awake for a millisecond", seconds["idle"], "ours", "own", 1.1),
        _measure.dearer(f"{what}, beside a busy process a core", asleep, seconds["busy"], "ours", "asleep", 1),
    ]
    _measure.keep("waiting_threads", rows, ("torch",), f"wall clock, {os.cpu_count()} threads")


if __name__ == "__main__":
    main(sys.argv[1:])
