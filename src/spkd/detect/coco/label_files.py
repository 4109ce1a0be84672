"""Writes YOLO label files: `class cx cy w h`, or `class x1 y1 x2 y2 ...` for outlines, in shares of the image.

Contract: one file for every image, empty where it has no object. Text is made for all rows at once, not row by row.
"""

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import repeat
from pathlib import Path

import numpy as np

from spkd.detect.coco.boxes import MILLION, Rows
from spkd.detect.coco.instances import Instances

WRITERS = min(8, os.cpu_count() or 1)  # threads: making a file keeps the system busy, not Python


@cache
def _shares() -> np.ndarray:
    """(1,000,001,) of 9 bytes: every number of millionths as text, " 0.000000" to " 1.000000"."""
    numbers = np.arange(MILLION + 1, dtype=np.int32)
    shown = np.full((len(numbers), 9), ord(" "), np.uint8)
    shown[:, 2] = ord(".")
    for place, at in enumerate((1, 3, 4, 5, 6, 7, 8)):
        shown[:, at] = ord("0") + numbers // 10 ** (6 - place) % 10
    return shown.view("V9")[:, 0]


def text(label: np.ndarray, millionths: np.ndarray) -> tuple[bytes, np.ndarray]:
    """(all rows as text, end of each row in it). label: (n,) >= 0. millionths: (n, 4) in [0, 1e6]."""
    n_labels = int(label.max(initial=0)) + 1
    width = len(str(n_labels - 1))
    names = np.array([str(i) for i in range(n_labels)], f"S{width}")  # short ones end in zero bytes, taken out below
    line = np.empty(len(label), [("label", f"V{width}"), ("share", "V9", 4), ("end", "S1")])
    line["label"], line["share"], line["end"] = names.view(f"V{width}")[label], _shares()[millionths], b"\n"
    lengths = np.array([len(name) for name in names.tolist()])[label] + 4 * 9 + 1
    return line.tobytes().replace(b"\0", b""), np.cumsum(lengths)


def box_files(n_images: int, kept: Rows) -> Iterator[bytes]:
    """The label file of each image in turn."""
    whole, ends = text(kept.label, kept.millionths)
    ends = np.concatenate([[0], ends])
    first = ends[np.searchsorted(kept.image, np.arange(n_images + 1))].tolist()
    for start, end in zip(first, first[1:], strict=False):
        yield whole[start:end]


def outline_files(found: Instances, kept: Rows) -> tuple[list[bytes], np.ndarray, int]:
    """(label file of each image, rows left out, number of objects written as the corners of their box).

    Rows left out: (n,) bool, their text is in the file of their image already. Corners of the box: for want of an
    outline; one that keeps no width or no height inside its image, to a millionth, is none.
    """
    assert found.polygons is not None
    lines: list[dict[str, None]] = [{} for _ in found.files]
    again, n_from_box = np.zeros(len(kept.annotation), bool), 0
    for at, (row, image, label, box) in enumerate(
        zip(kept.annotation, kept.image, kept.label, kept.millionths, strict=True)
    ):
        parts = [np.reshape(p, (-1, 2)) for p in found.polygons[row] if len(p) >= 6 and len(p) % 2 == 0]
        share = np.clip(joined(parts) / found.size[image], 0, 1) if parts else np.zeros((1, 2))
        is_box = (np.ptp(np.rint(share * MILLION), axis=0) < 1).any()
        if is_box:
            middle, half = box[:2] / MILLION, box[2:] / MILLION / 2
            share = np.clip(middle + half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]), 0, 1)
        line = f"{label} " + " ".join(f"{v:.6f}" for v in share.ravel()) + "\n"
        again[at] = line in lines[image]
        n_from_box += int(is_box and not again[at])
        lines[image][line] = None
    return ["".join(rows).encode() for rows in lines], again, n_from_box


def joined(parts: list[np.ndarray]) -> np.ndarray:
    """(m, 2) one outline of all parts: each next one is reached over the shortest bridge and left over the same."""
    outline = parts[0]
    for part in parts[1:]:
        distance = ((outline[:, None] - part[None]) ** 2).sum(2)
        here, there = np.unravel_index(int(distance.argmin()), distance.shape)
        detour = np.concatenate([np.roll(part, -there, 0), part[there : there + 1]])
        outline = np.concatenate([outline[: here + 1], detour, outline[here:]])
    return outline


def write(folder: Path, files: list[str], contents: Sequence[bytes]) -> None:
    """Write the label file of every image below `folder` (new): its name with the suffix .txt."""
    for parent in sorted({f.rpartition("/")[0] for f in files}):
        (folder / parent).mkdir(parents=True, exist_ok=True)
    at = os.open(folder, os.O_RDONLY)
    size = max(1, math.ceil(len(files) / WRITERS))
    try:
        with ThreadPoolExecutor(WRITERS) as pool:
            parts = [slice(i, i + size) for i in range(0, len(files), size)]
            list(pool.map(_write, repeat(at), [files[p] for p in parts], [contents[p] for p in parts]))
    finally:
        os.close(at)


def _write(folder: int, files: Sequence[str], contents: Sequence[bytes]) -> None:
    """A part of the label files; folder: its descriptor."""
    for name, content in zip(files, contents, strict=True):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL  # never append to a file of an earlier run
        file = os.open(f"{name.rpartition('.')[0]}.txt", flags, 0o644, dir_fd=folder)
        try:
            while content:
                content = content[os.write(file, content) :]
        finally:
            os.close(file)
