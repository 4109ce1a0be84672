"""What ultralytics would really see of a YOLO data set: every image, its label file, and what it does to each row.

Uses ultralytics' own path and row functions, so this cannot disagree with the trainer. Facts only; preflight.py
judges them.
Never writes: ultralytics would rewrite a JPEG with a damaged end in place, so such images are looked at through a copy.
"""

import shutil
import tempfile
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from ultralytics.data.base import BaseDataset
from ultralytics.data.utils import img2label_paths, verify_image_label
from ultralytics.utils import NUM_THREADS

from spkd.detect import hermetic
from spkd.detect.coco import image_files
from spkd.meter import Work


@dataclass(frozen=True)
class Seen:
    """One image as the trainer would see it.

    rows: (n, 5) float32 class, centre x, centre y, width, height in [0, 1]; None where ultralytics drops the image.
    missing: no label file. reason: why it is dropped. duplicates: rows ultralytics removes. damaged_end: a JPEG it
    would rewrite.
    """

    image: str
    label: str
    rows: np.ndarray | None
    size: tuple[int, int]
    missing: bool
    reason: str
    duplicates: int
    damaged_end: bool
    n_bytes: int = 0


@dataclass
class Split:
    """Everything counted in one split. `given` is the path as data.yaml writes it, `path` the one ultralytics opens.

    classes: the class indices that are trained on, None = all.
    """

    name: str
    given: list[str]
    path: list[str]
    seen: list[Seen] = field(default_factory=list)
    unreadable: str = ""
    classes: list[int] | None = None

    @property
    def corrupt(self) -> list[Seen]:
        """Images that ultralytics drops."""
        return [s for s in self.seen if s.rows is None]

    @property
    def missing(self) -> list[Seen]:
        """Images without a label file."""
        return [s for s in self.seen if s.missing]

    @property
    def trained(self) -> list[Seen]:
        """All images, with the rows of `classes` alone."""
        if self.classes is None:
            return self.seen
        return [
            s if s.rows is None else replace(s, rows=s.rows[np.isin(s.rows[:, 0], self.classes)]) for s in self.seen
        ]

    @property
    def backgrounds(self) -> int:
        """Images that would train without an object."""
        return sum(s.rows is not None and not len(s.rows) for s in self.trained)

    @property
    def duplicates(self) -> int:
        """Rows that ultralytics removes because they are there twice."""
        return sum(s.duplicates for s in self.seen)

    def rows(self) -> np.ndarray:
        """(objects, 5) the rows of all classes that ultralytics keeps."""
        kept = [s.rows for s in self.seen if s.rows is not None and len(s.rows)]
        return np.concatenate(kept) if kept else np.zeros((0, 5), np.float32)

    def histogram(self) -> Counter[int]:
        """Objects per class index, of all classes."""
        return Counter(self.rows()[:, 0].astype(int).tolist())

    def objects(self) -> Counter[int]:
        """Objects per class index that would be trained on."""
        counts = self.histogram()
        return counts if self.classes is None else Counter({c: counts[c] for c in self.classes if counts[c]})

    def outside(self, tolerance: float = 1e-3) -> int:
        """Boxes that reach over the edge of their image: the converter did not clip."""
        rows = self.rows()
        low, high = rows[:, 1:3] - rows[:, 3:5] / 2, rows[:, 1:3] + rows[:, 3:5] / 2
        return int(((low < -tolerance) | (high > 1 + tolerance)).any(1).sum())

    def degenerate(self) -> list[Seen]:
        """Images with a box of no width or no height, which ultralytics accepts in silence."""
        return [s for s in self.seen if s.rows is not None and (s.rows[:, 3:5] <= 0).any()]


def _damaged_end(image: str) -> bool:
    """Whether this is a JPEG that does not end as one: ultralytics would rewrite it in place."""
    is_jpeg = image.lower().endswith((".jpg", ".jpeg")) and Path(image).is_file()
    return is_jpeg and not image_files.ends(Path(image))


def look(image: str, label: str, n_classes: int) -> Seen:
    """One image and its label file through ultralytics' own check; the files stay as they are."""
    damaged = _damaged_end(image)
    with tempfile.TemporaryDirectory() if damaged else nullcontext("") as folder:
        checked = image
        if damaged:
            checked = str(Path(folder) / Path(image).name)
            shutil.copyfile(image, checked)
        _, rows, shape, _, _, missing, *_, message = verify_image_label(
            (checked, label, "", False, n_classes, 0, 0, False)
        )
        n_bytes = Path(checked).stat().st_size if Path(checked).is_file() else 0
    if rows is None:
        reason = message.partition("ignoring corrupt image/label: ")[2] or message
        return Seen(image, label, None, (0, 0), not Path(label).is_file(), reason.strip(), 0, damaged, n_bytes)
    written = sum(bool(line.strip()) for line in Path(label).read_text("utf-8-sig").splitlines()) if not missing else 0
    return Seen(image, label, rows, tuple(shape), bool(missing), "", written - len(rows), damaged, n_bytes)


def split(name: str, given: Any, path: Any, n_classes: int, classes: list[int] | None = None) -> Split:
    """One split of a data set as ultralytics would read it. `path` is what check_det_dataset resolved `given` to.

    classes: those that are trained on, None = all.
    """
    as_list = [str(p) for p in (path if isinstance(path, list) else [path])]
    found = Split(name, [str(g) for g in (given if isinstance(given, list) else [given])], as_list, classes=classes)
    try:
        with hermetic.hushed():
            settings: Any = SimpleNamespace(prefix="", fraction=1.0)
            images = BaseDataset.get_img_files(settings, path)
    except FileNotFoundError as error:
        found.unreadable = " ".join(str(error.__cause__ or error).split())
        return found
    labels = img2label_paths(list(images))
    with ThreadPool(NUM_THREADS) as pool, Work(f"looking at the labels of {name}", {"images": len(labels)}) as work:
        pairs = zip(images, labels, strict=True)
        for seen in pool.imap(lambda pair: look(*pair, n_classes), pairs, chunksize=32):
            found.seen.append(seen)
            work.did("images")
    return found
