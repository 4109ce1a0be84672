"""The class counts and boxes that a COCO JSON demands of its label files, and how wrong ones differ from them.

Shifted ids below the number of classes, and boxes in other places, are silent in ultralytics: only the JSON can show
them. No pixel is read.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spkd.detect import coco, match
from spkd.detect.checks import data_yaml as yaml_file
from spkd.detect.checks.scan import Seen, Split
from spkd.detect.coco import boxes, instances
from spkd.errors import SpkdError
from spkd.settings import Settings

# A label's box is the JSON's where each of its four numbers is that near, of the image's size: others round, and draw
# boxes around outlines. Some may have been corrected by hand.
NEAR, MOST_STRAYS = 0.02, 0.1


def annotations(settings: Settings) -> dict[str, Path]:
    """The COCO JSON of each split: those of params.yaml, else those that the data set was converted from."""
    if settings.detect.annotations:
        return {str(split): Path(path) for split, path in settings.detect.annotations.items()}
    return recorded(Path(settings.detect.data), coco.source_folder(settings.coco.source) / "annotations")


def recorded(data_yaml: Path, folder: Path) -> dict[str, Path]:
    """The JSON of each split of a data set that `convert-coco` made, by its report; {} for a data set of others.

    folder: where coco.source has its JSON files; one that is not there any more, or not the one that was converted, is
    left out. Raises SpkdError where the data set is the DVC stage's and a JSON has changed since: its labels are old.
    """
    report = data_yaml.parent / coco.REPORT
    if not report.is_file():
        return {}
    splits = json.loads(report.read_text("utf-8"))["splits"]
    tree = yaml_file.read(data_yaml)
    used = {str(key): Path(str(tree[key])).name for key in ("train", "val", "test") if key in tree}
    found = {key: folder / splits[name]["annotations"] for key, name in used.items() if name in splits}
    there = {key: path for key, path in found.items() if path.is_file()}
    same = {key: path for key, path in there.items() if coco.sha256(path) == splits[used[key]].get("sha256")}
    if same != there and data_yaml.parent.resolve() == coco.OUT.resolve():
        old = next(path for key, path in there.items() if key not in same)
        noted = all("sha256" in splits[used[key]] for key in there)
        got = f"another file than the one that {coco.OUT} was made of" if noted else f"no hash of it in {coco.OUT}"
        raise SpkdError(old, "the JSON that the labels come from", got, "run `dvc repro --force coco`")
    return same


def compare(path: Path, split: Split, names: dict[int, str]) -> Iterator[tuple[str, str, str]]:
    """(rule, what, remedy) of each way in which a split's objects differ from its JSON, by the converter's own rules.

    Images that ultralytics drops are left out: they are a problem of their own. Raises SpkdError that names the record
    where the JSON is damaged.
    """
    found = instances.read(path)
    again = f"convert again: spkd convert-coco --annotations {path} --images DIR --out NEW_FOLDER"
    if [names.get(i) for i in range(len(names))] != found.classes:
        first = f"{list(names.values())[:3]}..., the JSON's categories by id are {found.classes[:3]}..."
        yield "class names", f"data.yaml names {first}", again
        return
    kept = [s for s in split.seen if s.rows is not None]
    images = [s.image for s in kept]
    placed = match.rows(images, found.files)
    shown = [row for row in placed if row >= 0]
    if not shown:
        yield "other images", f"none of the split's images is in {path}", "give the JSON of this split"
        return
    strange = [image for image, row in zip(images, placed, strict=True) if row < 0]
    if strange and split.name == "val":
        what = f"{len(strange)} image(s) are not in {path}, e.g. {strange[0]}: COCO's metric knows no truth for them"
        yield "other images", what, "take them out of the split, or give the JSON that holds them all"
        return
    have, (wanted, solid) = split.histogram(), _wanted(found, shown)
    if solid.fits(have, split.duplicates):
        strays = _strays(wanted, kept, placed)
        if (n := sum(strays.values())) > MOST_STRAYS * len(wanted.label):
            first = max(strays, key=lambda image: strays[image])
            what = (
                f"{n} of {len(wanted.label)} boxes of {path.name} have no like in the labels, e.g. {strays[first]} of "
            )
            yield "boxes", f"{what}{first}: other images' labels, or corners in the place of centres?", again
        return
    _, crowds = _wanted(replace(found, crowd=np.zeros_like(found.crowd)), shown)
    if solid.shifted(found.category_ids).fits(have, split.duplicates):
        yield (
            "shifted ids",
            "classes are `category_id - 1`, but COCO's ids have gaps: most objects carry a wrong name",
            again,
        )
    elif crowds.fits(have, split.duplicates):
        n = crowds.most.total() - solid.most.total()
        yield "crowds", f"{n} crowd regions were written as single objects", again
    else:
        wrong = {names[c]: f"{have[c]} instead of {solid.least[c]}" for c in names if have[c] != solid.least[c]}
        first = ", ".join(f"{k} {v}" for k, v in list(wrong.items())[:4])
        yield "class counts", f"{len(wrong)} classes differ from {path.name}: {first}", again


@dataclass(frozen=True)
class _Wanted:
    """Objects per class. least: the same class and box in an image counts once. most: as often as the JSON has it."""

    least: Counter[int]
    most: Counter[int]

    def fits(self, have: Counter[int], slack: int) -> bool:
        """Whether counts lie between, up to `slack` rows that ultralytics removed as duplicates."""
        return ((self.least - have) + (have - self.most)).total() <= slack

    def shifted(self, category_ids: list[int]) -> "_Wanted":
        """The counts of a converter that took `category_id - 1` for the class, of the classes that exist."""

        def shift(counts: Counter[int]) -> Counter[int]:
            moved = {category_ids[c] - 1: n for c, n in counts.items()}
            return Counter({c: n for c, n in moved.items() if c < len(category_ids)})

        return _Wanted(shift(self.least), shift(self.most))


def _wanted(found: instances.Instances, shown: list[int]) -> tuple[boxes.Rows, _Wanted]:
    """What the label files of some images must hold, as `convert-coco` writes it. shown: rows of those images."""
    usable = np.zeros(len(found.files), bool)
    usable[shown] = True
    least, most = (boxes.rows(found, usable, boxes.Drops(), once) for once in (True, False))
    return least, _Wanted(Counter(least.label.tolist()), Counter(most.label.tolist()))


def _strays(wanted: boxes.Rows, seen: Sequence[Seen], placed: Sequence[int]) -> dict[str, int]:
    """{image: how many of its wanted boxes have none of their class near in its label file}. placed: rows of images."""
    truth = np.column_stack([wanted.label, wanted.millionths / boxes.MILLION])
    strays = {}
    for one, row in zip(seen, placed, strict=True):
        own = truth[slice(*np.searchsorted(wanted.image, [row, row + 1]))]
        gaps = np.abs(own[:, None] - one.rows).max(2)  # another class is 1 away
        strays[one.image] = int((gaps.min(1, initial=1) > NEAR).sum())
    return strays
