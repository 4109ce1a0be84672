"""Gramian angular summation field: how every moment of a window relates to every other, as an image per channel.

Computed on the device per batch and never stored. Agrees with `pyts.image.GramianAngularField(method="summation")`.
Source: Wang & Oates, IJCAI 2015.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from spkd.config import Section
from spkd.errors import SpkdError

DIMS = 2
# A channel whose range is smaller than this share of its largest value is constant: the rest is rounding.
CONSTANT = 1e-12


class Settings(Section):
    """The image."""

    size: Annotated[int, Field(ge=2)]


def render(x: Tensor, size: int) -> Tensor:
    """cos(phi_i + phi_j) per channel: (b, C, size, size), values in [-1, 1], of x's type.

    x: (b, C, T) with T >= size. Each channel of each window is averaged over `size` consecutive pieces, scaled to
    [-1, 1] by its own minimum and maximum, and phi = arccos of that. A constant channel lies at 0, in the middle
    (phi = 90 degrees), so its image is -1 everywhere; pyts gives NaN there. Scale and offset of x do not matter.
    Raises SpkdError where T < size.
    """
    if x.shape[-1] < size:
        raise SpkdError("views.gaf.size", f"at most {x.shape[-1]}, the window's length", size, "lower it")
    # cos(a + b) = cos a cos b - sin a sin b, no arccos.
    rows = torch.cat(polar(aggregate(x, size), x.dtype)).T.contiguous().view(-1, 2, size)
    images = _weighted_rows(rows) if x.device.type == "cpu" else _outer_products(rows)
    return images.view(*x.shape[:-1], size, size)


def aggregate(x: Tensor, size: int) -> Tensor:
    """Means of `size` consecutive pieces, (size, channels of all windows) float64, of x (..., T).

    Piece boundaries are floor(i T / size), so that every sample counts in one piece, as in pyts. float64, because
    polar() magnifies rounding near the extremes by its square root; it is small beside the images.
    """
    samples, starts = _pieces(x.shape[-1], size, x.device)
    by_time = x.movedim(-1, 0).reshape(x.shape[-1], -1).contiguous().to(torch.float64)
    return functional.embedding_bag(samples, by_time, starts, mode="mean")


def polar(pieces: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(cos phi, sin phi) of series scaled to [-1, 1] by their own extremes; a constant one lies at (0, 1).

    pieces: (size, ...), a series along the first dimension. dtype: of the results. sin is
    2 sqrt((high - v)(v - low)) / (high - low), which keeps its digits near the extremes, where sqrt(1 - cos^2) loses
    half of them.
    """
    low, high = pieces.amin(0, keepdim=True), pieces.amax(0, keepdim=True)
    extent = high - low
    constant = extent <= CONSTANT * torch.maximum(high.abs(), low.abs())
    scale = torch.where(constant, 0.0, 1 / extent)
    above, below = (pieces - low).mul_(scale), (high - pieces).mul_(scale)
    squared = torch.addcmul(constant.to(pieces.dtype), above, below, value=4)
    return (above - below).to(dtype), squared.to(dtype).sqrt_()


def _weighted_rows(rows: Tensor) -> Tensor:
    """(n, size, size) of (cos phi, sin phi), (n, 2, size): a CPU's way, which writes every image once.

    An image's row i is the row cos phi times cos phi_i and the row sin phi times -sin phi_i, added: a bag of two rows.
    """
    n, _, size = rows.shape
    weights = torch.stack((rows[:, 0], -rows[:, 1]), dim=-1).view(-1)
    numbers, starts = _bags(n, size)
    return functional.embedding_bag(numbers, rows.view(-1, size), starts, mode="sum", per_sample_weights=weights)


def _outer_products(rows: Tensor) -> Tensor:
    """The same element by element, a GPU's way, which TF32 cannot round."""
    cosine, sine = rows[:, 0], rows[:, 1]
    return (cosine.unsqueeze(-1) * cosine.unsqueeze(-2)).addcmul_(sine.unsqueeze(-1), sine.unsqueeze(-2), value=-1)


# Indices are kept from call to call: a copy to the GPU in every step would make the step wait.
@functools.lru_cache(maxsize=16)
def _pieces(n_samples: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The numbers of a window's samples, (n_samples,), and of each piece's first, (size,)."""
    starts = np.linspace(0, n_samples, size + 1).astype(np.int64)[:-1]
    return torch.arange(n_samples, device=device), torch.from_numpy(starts).to(device)


@functools.lru_cache(maxsize=8)
def _bags(n: int, size: int) -> tuple[Tensor, Tensor]:
    """Of n images' rows, (2 n size,) int32, the numbers of the two that each is made of; where each one's begin."""
    pairs = torch.arange(2 * n, dtype=torch.int32).view(n, 1, 2).expand(n, size, 2)
    return pairs.reshape(-1), torch.arange(0, 2 * n * size, 2, dtype=torch.int32)


def view(settings: Settings, stored: Mapping[str, Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of (x (b, C, T), rows (b,)) that gives (b, C, size, size). Nothing is stored."""
    return lambda x, rows: render(x, settings.size)
