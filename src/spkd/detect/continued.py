"""What a killed training left below its folder: whether it is over, and what a continuation must not count twice.

Contract: asked by the process that starts the training, before any worker or follower reads the folder.
"""

import json
from pathlib import Path
from typing import Any

import torch

from spkd import atomic

OVER = "spkd_detect_is_over"  # in the arguments of the checkpoint that a training stopped with


def checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint of this very run holds. Never for foreign files: it is a pickle, as ultralytics writes them."""
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)  # ultralytics loads it as well
    return content


def is_over(last: Path) -> bool:
    """Whether the training that wrote this last.pt stopped with it: all epochs, patience or detect.train.time.

    ultralytics would refuse to go on from the first, and train another epoch after the others.
    """
    return OVER in checkpoint(last)["train_args"]


def since_best(last: Path) -> int:
    """How many epochs patience had counted without a better one when this last.pt was written."""
    content = checkpoint(last)
    best = int(content["stopper"]["best_epoch"])  # 0: none was validated
    return int(content["epoch"]) + 1 - best if best else 0


def settle(weights: Path) -> None:
    """Give last.pt its name where a kill came after best.pt had got its own: both were whole by then."""
    best, last, part = (weights / name for name in ("best.pt", "last.pt", "last.part"))
    if best.is_file() and last.is_file() and part.is_file() and _epoch(best) > _epoch(last):
        part.replace(last)


def cut(folder: Path) -> int:
    """How many epochs a training goes on from, once its folder says nothing of later ones: they are trained again.

    Dropped: rows of results.csv, lines of epochs.jsonl (a kill may have torn the last one), and similarity maps.
    """
    done = _epoch(folder / "weights" / "last.pt") + 1
    table, lines = _whole_lines(folder / "results.csv"), _whole_lines(folder / "epochs.jsonl")
    columns = table[0].count(",")
    rows = [row for row in table[1:] if row.count(",") == columns and float(row.partition(",")[0]) <= done]
    atomic.write_text(folder / "results.csv", "".join([table[0], *rows]))
    known = [line for line in lines if _step(line) <= done]
    atomic.write_text(folder / "epochs.jsonl", "".join(known))
    for maps in (folder / "maps").glob("*.npz"):
        if int(maps.stem) > done:
            maps.unlink()
    return done


def _whole_lines(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]


def _step(line: str) -> float:
    """The epoch that a line of epochs.jsonl is of; infinite where an earlier kill tore it."""
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return float("inf")


def _epoch(path: Path) -> int:
    return int(checkpoint(path)["epoch"])
