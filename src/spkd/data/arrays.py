"""A folder of .npy files with a manifest.json: written whole or not at all, memory-mapped when read, never pickled.

Knows nothing of windows or views; those give the arrays and the manifest, and say how the folder is made again.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spkd.errors import SpkdError

FORMAT = 1
MANIFEST = "manifest.json"


def _beside(folder: Path, word: str) -> Path:
    return folder.with_name(f".{folder.name}.{word}")


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
    part, old = _beside(folder, "part"), _beside(folder, "old")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    described: dict[str, list[Any]] = {}
    for name, array in arrays.items():
        np.save(part / f"{name}.npy", array, allow_pickle=False)
        described[name] = [str(array.dtype), list(array.shape)]
    try:
        text = json.dumps({"format": FORMAT, **manifest, "files": described}, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SpkdError(folder / MANIFEST, "plain JSON values", error, "convert them before saving") from None
    (part / MANIFEST).write_text(text + "\n", encoding="utf-8")
    for path in (*part.iterdir(), part):
        _sync(path)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.replace(old)
    part.replace(folder)
    _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def load(folder: Path, remake: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays, memory-mapped and read-only, and the manifest of a folder that `save` wrote.

    remake: what the user does where the folder is missing or damaged, e.g. "dvc repro windows@pamap2".
    Raises SpkdError for a missing file, another format, or an array that differs from its description.
    """
    do = f'run "{remake}"'
    old = _beside(folder, "old")
    place = old if not folder.exists() and old.exists() else folder
    try:
        manifest = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpkdError(folder, f"a {MANIFEST}", "none", do) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SpkdError(folder / MANIFEST, "JSON", error, do) from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        got = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise SpkdError(folder / MANIFEST, f"format {FORMAT}", got, do)
    arrays: dict[str, np.ndarray] = {}
    for name, described in manifest.get("files", {}).items():
        arrays[name] = _map(place / f"{name}.npy", described, do)
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
