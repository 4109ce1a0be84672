"""Disturbed windows: what noise, a wrong gain, a lost stretch of time or a lost channel would have recorded.

Pure functions of windows in STORED units, as the sensor would give them; scaling and view come afterwards. Level 0
returns the very windows, so that an undisturbed result is reproduced exactly.
"""

from collections.abc import Callable

import numpy as np

from spkd.data.windowset import WindowSet

Disturbance = Callable[[np.ndarray, np.ndarray, np.ndarray, float, np.random.Generator], np.ndarray]


def noise(windows: np.ndarray, mean: np.ndarray, std: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Windows with white Gaussian noise of `level` standard deviations of the channel on every sample.

    windows: (n, C, T) float32. mean, std: (n, C) of each window's channels, by which it is scaled, in stored units. The
    result has the windows' shape and type; so in all functions here. level: >= 0.
    """
    drawn = rng.standard_normal(windows.shape, dtype=np.float32)
    drawn *= (level * std)[:, :, None].astype(np.float32)
    drawn += windows
    return drawn


def gain(windows: np.ndarray, mean: np.ndarray, std: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Windows times a gain that is drawn for each window and channel from a normal of mean 1 and spread `level`.

    About the zero of the stored units, as a badly calibrated sensor's would be.
    """
    factor = 1 + level * rng.standard_normal(windows.shape[:2])
    return windows * factor[:, :, None].astype(np.float32)


def segments(
    windows: np.ndarray, mean: np.ndarray, std: np.ndarray, level: float, rng: np.random.Generator
) -> np.ndarray:
    """Windows of which one piece, round(level * T) samples at a random place, is lost in all channels at once.

    Lost samples are replaced by the channel's mean, 0 after scaling. level: 0 to 1.
    """
    n, _, length = windows.shape
    lost = round(level * length)
    first = rng.integers(0, length - lost + 1, n)
    sample = np.arange(length)
    gone = (sample >= first[:, None]) & (sample < first[:, None] + lost)
    return np.where(gone[:, None, :], mean[:, :, None].astype(np.float32), windows)


def channels(
    windows: np.ndarray, mean: np.ndarray, std: np.ndarray, level: float, rng: np.random.Generator
) -> np.ndarray:
    """Windows in which round(level * C) random channels, at least one where level > 0, are lost.

    Which ones is drawn for each window. A lost channel is its mean, 0 after scaling. level: 0 to 1.
    """
    n, n_channels, _ = windows.shape
    lost = max(round(level * n_channels), int(level > 0))
    rank = rng.random((n, n_channels)).argsort(axis=1).argsort(axis=1)
    return np.where((rank < lost)[:, :, None], mean[:, :, None].astype(np.float32), windows)


KINDS: dict[str, Disturbance] = {"noise": noise, "gain": gain, "segments": segments, "channels": channels}


def as_set(windows: np.ndarray, source: WindowSet, rows: np.ndarray) -> WindowSet:
    """The windows (n, C, T), disturbed copies of these rows of `source`, as a set of their own, one after the other.

    The digest is empty: nothing on disk belongs to these windows. rows: (n,) ascending.
    """
    n, n_channels, length = windows.shape
    signal = np.ascontiguousarray(windows.swapaxes(0, 1)).reshape(n_channels, n * length)
    starts = np.arange(n, dtype=np.int64) * length
    manifest = {**source.manifest, "n_windows": n, "digest": ""}
    return WindowSet(signal, starts, np.asarray(source.label)[rows], np.asarray(source.subject)[rows], manifest)
