"""The class counts that a COCO JSON demands of its label files, and how wrong ones differ from them.

Shifted ids below the number of classes are silent in ultralytics: only the JSON can show them. Counts; no pixel is
read.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import yaml

from spkd.detect import coco
from spkd.detect.scan import Split
from spkd.errors import SpkdError
from spkd.settings import Settings


class _Image(msgspec.Struct):
    id: int
    file_name: str
    width: int
    height: int


class _Annotation(msgspec.Struct):
    image_id: int
    category_id: int
    bbox: list[float]
    iscrowd: int = 0


class _Category(msgspec.Struct):
    id: int
    name: str


class _Instances(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def read(path: Path) -> _Instances:
    """An instances JSON without its masks. Raises SpkdError where it is not one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Instances)
    except OSError as error:
        raise SpkdError(path, "a COCO instances JSON", error.strerror, "correct the path") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SpkdError(
            path, "a COCO instances JSON", error, "give the instances_*.json, not captions or keypoints"
        ) from None


def annotations(settings: Settings) -> dict[str, Path]:
    """The COCO JSON of each split: those of params.yaml, else those that the data set was converted from."""
    if settings.detect.annotations:
        return {str(split): Path(path) for split, path in settings.detect.annotations.items()}
    return recorded(Path(settings.detect.data), coco.source_folder(settings.coco.source) / "annotations")


def recorded(data_yaml: Path, folder: Path) -> dict[str, Path]:
    """The JSON of each split of a data set that `convert-coco` made, by its report; {} for a data set of others.

    folder: where the JSON files are; one that is not there any more is left out.
    """
    report = data_yaml.parent / coco.REPORT
    if not report.is_file():
        return {}
    splits = json.loads(report.read_text("utf-8"))["splits"]
    tree = yaml.safe_load(data_yaml.read_text("utf-8"))
    used = {key: Path(str(tree[key])).name for key in ("train", "val", "test") if key in tree}
    found = {key: folder / splits[name]["annotations"] for key, name in used.items() if name in splits}
    return {key: path for key, path in found.items() if path.is_file()}


def compare(path: Path, split: Split, names: dict[int, str]) -> Iterator[tuple[str, str, str]]:
    """(rule, what, remedy) of each way in which a split's classes differ from its JSON."""
    instances = read(path)
    ids = sorted(c.id for c in instances.categories)
    by_id = {c.id: c.name for c in instances.categories}
    again = f"convert again: spkd convert-coco --annotations {path} --images DIR --out NEW_FOLDER"
    wanted = [by_id[i] for i in ids]
    if [names.get(i) for i in range(len(names))] != wanted:
        yield (
            "class names",
            f"data.yaml names {list(names.values())[:3]}..., the JSON's categories by id are {wanted[:3]}...",
            again,
        )
        return
    stems = {Path(s.image).stem for s in split.seen}
    sizes = {i.id: (i.width, i.height) for i in instances.images if Path(i.file_name).stem in stems}
    boxes = [a for a in instances.annotations if a.image_id in sizes and _has_area(a.bbox, sizes[a.image_id])]
    index = {c: i for i, c in enumerate(ids)}
    have = split.histogram()
    solid = Counter(index[a.category_id] for a in boxes if not a.iscrowd)
    if _close(have, solid, split.duplicates):
        return
    shifted = Counter(a.category_id - 1 for a in boxes if not a.iscrowd)
    crowds = Counter(index[a.category_id] for a in boxes)
    if not sizes:
        yield "other images", f"none of the split's images is in {path}", "give the JSON of this split"
    elif _close(have, Counter({c: n for c, n in shifted.items() if c < len(ids)}), split.duplicates):
        yield (
            "shifted ids",
            "classes are `category_id - 1`, but COCO's ids have gaps: most objects carry a wrong name",
            again,
        )
    elif _close(have, crowds, split.duplicates):
        yield (
            "crowds",
            f"{sum(crowds.values()) - sum(solid.values())} crowd regions were written as single objects",
            again,
        )
    else:
        wrong = {names[c]: f"{have[c]} instead of {solid[c]}" for c in range(len(ids)) if have[c] != solid[c]}
        first = ", ".join(f"{k} {v}" for k, v in list(wrong.items())[:4])
        yield "class counts", f"{len(wrong)} classes differ from {path.name}: {first}", again


def _has_area(box: list[float], size: tuple[int, int]) -> bool:
    """Whether a box [x, y, width, height] in pixels keeps an area inside its image."""
    x, y, w, h = box
    return min(x + w, size[0]) - max(x, 0) > 0 and min(y + h, size[1]) - max(y, 0) > 0


def _close(have: Counter[int], wanted: Counter[int], slack: int) -> bool:
    """Equal class counts, up to the duplicate rows that ultralytics removed."""
    return sum(abs(have[c] - wanted[c]) for c in have.keys() | wanted.keys()) <= slack
