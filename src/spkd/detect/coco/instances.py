"""Reads a COCO instances JSON into arrays. Every record is checked; a wrong one is an error that names it.

Contract: no ultralytics, no torch, no Python object per annotation survives; `segmentation` is skipped by default.
"""

import gc
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from spkd.errors import SpkdError

FILE_NAME = re.compile(  # folders and a name with a suffix; none is hidden, `..`, absolute, or of another system
    r"(\./)?([^./\\:\0\n\r][^/\\:\0\n\r]*/)*[^./\\:\0\n\r][^/\\:\0\n\r]*\.\w+"
)
Polygons = list[list[float]]
Int = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _Category(msgspec.Struct, gc=False):
    id: Int
    name: str


class _Image(msgspec.Struct, gc=False):
    id: Int
    file_name: str
    width: Int
    height: Int


class _Box(msgspec.Struct, gc=False):
    id: Int
    image_id: Int
    category_id: Int
    bbox: tuple[float, float, float, float]
    iscrowd: int | bool = 0


class _Outline(_Box, gc=False):
    segmentation: Polygons | dict[str, Any] | None = None


class _Boxes(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Box]
    categories: list[_Category]


class _Outlines(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Outline]
    categories: list[_Category]


@dataclass(frozen=True)
class Instances:
    """A checked instances file of n_images images and n annotations, in the file's order.

    files: image names as posix paths. image_ids: (n_images,) int64. size: (n_images, 2) int64, width, height [pixels].
    classes: names in the order of their sorted ids; category_ids: those ids.
    ids: (n,) int64. image: (n,) int64 row of the image, -1 = not among the images. image_id: (n,) int64 as written.
    label: (n,) int64 index into classes. box: (n, 4) float64 x, y, width, height [pixels]. crowd: (n,) bool.
    polygons: the outline of each annotation where asked for, [] where it has none (RLE counts as none).
    """

    path: Path
    files: list[str]
    image_ids: np.ndarray
    size: np.ndarray
    classes: list[str]
    category_ids: list[int]
    ids: np.ndarray
    image: np.ndarray
    image_id: np.ndarray
    label: np.ndarray
    box: np.ndarray
    crowd: np.ndarray
    polygons: list[Polygons] | None

    def name(self, row: int) -> str:
        """Which annotation a row is, in words."""
        return f"annotation id {self.ids[row]} (annotations[{row}], image id {self.image_id[row]})"


def read(path: Path, segments: bool = False) -> Instances:
    """The file's content. segments: keep the polygons.

    Raises SpkdError that names the record: not JSON, cut short, a missing key, a wrong type, NaN, a size below 1, an id
    or file name twice, an unknown category, a file name that leaves the image folder.
    """
    with _no_garbage_collection():
        raw = _decode(path, _Outlines if segments else _Boxes)
        annotations, n = raw.annotations, len(raw.annotations)

        def column(key: str) -> np.ndarray:
            return np.fromiter(map(attrgetter(key), annotations), np.int64, n)

        classes, category_ids = _categories(path, raw.categories)
        files, image_ids, size = _images(path, raw.images)
        ids, image_id, category, crowd = map(column, ("id", "image_id", "category_id", "iscrowd"))
        box = np.fromiter(chain.from_iterable(map(attrgetter("bbox"), annotations)), np.float64, 4 * n).reshape(n, 4)
        polygons = None
        if segments:
            polygons = [a.segmentation if isinstance(a.segmentation, list) else [] for a in annotations]
    label = _position(category, np.array(category_ids, np.int64))
    found = Instances(
        path, files, image_ids, size, classes, category_ids, ids, _position(image_id, image_ids), image_id, label, box,
        crowd != 0, polygons,
    )  # fmt: skip
    if (unknown := label < 0).any():
        row, do = int(np.argmax(unknown)), f"the categories are {category_ids}"
        raise SpkdError(f"{path}: {found.name(row)}", "a category_id of `categories`", f"{category[row]}", do)
    return found


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Millions of small acyclic objects are made and freed inside: looking for cycles among them costs a third."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _decode(path: Path, kind: type[Any]) -> Any:
    if not path.is_file():
        raise SpkdError(path, "an instances JSON", "no such file", "check the path")
    raw = path.read_bytes()
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise SpkdError(*_explain(path, raw, str(error)), "correct or remove that record") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        nan = _nan_record(raw)
        if nan:
            raise SpkdError(f"{path}: {nan}", "finite numbers", "NaN or Infinity", "correct or remove it") from None
        do = "fetch or export the file again: it is cut short, damaged, or of another encoding"
        expected = f"a whole JSON of {len(raw)} bytes, UTF-8 without a byte order mark"
        raise SpkdError(path, expected, str(error), do) from None


