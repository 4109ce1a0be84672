"""Brings two feature maps to one spatial size by averaging, whether they are signals (1D) or images (2D). Pure.

Means over bins are matrix products: the gradient of torch's adaptive pooling does not repeat bit for bit on a GPU.
"""

from functools import cache

import torch
from torch import Tensor


def aligned(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps averaged to the smaller size along every spatial axis.

    student: (b, C, *space), teacher: (b, D, *space) of the same b; features without space, (b, C), count as one place,
    and an image of height 1 as the signal that it is.
    A signal against an image: the image is flattened row by row first, so that a Gramian field keeps its rows, which
    are moments of the window, in the order of time. The bins are those of torch's adaptive average pooling.
    Raises ValueError if b differs.
    """
    if len(student) != len(teacher):
        raise ValueError(f"student and teacher must see the same inputs, got {len(student)} and {len(teacher)}")
    student, teacher = (f.flatten(2) if f.dim() == 4 and f.shape[2] == 1 else f for f in (student, teacher))
    if student.dim() != teacher.dim():
        student, teacher = student.reshape(*student.shape[:2], -1), teacher.reshape(*teacher.shape[:2], -1)
    for axis in range(2, student.dim()):
        size = min(student.shape[axis], teacher.shape[axis])
        student, teacher = averaged(student, axis, size), averaged(teacher, axis, size)
    return student, teacher


def averaged(features: Tensor, axis: int, size: int) -> Tensor:
    """Means over `size` bins of one axis; bin i covers floor(i n / size) to ceil((i + 1) n / size) of its n places."""
    n = features.shape[axis]
    if n == size:
        return features
    return (features.transpose(axis, -1) @ _bins(n, size, features.dtype, features.device)).transpose(axis, -1)


@cache
def _bins(n: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(n, size): column i averages the places of bin i."""
    bins = torch.zeros(n, size, dtype=dtype)
    for i in range(size):
        start, stop = i * n // size, -(-(i + 1) * n // size)
        bins[start:stop, i] = 1 / (stop - start)
    return bins.to(device)


def pooled(features: Tensor) -> Tensor:
    """(b, C): the mean over all places of (b, C, *space); (b, C) stays as it is."""
    return features if features.dim() == 2 else features.flatten(2).mean(dim=2)
