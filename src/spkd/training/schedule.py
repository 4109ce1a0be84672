"""What happens in which epoch, its learning rate above all: pure functions, so that a resumed run needs no memory."""

import math

from spkd.errors import SpkdError

# The published steps: 0.05, 0.01, 0.001, 0.0001 from epochs 0, 11, 66, 133 of 200.
PAPER_EPOCHS = 200
PAPER_FIRST_EPOCHS = (0, 11, 66, 133)
# Where each step lies between lr and lr_final on a logarithmic scale: 0.01 = 0.05 / 5 and so on, of a total of 500.
PAPER_EXPONENTS = (0.0, math.log(5) / math.log(500), math.log(50) / math.log(500), 1.0)


def learning_rate(epoch: int, epochs: int, lr: float, lr_final: float, schedule: str) -> float:
    """The learning rate of one epoch: lr in the first one, falling to lr_final.

    epoch: counts from 0 to epochs - 1. lr, lr_final: first and last rate, both > 0.
    schedule `paper`: four steps whose boundaries scale with `epochs` and whose rates are lr (lr_final / lr)^p with the
    published p, hence exactly 0.05, 0.01, 0.001, 0.0001 for 0.05 -> 0.0001. `cosine`: half a cosine wave, per epoch.
    Raises SpkdError on an unknown schedule or an epoch outside the run.
    """
    if not 0 <= epoch < epochs:
        raise SpkdError("learning_rate", f"an epoch from 0 to {epochs - 1}", epoch, "correct the caller")
    if schedule == "paper":
        step = sum(epoch * PAPER_EPOCHS >= first * epochs for first in PAPER_FIRST_EPOCHS) - 1
        # Twelve digits: 0.05 * 500 ** -p misses 0.01 by one bit otherwise, and the published number is 0.01.
        return float(f"{lr * (lr_final / lr) ** PAPER_EXPONENTS[step]:.12g}")
    if schedule == "cosine":
        if epochs == 1:
            return lr
        return lr_final + (lr - lr_final) * (1 + math.cos(math.pi * epoch / (epochs - 1))) / 2
    raise SpkdError("train.schedule", "paper or cosine", repr(schedule), "choose one of them")


def early_epoch(share: float, epochs: int) -> int | None:
    """The epoch, counted from 1, after which a teacher keeps its early-stopped weights; None = never.

    share: of all epochs, 0 to 1.
    """
    return max(1, round(share * epochs)) if share > 0 else None
