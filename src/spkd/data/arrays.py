"""A folder of .npy files with a manifest.json: written whole or not at all, memory-mapped when read, never pickled.

Knows nothing of windows or views; those give the arrays and the manifest, and say how the folder is made again.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any, Literal

import numpy as np

from spkd import atomic
from spkd.errors import SpkdError

FORMAT = 1
MANIFEST = "manifest.json"


def save(folder: Path, arrays: Mapping[str, np.ndarray], manifest: Mapping[str, Any]) -> None:
    """Replace the folder by these arrays (<name>.npy) and this manifest.

    Killed at any moment, `load` finds the old content or the new, complete. The manifest gets `format` and `files`
    (name: [dtype, shape]). Raises SpkdError where the manifest is not plain JSON.
    """
    with _replacing(folder, {name: (array.dtype, array.shape) for name, array in arrays.items()}, manifest) as part:
        for name, array in arrays.items():
            np.save(part / f"{name}.npy", array, allow_pickle=False)


@contextmanager
def filling(
    folder: Path, shapes: Mapping[str, tuple[str, tuple[int, ...]]], manifest: Mapping[str, Any]
) -> Iterator[dict[str, np.ndarray]]:
    """Arrays of these types and shapes, mapped from files, to be filled in the block; then as `save`.

    For content larger than memory. Nothing of it is left where the block raises, e.g. OSError where the disk is full:
    its room is taken before the block.
    """
    described = {name: (np.dtype(dtype), shape) for name, (dtype, shape) in shapes.items()}
    with _replacing(folder, described, manifest) as part:
        made: dict[str, np.ndarray] = {}
        for name, (dtype, shape) in described.items():
            path = part / f"{name}.npy"
            made[name] = np.lib.format.open_memmap(path, "w+", dtype, shape)
            with path.open("r+b") as file:
                atomic.reserve(file.fileno(), path.stat().st_size)
        yield made


@contextmanager
def _replacing(
    folder: Path, arrays: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]], manifest: Mapping[str, Any]
) -> Iterator[Path]:
    """A new folder for the files of these arrays; with its manifest it replaces the old one when the block ends."""
    described = {name: [str(dtype), list(shape)] for name, (dtype, shape) in arrays.items()}
    try:
        text = json.dumps({"format": FORMAT, **manifest, "files": described}, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SpkdError(folder / MANIFEST, "plain JSON values", error, "convert them before saving") from None
    with atomic.folder(folder) as part:
        yield part
        (part / MANIFEST).write_text(text + "\n", encoding="utf-8")
        for path in (*part.iterdir(), part):
            atomic.flush(path)
    atomic.flush(folder.parent)


def load(folder: Path, remake: str, mode: Literal["r", "c"] = "r") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays, memory-mapped, and the manifest of a folder that `save` wrote.

    remake: what the user does where the folder is missing or damaged, e.g. "dvc repro windows@pamap2".
    mode: "r", read-only, or "c", which may be written: in memory alone, the files stay as they are.
    Raises SpkdError for a missing file, another format, or an array that differs from its description.
    """
    do = f'run "{remake}"'
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpkdError(folder, f"a {MANIFEST}", "none", do) from None
    except (ValueError, RecursionError) as error:
        raise SpkdError(folder / MANIFEST, "JSON", error, do) from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        got = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise SpkdError(folder / MANIFEST, f"format {FORMAT}", got, do)
    files, arrays = manifest.get("files"), {}
    if not isinstance(files, dict):
        raise SpkdError(folder / MANIFEST, "`files`: the type and shape of each array", files, do)
    for name, described in files.items():
        arrays[name] = _map(folder / f"{name}.npy", described, do, mode)
    return arrays, manifest


def _map(path: Path, described: list[Any], do: str, mode: Literal["r", "c"]) -> np.ndarray:
    try:
        array: np.ndarray = np.lib.format.open_memmap(path, mode)
    except FileNotFoundError:
        raise SpkdError(path, f"an array {described}", "no such file", do) from None
    except (OSError, ValueError, OverflowError, TokenError) as error:  # the last two: of what a header says
        raise SpkdError(path, f"an array {described}", error, do) from None
    if [str(array.dtype), list(array.shape)] != described:
        raise SpkdError(path, f"an array {described}", [str(array.dtype), list(array.shape)], do)
    return array
