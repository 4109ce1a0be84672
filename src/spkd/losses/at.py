"""Attention transfer: where the teacher's layers are active, the student's shall be. Pure function of tensors.

Source: Zagoruyko & Komodakis, "Paying More Attention to Attention", ICLR 2017 (arXiv 1612.03928), activation-based
attention with p = 2; the mean instead of the sum over the map, and beta = 1000, as in the authors' code.
"""

import torch
from torch import Tensor
from torch.nn import functional

from spkd.config import Section
from spkd.losses._space import aligned

SEES = "features"


class Settings(Section):
    """Nothing to set."""


def at(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared gap between the two attention maps of one layer (scalar), in at least float32.

    student: (b, C, *space), teacher: (b, D, *space) of the same b inputs; channels and space may differ.
    A = vec(mean over channels of F^2) / its L2 length, for each input; returns mean((A_s - A_t)^2) over b and places.
    Maps of different sizes are averaged to the smaller one first; an image against a signal is flattened row by row
    first (losses/_space.py): the published method has no rule for that, so this is the project's own.
    Raises ValueError if b differs.
    """
    dtype = torch.promote_types(student.dtype, torch.float32)
    own, known = aligned(student.to(dtype), teacher.detach().to(dtype))
    return (attention(own) - attention(known)).square().mean()


def attention(features: Tensor) -> Tensor:
    """(b, places) attention maps of length 1; an all-zero input gives a zero map. features: (b, C, *space)."""
    return functional.normalize(features.square().mean(dim=1).reshape(len(features), -1), dim=1)
