"""DeviceWindows: the whole scaled signal on the training device; a batch is an index into a strided view of it.

No loader, no worker, no copy but the batch. A signal larger than it may be lies in a file, of which the next batch is
read while this one is trained on. Views render from these batches.
"""

import copy
import math
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spkd import seeding
from spkd.data.scaled import Reading, ScaledFile, scaled
from spkd.data.scaling import Scaling
from spkd.data.windowset import WindowSet


class DeviceWindows:
    """Scaled windows of one WindowSet, given out in batches on one device.

    starts, label, subject: (n,) int64 on the device. signal: (samples, C) float32 scaled, on the device too; None where
    it would be larger than memory_bytes: it lies in a file in `folder` then, without a name, as long as this lives.
    scaling: the statistics in use; keep `scaling.to_dict()` with the weights.
    """

    def __init__(
        self, windows: WindowSet, scaling: Scaling, device: str | torch.device, memory_bytes: float = math.inf,
        folder: Path | None = None,
    ) -> None:  # fmt: skip
        """Scale and move; raises SpkdError where the statistics do not fit the set, or the disk is too small."""
        self.windows, self.scaling, self.device = windows, scaling, torch.device(device)
        self.length, self.channels = windows.length, windows.channels
        self.starts, self.label, self.subject = (
            torch.from_numpy(np.array(a, dtype=np.int64)).to(self.device)
            for a in (windows.starts, windows.label, windows.subject)
        )
        self.signal: Tensor | None = None
        self._ahead: list[tuple[Tensor, Reading]] = []
        if windows.signal.nbytes <= memory_bytes:
            # Channels last: a window is one piece of memory, and in the layout that networks are fastest with on a CPU.
            self.signal = torch.from_numpy(scaled(windows, scaling)).to(self.device)
            self._view = self.signal.unfold(0, self.length, 1).transpose(1, 2)
        else:
            self._file = ScaledFile(windows, scaling, folder or Path(tempfile.gettempdir()))

    def beside(self) -> "DeviceWindows":
        """The same windows for another asker: it shares the signal or its file, and reads ahead for itself."""
        other = copy.copy(self)
        other._ahead = []
        return other

    def __len__(self) -> int:
        return len(self.starts)

    def batch(self, rows: Tensor) -> Tensor:
        """(b, C, T) float32 scaled windows; rows: (b,) int64 row numbers on the device."""
        if self.signal is not None:
            return self._view[self.starts[rows]].transpose(1, 2)
        return torch.from_numpy(self._read(rows)).to(self.device).transpose(1, 2)

    def expect(self, *batches: Tensor) -> None:
        """Begin to read what `batch` will be asked for by these very tensors; a signal in memory needs none of it."""
        if self.signal is None:
            self._ahead = [*self._ahead[-1:], *((rows, self._begin(rows)) for rows in batches)]

    def _begin(self, rows: Tensor) -> Reading:
        return self._file.begin(self.starts[rows].cpu().numpy())

    def _read(self, rows: Tensor) -> np.ndarray:
        begun = next((reading for known, reading in self._ahead if known is rows), None) or self._begin(rows)
        self._ahead = [(known, reading) for known, reading in self._ahead if known is not rows]
        return begun.result()

    def rows(self, rows: np.ndarray) -> Tensor:
        """(k,) int64 row numbers on the device, e.g. one part of a split."""
        return torch.from_numpy(np.array(rows, dtype=np.int64)).to(self.device)


def order(rows: Tensor, seed: int, epoch: int) -> Tensor:
    """The rows in the order of one epoch of one run: the same on every device, and after a resume."""
    generator = seeding.torch_stream(seed, "order", epoch)
    return rows[torch.randperm(len(rows), generator=generator).to(rows.device)]
