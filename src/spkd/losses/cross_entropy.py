"""Cross entropy with the true labels: the part of the objective that needs no teacher. Pure function of tensors."""

from torch import Tensor
from torch.nn import functional

from spkd.config import Section

SEES = "labels"


class Settings(Section):
    """Nothing to set."""


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the batch of -log softmax(logits)[label], in nats (scalar).

    logits: (b, n_classes). labels: (b,) int64 class indices in [0, n_classes).
    """
    return functional.cross_entropy(logits, labels)
