"""CAMKD: for each window, a teacher that is nearer to the true label has more to say.

Source: Zhang, Chen & Wang, "Confidence-Aware Multi-Teacher Knowledge Distillation" (CA-MKD), ICASSP 2022 (arXiv
2201.00007), weights of the predictions; its weighted loss of intermediate features is not part of it. Pure function.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from spkd.config import Section

MIXES = "losses"


class Settings(Section):
    """Nothing to set."""


def camkd(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """(n_teachers, b) weights w_k = (1 - softmax_k(CE_k)) / (n_teachers - 1), which sum to 1 over the teachers.

    CE_k: cross entropy of teacher k with the window's label, in at least float32. logits: (b, n_classes) of each
    teacher. labels: (b,) int64. A single teacher has weight 1. The authors' code divides by n_teachers once more.
    """
    dtype = torch.promote_types(logits[0].dtype, torch.float32)
    costs = torch.stack([functional.cross_entropy(known.to(dtype), labels, reduction="none") for known in logits])
    if len(costs) == 1:
        return torch.ones_like(costs)
    return (1 - costs.softmax(dim=0)) / (len(costs) - 1)
