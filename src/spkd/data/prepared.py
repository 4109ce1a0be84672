"""What a view computed beforehand: arrays in data/views/<dataset>/<view>, refused for other windows or settings.

The DVC stage `views` writes them, runs read them; what they mean is known to the view alone.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spkd.data import arrays
from spkd.data.windowset import WindowSet
from spkd.errors import SpkdError

FOLDER = Path("data/views")  # of a project: <dataset>/<view>


def load(
    folder: Path, windows: WindowSet, device: str | torch.device, settings: Mapping[str, object]
) -> dict[str, Tensor]:
    """What `save` wrote, as tensors on the device.

    settings: those that the view's `prepare` reads, as the run has them.
    Raises SpkdError naming the DVC stage where the folder is missing, damaged, or made from other windows or settings.
    """
    remake = f"dvc repro views@{folder.parent.name}-{folder.name}"
    do = f'run "{remake}"'
    if not folder.exists():
        row = f"a row {folder.parent.name}-{folder.name} stands under `prepare` in params.yaml"
        raise SpkdError(folder, "a prepared view", "none", f"{do}, where {row}")
    content, manifest = arrays.load(folder, remake)
    if manifest.get("digest") != windows.digest:
        expected = f"a view of the windows with digest {windows.digest}"
        raise SpkdError(folder, expected, manifest.get("digest"), do)
    recorded = manifest.get("settings")
    used = {name: recorded.get(name) for name in settings} if isinstance(recorded, dict) else recorded
    if used != settings:
        do = f"where params.yaml has the new values, {do}; a teacher of other values must be trained anew"
        raise SpkdError(folder, f"a view prepared with {dict(settings)}", used, do)
    if (found := _md5(content)) != manifest.get("content"):
        raise SpkdError(folder, f"content with md5 {manifest.get('content')}", found, do)
    return {name: torch.from_numpy(np.array(array)).to(device) for name, array in content.items()}


def save(
    folder: Path, windows: WindowSet, content: Mapping[str, np.ndarray], view: str, settings: Mapping[str, object]
) -> None:
    """Write what a view prepared, whole or not at all, with all that `load` compares. settings: all of the view's."""
    known = {"view": view, "settings": dict(settings), "digest": windows.digest, "content": _md5(content)}
    arrays.save(folder, content, known)


def _md5(content: Mapping[str, np.ndarray]) -> str:
    total = hashlib.md5(usedforsecurity=False)
    for name in sorted(content):
        array = np.ascontiguousarray(content[name])
        total.update(f"{name}{array.dtype}{array.shape}".encode())
        total.update(array.data)
    return total.hexdigest()
