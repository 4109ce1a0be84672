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

from spkd import matmul
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
    cosine, sine = (part.to(x.dtype) for part in polar(aggregate(x, size)))
    # cos(a + b) = cos a cos b - sin a sin b, no arccos: where a CPU is fast at matrix products as one, which writes the
    # image once; elsewhere element by element, which TF32 cannot round.
    if x.device.type == "cpu" and not matmul.slow_mkl():
        with torch.autocast("cpu", enabled=False):
            return torch.stack((cosine, sine), -2).mT @ torch.stack((cosine, -sine), -2)
    return (cosine.unsqueeze(-1) * cosine.unsqueeze(-2)).addcmul_(sine.unsqueeze(-1), sine.unsqueeze(-2), value=-1)


def aggregate(x: Tensor, size: int) -> Tensor:
    """Means of `size` consecutive pieces (..., size) float64 of x (..., T).

    Piece boundaries are floor(i T / size), so that every sample counts in one piece, as in pyts. float64, because
    polar() magnifies rounding near the extremes by its square root; it is small beside the images.
    """
    return x.to(torch.float64) @ _shares(x.shape[-1], size, x.device)


def polar(pieces: Tensor) -> tuple[Tensor, Tensor]:
    """(cos phi, sin phi) of a series scaled to [-1, 1] by its own extremes; a constant one lies at (0, 1).

    pieces: (..., size). sin is 2 sqrt((high - v)(v - low)) / (high - low), which keeps its digits near the extremes,
    where sqrt(1 - cos^2) loses half of them.
    """
    low, high = pieces.amin(-1, keepdim=True), pieces.amax(-1, keepdim=True)
    extent = high - low
    constant = extent <= CONSTANT * torch.maximum(high.abs(), low.abs())
    scale = torch.where(constant, 0.0, 1 / extent)
    above, below = (pieces - low).mul_(scale), (high - pieces).mul_(scale)
    return above - below, torch.addcmul(constant.to(pieces.dtype), above, below, value=4).sqrt_()


@functools.lru_cache(maxsize=16)
def _shares(n_samples: int, size: int, device: torch.device) -> Tensor:
    """Share that each sample has of each piece's mean, (n_samples, size) float64.

    Kept from call to call: a copy to the GPU in every step would make the step wait.
    """
    bounds = np.linspace(0, n_samples, size + 1).astype(np.int64)
    sample = np.arange(n_samples)[:, None]
    member = (bounds[:-1] <= sample) & (sample < bounds[1:])
    return torch.from_numpy(member / np.diff(bounds)).to(device)


def view(settings: Settings, stored: Mapping[str, Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of (x (b, C, T), rows (b,)) that gives (b, C, size, size). Nothing is stored."""
    return lambda x, rows: render(x, settings.size)
