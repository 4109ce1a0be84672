"""Persistence images: the valleys of each channel, by depth of their floor and height of their lowest rim.

`prepare` finds all windows' diagrams once; they are small and stored. `render` draws them on the device per batch.
The diagram ignores offset and gain of a channel, so one preparation serves every fold's scaling, and noise added to the
signal in training does not reach it. Agrees with gudhi (lower-star filtration, PersistenceImage).
Source: Adams et al., JMLR 2017; settings of the wearables-distillation line.
"""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from spkd.config import Section
from spkd.data.windowset import WindowSet
from spkd.errors import SpkdError
from spkd.meter import each

DIMS = 2
PREPARED = ("min_lifetime",)  # the settings that `prepare` reads; the others are for drawing
# Samples merged side by side: small enough for the processor's cache, large enough to hide numpy's call overhead.
CHUNK_SAMPLES = 400_000
# Channels drawn at a time on a CPU: their Gaussians and images then stay in its cache.
CPU_CHANNELS = 128
# A Gaussian ends where it is below 2^-FAR, 9 spreads away: the product of two such is a normal float32, and smaller
# numbers make a processor some 10 times slower.
FAR = 62.0


class Settings(Section):
    """The image and what is drawn on it; lengths in units of the channel scaled to [-1, 1]."""

    size: Annotated[int, Field(ge=2)]
    spread: Annotated[float, Field(gt=0)]
    low: float
    high: float
    min_lifetime: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self


def prepare(windows: WindowSet, settings: Settings) -> dict[str, np.ndarray]:
    """Diagrams of all windows: points (total, 2) float32 of (birth, death), offsets (n * C + 1,) int64.

    The diagram of channel c of window i is points[offsets[i * C + c] : offsets[i * C + c + 1]], in the order of the
    moments at which its valleys end. Memory beside the result stays below 100 MB, whatever the number of windows.
    Raises SpkdError on a window with a value that is not finite.
    """
    n_channels = len(windows.signal)
    per_chunk = max(1, CHUNK_SAMPLES // (n_channels * windows.length))
    points, counts = [np.empty((0, 2), np.float32)], [np.zeros(1, np.int64)]
    for first in each("persistence diagrams", range(0, len(windows), per_chunk)):
        rows = np.arange(first, min(first + per_chunk, len(windows)))
        series = windows.windows(rows).reshape(len(rows) * n_channels, windows.length)
        if not np.isfinite(series).all():
            row = first + int(np.argmin(np.isfinite(series).all(1))) // n_channels
            raise SpkdError(f"window {row}", "finite values", "NaN or infinity", 'run "dvc repro windows"')
        found, n_found = diagrams(scaled(series), settings.min_lifetime)
        points.append(found)
        counts.append(n_found)
    return {"points": np.concatenate(points), "offsets": np.cumsum(np.concatenate(counts))}


def scaled(series: np.ndarray) -> np.ndarray:
    """Each row of (rows, T) mapped to [-1, 1] by its own extremes, float32; a constant row becomes 0.

    The published text fixes the image's range, [-1, 1], and not how a series gets there. Its own extremes are the
    scaling of the line's other image, the Gramian field, and make the diagram independent of units and of the fold.
    """
    low, high = series.min(1, keepdims=True), series.max(1, keepdims=True)
    extent = np.where(high > low, high - low, 1)
    return np.where(high > low, (series - low) / extent * 2 - 1, 0).astype(np.float32)


def diagrams(series: np.ndarray, min_lifetime: float) -> tuple[np.ndarray, np.ndarray]:
    """Sublevel-set H0 diagrams of series (rows, T): points (total, 2), number of points in each (rows,) int64.

    series, points: float32.
    Water rises over each series: a valley is born at its floor and dies where it flows into one with a deeper floor.
    Points are (birth, death) with death - birth > min_lifetime, ordered by row, then by the sample of the death. The
    deepest valley never dies; it is dropped, as the image needs finite points, and as scaled() puts it at -1 always.
    """
    births = _birth_of_what_dies(series)
    lives = series - births > min_lifetime
    points = np.stack([births[lives], series[lives]], axis=1).astype(np.float32)
    return points, lives.sum(1, dtype=np.int64)


def _birth_of_what_dies(series: np.ndarray) -> np.ndarray:
    """For each sample of (rows, T): the birth value of the valley that dies there, or infinity where none does.

    One pass over the samples of all rows at once, from the lowest up. A flooded interval is known at its two ends:
    `other_end` holds the opposite end there, `floor` its lowest value. Padding keeps the ends of a series dry.
    """
    n_rows, length = series.shape
    # One row per sample (not per series), so that a step touches neighbours in memory.
    order = _ascending(series).T
    values = np.take_along_axis(series.T, order, axis=0)
    order += 1
    other_end = np.full((length + 2) * n_rows, -1, np.int64)
    floor = np.full((length + 2) * n_rows, np.inf, series.dtype)
    dying = np.full((length + 2) * n_rows, np.inf, series.dtype)
    column = np.arange(n_rows)
    for k in range(length):
        here = order[k] * n_rows + column
        before, after = here - n_rows, here + n_rows
        floor_before, floor_after = floor[before], floor[after]
        # A dry neighbour has floor infinity, so "both wet" is "the higher floor is finite", and infinity dies nowhere.
        dying[here] = np.maximum(floor_before, floor_after)
        lowest = np.minimum(np.minimum(floor_before, floor_after), values[k])
        left, right = other_end[before], other_end[after]
        left, right = np.where(left < 0, here, left), np.where(right < 0, here, right)
        other_end[left], other_end[right] = right, left
        floor[left], floor[right] = lowest, lowest
    return dying.reshape(length + 2, n_rows)[1:-1].T


def _ascending(series: np.ndarray) -> np.ndarray:
    """argsort of float32 rows (rows, T), earlier samples first among equals: (rows, T) int64, ten times as fast.

    A float's bits, read as an integer, sort as the float does once a negative one's are turned over; with the sample's
    number behind them one sort of integers does it, for which numpy has vector instructions.
    """
    bits = (series + np.float32(0)).view(np.int32)  # -0 becomes 0, which it equals
    keys = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64) << 32
    keys |= np.arange(series.shape[1])
    keys.sort(axis=1)
    return keys & 0xFFFFFFFF


