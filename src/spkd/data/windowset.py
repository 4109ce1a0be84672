"""WindowSet: one continuous signal per data set, and where its windows start: views of memory, never copies.

The unfiltered, unscaled signal is stored once; scaling is measured per fold (scaling.py) and applied on the device
(batches.py). Nothing here knows a raw format, a split or a network.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spkd.data import arrays
from spkd.errors import SpkdError

FOLDER = Path("data/windows")  # of a project: a folder for each data set
DTYPES = {"signal": "<f4", "starts": "<i8", "label": "<i2", "subject": "<i2"}
CONTENT = ("channels", "classes", "subjects", "rate_hz", "length", "step", "rule")
KEYS = (
    *CONTENT, "dataset", "n_windows", "counts", "drops", "first_seen", "notes", "settings",
    "origin", "licence", "citation", "digest",
)  # fmt: skip


@dataclass(frozen=True)
class WindowSet:
    """Windows of one data set, in one order that every view and every run shares.

    signal: (channels, samples) float32, subjects one after the other.
    starts: (n,) int64 first sample of each window, ascending. label: (n,) int16 class index.
    subject: (n,) int16 index into `subjects`, ascending. manifest: plain JSON values, every key of KEYS.
    """

    signal: np.ndarray
    starts: np.ndarray
    label: np.ndarray
    subject: np.ndarray
    manifest: dict[str, Any]

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def length(self) -> int:
        """Samples in one window."""
        return int(self.manifest["length"])

    @property
    def rate_hz(self) -> float:
        """Samples per second."""
        return float(self.manifest["rate_hz"])

    @property
    def channels(self) -> list[str]:
        """Channel names, in the order of the signal's rows."""
        return list(self.manifest["channels"])

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the label's values."""
        return list(self.manifest["classes"])

    @property
    def subjects(self) -> list[str]:
        """The data set's own subject ids, in the order of the subject's values."""
        return list(self.manifest["subjects"])

    @property
    def digest(self) -> str:
        """md5 of the arrays and of what gives them meaning: equal digests, equal windows."""
        return str(self.manifest["digest"])

    def windows(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows), channels, length) copy of the windows with these row numbers."""
        views = np.lib.stride_tricks.sliding_window_view(self.signal, self.length, axis=1)
        return np.ascontiguousarray(views[:, self.starts[rows]].swapaxes(0, 1))

    def save(self, folder: Path) -> None:
        """Replace the folder by this set, whole or not at all: four .npy files and manifest.json."""
        arrays.save(folder, {name: getattr(self, name) for name in DTYPES}, self.manifest)


def covered(n_samples: int, starts: np.ndarray, length: int) -> np.ndarray:
    """(n_samples,) bool: which samples lie in at least one window."""
    edges = np.zeros(n_samples + 1, dtype=np.int64)
    np.add.at(edges, starts, 1)
    np.subtract.at(edges, starts + length, 1)
    return np.cumsum(edges[:-1]) > 0


def digest(content: Mapping[str, np.ndarray], manifest: Mapping[str, Any]) -> str:
    """md5 hex (32 characters, as MLflow's dataset digest allows) of the four arrays and the CONTENT keys."""
    total = hashlib.md5(usedforsecurity=False)
    for name, dtype in DTYPES.items():
        array = np.ascontiguousarray(content[name], dtype=dtype)
        total.update(f"{name}{array.shape}".encode())
        total.update(array.data)
    total.update(json.dumps({key: manifest[key] for key in CONTENT}, sort_keys=True).encode())
    return total.hexdigest()


def build(content: Mapping[str, np.ndarray], manifest: Mapping[str, Any]) -> WindowSet:
    """A checked WindowSet from its four arrays and a manifest that lacks only counts, n_windows and the digest.

    Raises SpkdError where a window leaves the signal or a label or subject has no name.
    """
    typed = {name: np.ascontiguousarray(content[name], dtype=dtype) for name, dtype in DTYPES.items()}
    classes, subjects = manifest["classes"], manifest["subjects"]
    counts = np.zeros((len(subjects), len(classes)), dtype=np.int64)
    full = {**manifest, "n_windows": len(typed["starts"]), "counts": {}, "digest": ""}
    _check(typed, full, str(manifest["dataset"]), "correct the reader")
    np.add.at(counts, (typed["subject"], typed["label"]), 1)
    full["counts"] = {
        s: {c: int(n) for c, n in zip(classes, row, strict=True)} for s, row in zip(subjects, counts, strict=True)
    }
    full["digest"] = digest(typed, full)
    return WindowSet(**typed, manifest=full)


def leave_out(folder: Path, why: str) -> None:
    """Replace a folder of windows, or of a view of them, by a note why there are none, so that later stages go on.

    `load` of the windows says why; a view is not asked for without them.
    """
    arrays.save(folder, {}, {"absent": why})


def is_left_out(folder: Path) -> bool:
    """Whether the folder holds the note of `leave_out` in place of windows."""
    return "absent" in arrays.load(folder, f"dvc repro windows@{folder.name}")[1]


def load(folder: Path) -> WindowSet:
    """The WindowSet of a folder (data/windows/<dataset>), memory-mapped.

    The content is compared with the digest, which reads every byte: about 0.2 s per 100 MB.
    Raises SpkdError naming `dvc repro windows@<dataset>` where the folder is missing, damaged or of another format.
    """
    remake = f"dvc repro windows@{folder.name}"
    content, manifest = arrays.load(folder, remake)
    do = f'run "{remake}"'
    if "absent" in manifest:
        bring = f'put them there (README, "Your own recordings") or set datasets.{folder.name}.windows.source, and {do}'
        raise SpkdError(folder, f"windows of {folder.name}", manifest["absent"], bring)
    missing = [key for key in KEYS if key not in manifest] + [name for name in DTYPES if name not in content]
    if missing:
        raise SpkdError(folder, f"{', '.join(missing)} in the folder", "none", do)
    if (found := digest(content, manifest)) != manifest["digest"]:
        raise SpkdError(folder, f"content with digest {manifest['digest']}", found, do)
    _check(content, manifest, str(folder), do)
    return WindowSet(**{name: content[name] for name in DTYPES}, manifest=manifest)


def _check(content: Mapping[str, np.ndarray], manifest: Mapping[str, Any], where: str, do: str) -> None:
    """Raise SpkdError where shapes, types, window ends, labels or subjects do not fit the manifest."""
    n, n_channels = manifest["n_windows"], len(manifest["channels"])
    signal, starts, label, subject = (content[name] for name in DTYPES)
    shapes = {name: content[name].shape for name in ("starts", "label", "subject")}
    if any(str(np.dtype(dtype)) != str(content[name].dtype) for name, dtype in DTYPES.items()):
        raise SpkdError(where, f"types {DTYPES}", {k: str(content[k].dtype) for k in DTYPES}, do)
    if signal.ndim != 2 or len(signal) != n_channels:
        raise SpkdError(where, f"a signal ({n_channels}, samples)", signal.shape, do)
    if any(shape != (n,) for shape in shapes.values()):
        raise SpkdError(where, f"starts, label and subject ({n},)", shapes, do)
    limits = {"starts": signal.shape[1] - manifest["length"] + 1, "label": len(manifest["classes"])}
    limits["subject"] = len(manifest["subjects"])
    for name, values in (("starts", starts), ("label", label), ("subject", subject)):
        if n and not (values.min() >= 0 and values.max() < limits[name]):
            got = f"{values.min()} to {values.max()}"
            raise SpkdError(where, f"{name} from 0 to {limits[name] - 1}", got, do)
    for name, values in (("starts", starts), ("subject", subject)):
        if (np.diff(values) < 0).any():
            raise SpkdError(
                where, f"{name} in ascending order", f"a step back at row {np.diff(values).argmin() + 1}", do
            )
