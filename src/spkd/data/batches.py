"""DeviceWindows: the whole scaled signal on the training device; a batch is an index into a strided view of it.

No loader, no worker, no copy but the batch. Views render from these batches; what a view stored beforehand is loaded
here too, and refused where it was made from other windows.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spkd import seeding
from spkd.data import arrays
from spkd.data.scaling import Scaling
from spkd.data.windowset import WindowSet
from spkd.errors import SpkdError


class DeviceWindows:
    """Scaled windows of one WindowSet on one device.

    signal: (C, samples) float32 scaled. starts, label, subject: (n,) int64, all on the device.
    scaling: the statistics in use; keep `scaling.to_dict()` with the weights.
    """

    def __init__(self, windows: WindowSet, scaling: Scaling, device: str | torch.device) -> None:
        """Scale and move; raises SpkdError where the statistics do not fit the set."""
        self.windows, self.scaling, self.device = windows, scaling, torch.device(device)
        self.length, self.channels, self.classes = windows.length, windows.channels, windows.classes
        self.digest = windows.digest
        self.starts, self.label, self.subject = (
            torch.from_numpy(np.array(a, dtype=np.int64)).to(self.device)
            for a in (windows.starts, windows.label, windows.subject)
        )
        self.signal = torch.from_numpy(_scaled(windows, scaling)).to(self.device)
        self._view = self.signal.unfold(1, self.length, 1).permute(1, 0, 2)

    def __len__(self) -> int:
        return len(self.starts)

    def batch(self, rows: Tensor) -> Tensor:
        """(b, C, T) float32 scaled windows; rows: (b,) int64 row numbers on the device."""
        return self._view[self.starts[rows]]

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


def stored(folder: Path, windows: WindowSet, device: str | torch.device) -> dict[str, Tensor]:
    """Arrays that a view prepared (data/views/<dataset>/<view>), on the device.

    Raises SpkdError naming the DVC stage where the folder is missing, damaged, or made from other windows.
    """
    remake = f"dvc repro views@{folder.parent.name}-{folder.name}"
    content, manifest = arrays.load(folder, remake)
    if manifest.get("digest") != windows.digest:
        expected = f"a view of the windows with digest {windows.digest}"
        raise SpkdError(folder, expected, manifest.get("digest"), f'run "{remake}"')
    return {name: torch.from_numpy(np.array(array)).to(device) for name, array in content.items()}


def store(folder: Path, windows: WindowSet, content: dict[str, np.ndarray], manifest: dict[str, object]) -> None:
    """Write what a view prepared, whole or not at all, with the digest of the windows it was made from."""
    arrays.save(folder, content, {**manifest, "digest": windows.digest})
