"""Whether ultralytics' label cache still says what the label files say.

ultralytics trusts a `*.cache` when sizes and times of all files match: an edit that keeps both is trained on the OLD
labels. The cache is read with an unpickler that can build arrays and plain containers and nothing else, because a
data set may come from anyone.
"""

import io
import pickle
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.data.dataset import DATASET_CACHE_VERSION
from ultralytics.data.utils import get_hash

from spkd.detect.checks.scan import Split

ALLOWED = {("numpy", "ndarray"), ("numpy", "dtype")} | {
    (f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")
} | {("numpy._core.numeric", "_frombuffer"), ("numpy.core.numeric", "_frombuffer")}  # fmt: skip


class _Plain(pickle.Unpickler):
    """Builds arrays, lists, dictionaries, numbers and text; refuses everything that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise ValueError(f"{module}.{name} has no place in a label cache")
        return super().find_class(module, name)


def read(path: Path) -> dict[str, Any] | None:
    """The content of a label cache; None where it is not there, or not whole: another training may be writing it.

    Raises ValueError where it is not one that ultralytics writes.
    """
    try:
        stream = io.BytesIO(path.read_bytes())
    except FileNotFoundError:
        return None
    if not stream.getbuffer():
        return None
    np.lib.format.read_magic(stream)
    np.lib.format.read_array_header_1_0(stream)
    try:
        return dict(_Plain(stream).load().item())
    except (pickle.UnpicklingError, AttributeError, EOFError, TypeError, IndexError):
        return None  # ultralytics fails at the same byte


def compare(split: Split, n_classes: int) -> Iterator[tuple[str, str, str]]:
    """(rule, what, remedy) where a cache that ultralytics would use disagrees with the label files, or is none.

    One that is not whole, of another version, or of files of other sizes or times, it would not use but write anew.
    """
    for path in sorted({Path(s.label).parent.with_suffix(".cache") for s in split.seen}):
        try:
            found = read(path)
            if found is None:
                continue
            labels = {entry["im_file"]: entry for entry in found["labels"]}
        except (ValueError, KeyError, TypeError):
            yield "stale cache", f"{path} cannot be read as a label cache", f"rm {shlex.quote(str(path))}"
            continue
        if found.get("version") != DATASET_CACHE_VERSION or found.get("hash") not in _hashes(split, n_classes):
            continue
        wrong = [s.image for s in split.seen if s.image in labels and not _same(s.rows, labels[s.image])]
        if wrong:
            yield ("stale cache", f"{path} holds other labels than {len(wrong)} label file(s), e.g. for {wrong[0]}",
                   f"rm {shlex.quote(str(path))}")  # fmt: skip


def _hashes(split: Split, n_classes: int) -> list[str]:
    """What ultralytics would compare a cache's hash with, for all classes and for `single_cls`."""
    files = [s.label for s in split.seen] + [s.image for s in split.seen]
    return [get_hash([*files, str((False, n_classes, None, single))]) for single in (False, True)]


def _same(rows: np.ndarray | None, entry: dict[str, Any]) -> bool:
    if rows is None:
        return False
    return np.array_equal(rows, np.concatenate([entry["cls"], entry["bboxes"]], 1).astype(np.float32))
