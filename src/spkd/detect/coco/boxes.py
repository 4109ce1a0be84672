"""Turns COCO boxes into YOLO rows: clipped, without crowds, degenerate and repeated boxes; drops counted by reason.

Contract: pure functions of arrays. Coordinates are whole millionths of the image's width or height, as in the text.
"""

from dataclasses import dataclass, field

import numpy as np

from spkd.detect.coco.instances import Instances
from spkd.errors import SpkdError

MILLION = 1_000_000


@dataclass
class Drops:
    """How many annotations or images were left out, by reason, and the first of each in words."""

    n: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, n: int, first: str) -> None:
        """Count n more for a reason."""
        self.n[reason] = self.n.get(reason, 0) + n
        self.first.setdefault(reason, first)

    def report(self) -> dict[str, dict[str, object]]:
        """{reason: {n, first}}."""
        return {reason: {"n": n, "first": self.first[reason]} for reason, n in sorted(self.n.items())}


@dataclass(frozen=True)
class Rows:
    """n label rows, ordered by image and within it as in the file.

    annotation: (n,) row of the annotation in Instances. image: (n,) row of the image. label: (n,) class index.
    millionths: (n, 4) int64 centre x, centre y, width, height. clipped: (n,) bool, the box reached out of its image.
    """

    annotation: np.ndarray
    image: np.ndarray
    label: np.ndarray
    millionths: np.ndarray
    clipped: np.ndarray

    def only(self, keep: np.ndarray) -> "Rows":
        """Some of the rows. keep: (n,) bool."""
        return Rows(
            self.annotation[keep], self.image[keep], self.label[keep], self.millionths[keep], self.clipped[keep]
        )


def rows(found: Instances, usable: np.ndarray, drops: Drops, once: bool = True) -> Rows:
    """The label rows of an instances file. usable: (n_images,) bool, images that are converted. Fills `drops`.

    once: one row for one class and box in an image; for outlines, which may differ in the same box, False.

    Raises SpkdError where two different annotations have one id (COCO's metric would see only the last).
    """
    corner = np.stack([found.box[:, :2], found.box[:, :2] + found.box[:, 2:]])
    limit = found.size[np.maximum(found.image, 0)]
    clipped = np.clip(corner, 0, limit)
    middle, extent = (clipped[0] + clipped[1]) / 2, clipped[1] - clipped[0]
    millionths = np.rint(np.concatenate([middle / limit, extent / limit], 1) * MILLION).astype(np.int64)
    keep = np.ones(len(found.ids), bool)

    def drop(reason: str, wrong: np.ndarray) -> None:
        nonlocal keep
        hit = np.flatnonzero(wrong & keep)
        keep &= ~wrong
        if len(hit):
            drops.add(reason, len(hit), found.name(int(hit[0])))

    drop("annotation of an unknown image", found.image < 0)
    drop("image left out", ~usable[np.maximum(found.image, 0)])
    drop("crowd region", found.crowd)
    drop("box without width or height", (found.box[:, 2] <= 0) | (found.box[:, 3] <= 0))
    drop("box outside of its image", (extent[:, 0] <= 0) | (extent[:, 1] <= 0))
    drop("box thinner than a millionth of its image", (millionths[:, 2] == 0) | (millionths[:, 3] == 0))
    drop("same annotation twice", _same_annotations(found, keep))
    if once:
        drop("same class and box twice in an image", _repeats([found.image, found.label, *millionths.T], keep))
    kept = np.flatnonzero(keep)
    kept = kept[np.argsort(found.image[kept], kind="stable")]
    return Rows(kept, found.image[kept], found.label[kept], millionths[kept], (clipped != corner).any((0, 2))[kept])


def _repeats(keys: list[np.ndarray], keep: np.ndarray) -> np.ndarray:
    """(n,) bool: rows of the key columns, each (n,) int64, that an earlier kept row has as well."""
    mixed = np.zeros(len(keep), np.uint64)
    for column in keys:
        mixed = (mixed ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    repeated, at = np.zeros(len(keep), bool), np.flatnonzero(keep)
    ordered = np.sort(mixed[at])
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        seen = set()
        for row in at[np.isin(mixed[at], twice)].tolist():
            key = tuple(int(column[row]) for column in keys)
            repeated[row] = key in seen
            seen.add(key)
    return repeated


def _same_annotations(found: Instances, keep: np.ndarray) -> np.ndarray:
    """(n,) bool: annotations that are there already, with the same id and content."""
    again = _repeats([found.ids], keep)
    content = [found.ids, found.image_id, found.label, *found.box.T.view(np.int64)]
    different = again & ~_repeats(content, keep) if again.any() else again
    if different.any():
        row = int(np.argmax(different))
        do = "give each annotation an id of its own"
        raise SpkdError(f"{found.path}: {found.name(row)}", "each id once", "another one with the same id", do)
    return again


def histogram(found: Instances, kept: Rows) -> dict[str, int]:
    """Objects of each class, every class named."""
    counts = np.bincount(kept.label, minlength=len(found.classes))
    return dict(zip(found.classes, counts.tolist(), strict=True))