def render(points: Tensor, present: Tensor, settings: Settings) -> Tensor:
    """Persistence image per channel, divided by its maximum: (..., size, size), values in [0, 1].

    points: (..., k, 2) of (birth, death). present: (..., k) bool, false where a point is padding. Pixel [i, j] is the
    sum over points of a Gaussian, at persistence low + i step and birth low + j step: row 0 is the lowest, as in gudhi.
    Lifetimes reach 2, so the published range cuts the longest off: some 10 % of the points of chest and PAMAP2 windows.
    A channel without points, or with all of them more than 9 spreads outside the image, is zero.
    """
    grid = torch.linspace(settings.low, settings.high, settings.size, device=points.device, dtype=points.dtype)
    birth, death = points.unbind(-1)
    across = _gaussian(birth, grid, settings.spread)
    along = _gaussian(torch.where(present, death - birth, torch.inf), grid, settings.spread)
    # A Gaussian of two axes is a product of two: all points of a channel in one small matrix product.
    with torch.autocast(points.device.type, enabled=False):
        image = along.transpose(-1, -2) @ across
    peak = image.amax((-2, -1), keepdim=True)
    return image.div_(peak.clamp_min_(torch.finfo(image.dtype).tiny))


def _gaussian(centre: Tensor, grid: Tensor, spread: float) -> Tensor:
    """exp(-((centre - grid) / spread)^2 / 2), zero from FAR on: (..., size) of centre (...) and grid (size,).

    As a power of 2, which torch takes four times as fast as one of e on a processor that Intel did not make.
    """
    power = (centre.unsqueeze(-1) - grid).square_().mul_(-0.5 * math.log2(math.e) / spread**2)
    return functional.threshold(power, -FAR, -math.inf, inplace=True).exp2_()


def gather(points: Tensor, offsets: Tensor, which: Tensor, n_points: int) -> tuple[Tensor, Tensor]:
    """Some diagrams as one block: points (..., n_points, 2), present (..., n_points) bool.

    points (total, 2) and offsets (n * C + 1,): as `prepare` gave them. which: (...) int64 diagrams. n_points: room for
    the largest of them; absent points are copies of the first point of the set.
    """
    first, end = offsets[which].unsqueeze(-1), offsets[which + 1].unsqueeze(-1)
    index = first + torch.arange(n_points, device=which.device)
    present = index < end
    return points[torch.where(present, index, 0)], present


def view(settings: Settings, stored: Mapping[str, Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of (x (b, C, T), rows (b,)) that gives (b, C, size, size) of the stored diagrams of those rows.

    stored: what `prepare` gave, on the device. x tells the number of channels and the type alone: see the module.
    Raises SpkdError where the diagrams were not prepared or belong to windows of another number of channels.
    """
    for name in ("points", "offsets"):
        if name not in stored:
            raise SpkdError("views.persistence", f"prepared {name}", "none", 'run "dvc repro"')
    points, offsets = stored["points"], stored["offsets"]
    sizes = offsets.diff()
    largest = int(sizes.max()) if len(sizes) else 0

    def images(x: Tensor, rows: Tensor) -> Tensor:
        n_channels = x.shape[1]
        if len(sizes) % n_channels:
            got = f"{len(sizes)} diagrams"
            raise SpkdError("views.persistence", f"diagrams for {n_channels} channels", got, 'run "dvc repro"')
        chosen = (rows.unsqueeze(1) * n_channels + torch.arange(n_channels, device=rows.device)).flatten()
        if rows.device.type == "cpu":
            drawn = _in_lots(points, offsets, chosen, sizes[chosen], settings).to(x.dtype)
        else:
            # Room for the set's largest diagram: asking each batch for its own would make every step wait for the GPU.
            drawn = render(*gather(points, offsets, chosen, largest), settings).to(x.dtype)
        return drawn.view(len(rows), n_channels, settings.size, settings.size)

    return images


def _in_lots(points: Tensor, offsets: Tensor, chosen: Tensor, sizes: Tensor, settings: Settings) -> Tensor:
    """Images (m, size, size) of the chosen diagrams (m,), small diagrams first, CPU_CHANNELS at a time.

    sizes: (m,) points of each. A lot has room for its own largest diagram; what pads the others adds zeros to them.
    """
    drawn = points.new_empty(len(chosen), settings.size, settings.size)
    order = sizes.argsort(stable=True)
    for start in range(0, len(order), CPU_CHANNELS):
        lot = order[start : start + CPU_CHANNELS]
        drawn[lot] = render(*gather(points, offsets, chosen[lot], int(sizes[lot[-1]])), settings)
    return drawn
