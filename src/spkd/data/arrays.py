"""A folder of .npy files with a manifest.json: written whole or not at all, memory-mapped when read, never pickled.

Knows nothing of windows or views; those give the arrays and the manifest, and say how the folder is made again.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spkd.data import atomic
from spkd.errors import SpkdError

FORMAT = 1
MANIFEST = "manifest.json"


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save(folder: Path, arrays: Mapping[str, np.ndarray], manifest: Mapping[str, Any]) -> None:
    """Replace the folder by these arrays (<name>.npy) and this manifest.

    Killed at any moment, `load` finds the old content or the new, complete. The manifest gets `format` and `files`
    (name: [dtype, shape]). Raises SpkdError where the manifest is not plain JSON.
    """
    described = {name: [str(array.dtype), list(array.shape)] for name, array in arrays.items()}
    try:
        text = json.dumps({"format": FORMAT, **manifest, "files": described}, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SpkdError(folder / MANIFEST, "plain JSON values", error, "convert them before saving") from None
    with atomic.folder(folder) as part:
        for name, array in arrays.items():
            np.save(part / f"{name}.npy", array, allow_pickle=False)
        (part / MANIFEST).write_text(text + "\n", encoding="utf-8")
        for path in (*part.iterdir(), part):
            _sync(path)
    _sync(folder.parent)


def load(folder: Path, remake: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays, memory-mapped and read-only, and the manifest of a folder that `save` wrote.

    remake: what the user does where the folder is missing or damaged, e.g. "dvc repro windows@pamap2".
    Raises SpkdError for a missing file, another format, or an array that differs from its description.
    """
    do = f'run "{remake}"'
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpkdError(folder, f"a {MANIFEST}", "none", do) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SpkdError(folder / MANIFEST, "JSON", error, do) from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        got = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise SpkdError(folder / MANIFEST, f"format {FORMAT}", got, do)
    arrays: dict[str, np.ndarray] = {}
    for name, described in manifest.get("files", {}).items():
        arrays[name] = _map(folder / f"{name}.npy", described, do)
    return arrays, manifest


def _map(path: Path, described: list[Any], do: str) -> np.ndarray:
    try:
        empty = 0 in described[1]
        array: np.ndarray = np.load(path, mmap_mode=None if empty else "r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise SpkdError(path, f"an array {described}", error, do) from None
    if [str(array.dtype), list(array.shape)] != described:
        raise SpkdError(path, f"an array {described}", [str(array.dtype), list(array.shape)], do)
    return array
