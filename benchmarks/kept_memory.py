"""An image student's epoch with freed memory kept, as every run has it, beside the C library's own way: CPU seconds.

WRN16-1 on the 64x64 Gramian field of 40 channels, batch 128. What the library does is fixed for a process's life, so
each side is a process of its own, and they take turns.

    python benchmarks/kept_memory.py [rounds]
"""

import json
import resource
import subprocess
import sys
from dataclasses import replace

import _measure
import _study
import torch

from spkd import memory

N, BATCH, EPOCHS = 256, 128, 3
SIDES = ("kept", "given back")


def child(side: str) -> dict[str, float]:
    """Seconds of an epoch, the median of EPOCHS after a first one; pages asked for in the last; peak memory in GB."""
    if side == "given back":
        memory.keep = lambda: False
    _study.fair()
    seen, rows = _study.device_windows(_study.windows(N)), torch.arange(N)
    render, dims = _study.view("gaf", seen)
    task = replace(_study.task(seen, [], rows), network=_study.network(16, 1, dims), render=render)
    epoch = _study.epoch(task, _study.train(batch=BATCH))
    seconds = sorted(_measure.turns({"epoch": epoch}, EPOCHS)["epoch"])[EPOCHS // 2]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    epoch()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {"seconds": seconds, "pages": after.ru_minflt - before, "peak_gb": after.ru_maxrss * 1024 / 1e9}


def main(words: list[str]) -> None:
    if words[:1] == ["--child"]:
        print(json.dumps(child(words[1])))
        return
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for _ in range(int(words[0]) if words else 5):
        for side in SIDES:
            done = subprocess.run(
                [sys.executable, __file__, "--child", side], check=True, stdout=subprocess.PIPE, text=True
            )
            found[side].append(json.loads(done.stdout.splitlines()[-1]))
            print(side, found[side][-1], flush=True)
    seconds, peaks = (
        {side: [one[of] for one in all_] for side, all_ in found.items()} for of in ("seconds", "peak_gb")
    )
    what = "image student's epoch, freed memory kept"
    rows = [
        _measure.dearer(what, "memory given back to the system", seconds, *SIDES, 1),
        {**_measure.dearer(f"{what}, peak memory", "memory given back", peaks, *SIDES, 1), "target": "-", "met": None},
    ]
    pages = {side: round(sorted(one["pages"] for one in all_)[len(all_) // 2]) for side, all_ in found.items()}
    _measure.keep("kept_memory", rows, ("torch",), f"pages asked for in an epoch of {N // BATCH} steps: {pages}")


if __name__ == "__main__":
    main(sys.argv[1:])