def _explain(path: Path, raw: bytes, message: str) -> tuple[str, str, str]:
    """(where, expected, got) of a validation message, with the record's id where it can be read."""
    problem, _, at = message.partition(" - at `$")
    where = f"{path}: {at.rstrip('`').lstrip('.') or 'top level'}"
    spot = re.match(r"\.(images|annotations|categories)\[(\d+)\]", at)
    if spot:
        with suppress(msgspec.DecodeError, UnicodeDecodeError):  # of a file that is also damaged behind the record
            records = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])[spot[1]]
            record = msgspec.json.decode(records, type=list[msgspec.Raw])[int(spot[2])]
            keys = msgspec.json.decode(record, type=dict[str, msgspec.Raw])
            where += f" (id {bytes(keys['id']).decode() if 'id' in keys else 'missing'})"
    expected, _, got = problem.partition(", got ")
    if "missing required field" in problem:
        expected, got = f"the key {problem.rpartition(' ')[2]}", "none (a captions or keypoints file has no such key)"
    if problem == "Number out of range":  # as of 1e999
        expected, got = "a number", "one too large for 64 bits"
    return where, expected.removeprefix("Expected "), got or "another"


def _nan_record(raw: bytes) -> str | None:
    """The first image or annotation with a NaN or Infinity (which JSON does not know and Python writes), or None."""
    try:
        tree = json.loads(raw.decode("utf-8"), parse_constant=float)
    except (ValueError, RecursionError):
        return None
    for kind in ("images", "annotations") if isinstance(tree, dict) else ():
        for i, record in enumerate(tree.get(kind) or []):
            try:
                json.dumps(record, allow_nan=False)
            except ValueError:
                return f"{kind}[{i}] (id {record.get('id', 'missing') if isinstance(record, dict) else '?'})"
    return "NaN outside of images and annotations"


def _categories(path: Path, categories: list[_Category]) -> tuple[list[str], list[int]]:
    """(class names, category ids), sorted by id: gaps in the ids vanish, nothing is shifted."""
    ordered = sorted(categories, key=attrgetter("id"))
    _unique(path, "categories", "id", [c.id for c in ordered])
    _unique(path, "categories", "name", [c.name for c in ordered])
    if not ordered:
        raise SpkdError(f"{path}: categories", "at least one", "none", "use an instances file")
    return [c.name for c in ordered], [c.id for c in ordered]


def _images(path: Path, images: list[_Image]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """(file names, ids, sizes [pixels])."""
    if not images:
        raise SpkdError(f"{path}: images", "at least one", "none", "use an instances file")
    files = []
    for image in images:
        where = f"{path}: image id {image.id}"
        if image.width < 1 or image.height < 1:
            raise SpkdError(where, "width and height of 1 or more", f"{image.width} x {image.height}", "correct it")
        if not FILE_NAME.fullmatch(image.file_name):
            do = "correct file_name: the name of an image below the image folder"
            raise SpkdError(where, "a file_name inside the image folder", repr(image.file_name), do)
        files.append(image.file_name.removeprefix("./"))
    ids = np.fromiter((i.id for i in images), np.int64, len(images))
    _unique(path, "images", "id", ids.tolist())
    _unique(path, "images", "file_name", files)
    return files, ids, np.array([(i.width, i.height) for i in images], np.int64)


def _unique(path: Path, kind: str, key: str, values: list[Any]) -> None:
    if len(set(values)) == len(values):
        return
    seen: set[Any] = set()
    twice = next(v for v in values if v in seen or seen.add(v))  # type: ignore[func-returns-value]
    raise SpkdError(f"{path}: {kind}", f"each {key} once", f"{twice!r} twice", "remove or renumber one of them")


def _position(values: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Row of each value in keys (unique), -1 where it is not there."""
    low, span = int(keys.min()), int(keys.max()) - int(keys.min()) + 1
    if span <= 1 << 24:  # a table, as ids are small numbers in practice
        table = np.full(span + 1, -1)
        table[keys - low] = np.arange(len(keys))
        inside = (values >= low) & (values < low + span)
        return table[np.where(inside, values - low, span)]
    order = np.argsort(keys)
    at = np.minimum(np.searchsorted(keys, values, sorter=order), len(keys) - 1)
    row = order[at]
    return np.where(keys[row] == values, row, -1)
