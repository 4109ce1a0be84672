"""AVER: one teacher made of all, by the mean of their logits.

Source: the average ensemble of multi-teacher distillation, You et al., "Learning from Multiple Teacher Networks", KDD
2017, on logits as the study does. The mean of the KD losses instead is `fixed` with equal alphas. Pure function.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from spkd.config import Section

MIXES = "logits"


class Settings(Section):
    """Nothing to set."""


def aver(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """(n_teachers, b) weights, all 1 / n_teachers. logits: (b, n_classes) of each teacher. labels: unused."""
    return torch.full((len(logits), len(logits[0])), 1 / len(logits), dtype=logits[0].dtype, device=logits[0].device)
