"""A WindowSet's signal, scaled and with its channels last, so that a window is one piece: in memory, or in a file.

The file is for a signal that memory may not hold. It has no name, so that it is gone with the process, even a killed
one. A few threads read the windows of a batch: a disk answers several questions at a time.
"""

import os
import tempfile
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from spkd import atomic, memory
from spkd.data.scaling import Scaling
from spkd.data.windowset import WindowSet
from spkd.errors import SpkdError
from spkd.meter import Meter

READERS = 8  # threads
CHUNK_BYTES = 2**26


Span = tuple[int, int, np.ndarray, np.ndarray]
"""(first, last) sample that one mean and std (C, 1) scale."""


def scaled(windows: WindowSet, scaling: Scaling) -> np.ndarray:
    """(samples, C) float32: each sample scaled by the group of the subject whose windows cover it."""
    return _part(windows, _spans(windows, scaling), 0, windows.signal.shape[1])


def _spans(windows: WindowSet, scaling: Scaling) -> list[Span]:
    group, found = scaling.group(windows)[windows.subject], []
    mean, std = (a.astype(np.float32)[:, :, None] for a in (scaling.mean, scaling.std))
    if len(mean) == 1:
        return [(0, windows.signal.shape[1], mean[0], std[0])]
    for g in np.unique(group):
        starts = windows.starts[group == g]
        found.append((int(starts.min()), int(starts.max()) + windows.length, mean[g], std[g]))
    return found


def _part(windows: WindowSet, spans: list[Span], first: int, last: int) -> np.ndarray:
    """(samples, C) float32: the scaled samples first to last."""
    part = np.array(windows.signal[:, first:last], dtype=np.float32)
    for begin, end, mean, std in spans:
        inside = part[:, max(begin - first, 0) : max(end - first, 0)]
        inside -= mean
        inside /= std
    return np.ascontiguousarray(part.T)


class ScaledFile:
    """The scaled signal in a nameless file of a folder, from which windows are read. file: its descriptor."""

    def __init__(self, windows: WindowSet, scaling: Scaling, folder: Path) -> None:
        """Write it; raises SpkdError where the folder's disk has no room for it, or the statistics do not fit."""
        n_channels, n_samples = windows.signal.shape
        self.length, self.n_channels = windows.length, n_channels
        needed, room = 4 * windows.signal.size, memory.disk_bytes(folder)
        if needed > room:
            got, do = f"room for {room / 2**30:.1f} GiB", "make room, or raise train.windows_gib"
            raise SpkdError(folder, f"room for a scaled copy of the signal, {needed / 2**30:.1f} GiB", got, do)
        folder.mkdir(parents=True, exist_ok=True)
        spans, step = _spans(windows, scaling), max(1, CHUNK_BYTES // (4 * n_channels))
        with (
            atomic.naming(folder),
            tempfile.TemporaryFile(dir=folder) as file,
            Meter(f"scaled signal of {windows.manifest['dataset']}", needed) as meter,
        ):
            for first in range(0, n_samples, step):
                meter.add(file.write(_part(windows, spans, first, first + step).data))
            file.flush()
            self.file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self.file)  # not before the last of its threads has read
        if hasattr(os, "posix_fadvise"):  # a window here, a window there: the system need not read on behind each
            os.posix_fadvise(self.file, 0, 0, os.POSIX_FADV_RANDOM)
        self._readers = ThreadPoolExecutor(READERS, "windows")

    def begin(self, starts: np.ndarray) -> "Reading":
        """Begin to read the windows that start at these samples (b,)."""
        into = np.empty((len(starts), self.length, self.n_channels), np.float32)
        parts = zip(np.array_split(into, READERS), np.array_split(starts, READERS), strict=True)
        return Reading(into, [self._readers.submit(self._read, *part) for part in parts if len(part[0])])

    def _read(self, into: np.ndarray, starts: np.ndarray) -> None:
        for window, start in zip(into, starts.tolist(), strict=True):
            n_bytes = os.preadv(self.file, [window], 4 * self.n_channels * start)
            if n_bytes != window.nbytes:
                raise OSError(f"{n_bytes} of {window.nbytes} bytes of a window could be read of the scaled signal")


class Reading:
    """Windows that are being read."""

    def __init__(self, into: np.ndarray, parts: list[Future[None]]) -> None:
        self._into, self._parts = into, parts

    def result(self) -> np.ndarray:
        """(b, T, C) float32 scaled windows, once they are there."""
        for part in self._parts:
            part.result()
        return self._into
