"""What a killed training left below its folder: whether it is over, and what a continuation must not count twice.

Contract: asked by the process that starts the training, before any worker or follower reads the folder.
"""

from pathlib import Path

import torch
from ultralytics.utils.torch_utils import EarlyStopping


def is_over(last: Path) -> bool:
    """Whether the training that wrote this last.pt has no epoch left: all are there, or patience ended it.

    ultralytics refuses to go on from the first, and would train another epoch after the second. last: a checkpoint of
    this run (a pickle, as ultralytics writes them).
    """
    content = torch.load(last, map_location="cpu", weights_only=False)
    epochs, given = content["epoch"] + 1, content["train_args"]
    stopper = EarlyStopping(patience=given["patience"])
    vars(stopper).update(content["stopper"])
    return bool(epochs >= given["epochs"] or stopper(epochs, content["train_metrics"]["fitness"]))


def settle(weights: Path) -> None:
    """Give last.pt its name where a kill came after best.pt had got its own: both were whole by then."""
    best, last, part = (weights / name for name in ("best.pt", "last.pt", "last.part"))
    if best.is_file() and last.is_file() and part.is_file() and _epoch(best) > _epoch(last):
        part.replace(last)


def _epoch(checkpoint: Path) -> int:
    return int(torch.load(checkpoint, map_location="cpu", weights_only=False)["epoch"])
