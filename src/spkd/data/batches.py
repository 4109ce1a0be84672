"""DeviceWindows: the whole scaled signal on the training device; a batch is an index into a strided view of it.

No loader, no worker, no copy but the batch. A signal larger than it may be stays in its file, which a few threads read
for the next batch while this one is trained on. Views render from these batches.
"""

import math
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from spkd import seeding
from spkd.data import arrays
from spkd.data.scaling import Scaling
from spkd.data.windowset import WindowSet

READERS = 8  # threads that wait for the disk: one alone takes 2.4 times as long, 32 hardly less


class DeviceWindows:
    """Scaled windows of one WindowSet, given out in batches on one device.

    starts, label, subject: (n,) int64 on the device. signal: (samples, C) float32 scaled, on the device too; None where
    it would be larger than memory_bytes: windows are then read from the mapped file and scaled batch by batch.
    scaling: the statistics in use; keep `scaling.to_dict()` with the weights.
    """

    def __init__(
        self, windows: WindowSet, scaling: Scaling, device: str | torch.device, memory_bytes: float = math.inf
    ) -> None:
        """Scale and move; raises SpkdError where the statistics do not fit the set."""
        self.windows, self.scaling, self.device = windows, scaling, torch.device(device)
        self.length, self.channels = windows.length, windows.channels
        self.starts, self.label, self.subject = (
            torch.from_numpy(np.array(a, dtype=np.int64)).to(self.device)
            for a in (windows.starts, windows.label, windows.subject)
        )
        self._group = torch.from_numpy(scaling.group(windows)).to(self.device)
        self._mean, self._std = (
            torch.from_numpy(a.astype(np.float32)).to(self.device).unsqueeze(2) for a in (scaling.mean, scaling.std)
        )
        self.signal: Tensor | None = None
        self._ahead: list[tuple[Tensor, list[Future[np.ndarray]]]] = []
        if windows.signal.nbytes <= memory_bytes:
            # Channels last: a window is one piece of memory, and in the layout that networks are fastest with on a CPU.
            self.signal = torch.from_numpy(np.ascontiguousarray(_scaled(windows, scaling).T)).to(self.device)
            self._view = self.signal.unfold(0, self.length, 1).transpose(1, 2)
        else:
            arrays.read_at_random(windows.signal)
            self._readers = ThreadPoolExecutor(READERS, "windows")

    def __len__(self) -> int:
        return len(self.starts)

    def batch(self, rows: Tensor) -> Tensor:
        """(b, C, T) float32 scaled windows; rows: (b,) int64 row numbers on the device."""
        if self.signal is not None:
            return self._view[self.starts[rows]].transpose(1, 2)
        group = self._group[self.subject[rows]]
        stored = torch.from_numpy(self._read(rows)).to(self.device)
        return (stored - self._mean[group]) / self._std[group]

    def expect(self, *batches: Tensor) -> None:
        """Begin to read what `batch` will be asked for by these very tensors; a signal in memory needs none of it."""
        if self.signal is None:
            self._ahead = [*self._ahead[-1:], *((rows, self._begin(rows)) for rows in batches)]

    def _begin(self, rows: Tensor) -> list[Future[np.ndarray]]:
        parts = np.array_split(rows.cpu().numpy(), READERS)
        return [self._readers.submit(self.windows.windows, part) for part in parts]

    def _read(self, rows: Tensor) -> np.ndarray:
        begun = next((reading for known, reading in self._ahead if known is rows), None) or self._begin(rows)
        self._ahead = [(known, reading) for known, reading in self._ahead if known is not rows]
        return np.concatenate([part.result() for part in begun])

    def rows(self, rows: np.ndarray) -> Tensor:
        """(k,) int64 row numbers on the device, e.g. one part of a split."""
        return torch.from_numpy(np.array(rows, dtype=np.int64)).to(self.device)


def _scaled(windows: WindowSet, scaling: Scaling) -> np.ndarray:
    """(C, samples) float32: each sample scaled by the group of the subject whose windows cover it."""
    group = scaling.group(windows)[windows.subject]
    scaled = np.array(windows.signal, dtype=np.float32)
    for g in np.unique(group):
        mean, std = (a[g].astype(np.float32)[:, None] for a in (scaling.mean, scaling.std))
        if len(scaling.mean) == 1:
            scaled -= mean
            scaled /= std
            break
        starts = windows.starts[group == g]
        part = slice(int(starts.min()), int(starts.max()) + windows.length)
        scaled[:, part] = (scaled[:, part] - mean) / std
    return scaled


def order(rows: Tensor, seed: int, epoch: int) -> Tensor:
    """The rows in the order of one epoch of one run: the same on every device, and after a resume."""
    generator = seeding.torch_stream(seed, "order", epoch)
    return rows[torch.randperm(len(rows), generator=generator).to(rows.device)]
