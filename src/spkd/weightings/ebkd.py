"""EBKD: for each window, a teacher that is surer has more to say, right or wrong.

Source: Kwon et al., "Adaptive Knowledge Distillation Based on Entropy", ICASSP 2020, as the label-free baseline of
Zhang et al. (CA-MKD), ICASSP 2022, and its code: one minus the share of the entropy. Pure function.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from spkd.config import Section

MIXES = "losses"


class Settings(Section):
    """Nothing to set."""


def ebkd(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """(n_teachers, b) weights w_k = (1 - H_k / sum_j H_j) / (n_teachers - 1), which sum to 1 over the teachers.

    H_k: entropy of teacher k's softmax for the window, at temperature 1, in at least float32. logits: (b, n_classes) of
    each teacher. labels: unused. A single teacher has weight 1; teachers without any entropy have equal weights.
    The authors' code divides by n_teachers instead, so that lambda means less with every teacher.
    """
    entropies = torch.stack([entropy(known) for known in logits])
    n_teachers = len(entropies)
    if n_teachers == 1:
        return torch.ones_like(entropies)
    total = entropies.sum(dim=0)
    shares = torch.where(total > 0, entropies / total, 1 / n_teachers)
    return (1 - shares) / (n_teachers - 1)


def entropy(logits: Tensor) -> Tensor:
    """(b,) entropy of softmax(logits) in nats."""
    log_p = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)
