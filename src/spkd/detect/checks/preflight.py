"""The check before every training: does ultralytics find every label, and are they the right ones?

Refuses (`Report.problems`) what the pinned ultralytics would train on in silence or with a warning in the log: labels
it does not find, images it drops, classes that do not match the annotations. Every problem carries the remedy in
words that can be typed. Works on any YOLO data set, not only ours.
"""

import hashlib
import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ultralytics.data.utils import check_det_dataset

from spkd.detect import coco, hermetic
from spkd.detect.checks import cached, layout, overlap, scan, truth
from spkd.detect.checks import data_yaml as yaml_file
from spkd.detect.checks.scan import Seen, Split
from spkd.errors import SpkdError
from spkd.settings import Preflight

RECONVERT = (
    "convert again into a new folder: spkd convert-coco --annotations instances.json --images DIR --out NEW_FOLDER"
)
WHY_DROPPED = {  # a piece of ultralytics' own message -> what to do about it
    "exceeds dataset class count": (
        "class ids must be 0 .. nc - 1; COCO's category ids have gaps up to 90, so `category_id - 1` is wrong; "
        + RECONVERT
    ),
    "out of bounds": "boxes must be divided by the image's own width and height and clipped to [0, 1]; " + RECONVERT,
    "negative label": "class ids must be 0 .. nc - 1, and boxes clipped to [0, 1]; " + RECONVERT,
    "require 5 columns": "a row is `class x_centre y_centre width height` (no confidence behind it): cut -d' ' -f1-5",
    "mix segment and detection": "one file holds either boxes (5 columns) or polygons, never both; " + RECONVERT,
    "non-integer class": "the first column is the class index, a whole number; " + RECONVERT,
    "could not convert": "a row must be five numbers; correct or delete it",
    "codec can't decode": "save the label file as UTF-8 text",
    "inhomogeneous": "every row must be five numbers; correct or delete the one that is longer or shorter",
}
THEIR_ADVICE = "Note dataset download directory"  # to change a setting in a folder that ends with this command
SAME_IMAGES = "same images"
MOST_CLASSES = 8
UNREADABLE = "replace the image by an undamaged copy, or remove it with its label file"


@dataclass(frozen=True)
class Problem:
    """One reason to refuse a data set. rule: a short name; examples: files to look at."""

    split: str
    rule: str
    what: str
    do: str
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        files = "".join(f"\n      {e}" for e in self.examples)
        return f"{self.split}: {self.rule}: {self.what}{files}\n    -> {self.do}"


@dataclass
class Report:
    """What was found in a data set. `ok` means that ultralytics will train on what the user means."""

    data_yaml: Path
    names: dict[int, str]
    root: Path
    splits: dict[str, Split] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)

    @property
    def origin(self) -> str:
        """Where the data are from, as the converter recorded it; "unknown" for a data set that others made."""
        return recorded_origin(self.data_yaml)

    @property
    def ok(self) -> bool:
        """No reason to refuse it."""
        return not self.problems

    @property
    def same_as_train(self) -> list[str]:
        """Splits whose images are those of train."""
        return [note.split for note in self.notes if note.rule == SAME_IMAGES]

    def summary(self) -> dict[str, Any]:
        """Counts per split, ready for JSON."""
        return {
            "data": str(self.data_yaml),
            "splits": {name: _counts(split, self.names) for name, split in self.splits.items()},
            "problems": [vars(p) for p in self.problems],
            "notes": [vars(p) for p in self.notes],
        }

    def digest(self) -> str:
        """md5 over class names, every image's name and size in bytes, and every row: 32 hex digits."""
        found = hashlib.md5(json.dumps(sorted(self.names.items())).encode(), usedforsecurity=False)
        for name, split in self.splits.items():
            for one in split.seen:
                found.update(f"{name}/{Path(one.image).name}/{one.n_bytes or 'none'}/".encode())
                found.update(b"" if one.rows is None else one.rows.tobytes())
        return found.hexdigest()

    def images(self, name: str) -> set[str]:
        """Name and size in bytes of every image of a split that ultralytics does not drop."""
        return {f"{Path(one.image).name} {one.n_bytes}" for one in self.splits[name].seen if one.rows is not None}

    def require(self) -> None:
        """Raise SpkdError with every remedy where the data set must not be trained on."""
        if self.problems:
            listed = "\n  ".join(str(p) for p in self.problems)
            got = f"{len(self.problems)} problem(s):\n  {listed}\n"
            do = "do what the arrows say, then run it again"
            raise SpkdError(self.data_yaml, "labels that ultralytics finds and trains on", got, do)


def recorded_origin(data_yaml: Path) -> str:
    """The origin in the converter's report beside data.yaml; "unknown" without one."""
    recorded = data_yaml.parent / coco.REPORT
    return str(json.loads(recorded.read_text("utf-8"))["origin"]) if recorded.is_file() else "unknown"


def _counts(split: Split, names: dict[int, str]) -> dict[str, Any]:
    objects = split.objects()
    return {
        "images": len(split.seen),
        "labels": len(split.seen) - len(split.missing),
        "objects": sum(objects.values()),
        "backgrounds": split.backgrounds,
        "missing_labels": len(split.missing),
        "corrupt": len(split.corrupt),
        "duplicates": split.duplicates,
        "degenerate": len(split.degenerate()),
        "outside": split.outside(),
        "classes": {names.get(c, str(c)): n for c, n in sorted(objects.items())},
    }


def check(data_yaml: Path, annotations: dict[str, Path], limits: Preflight, classes: Any = None) -> Report:
    """Look at every image and label of a data set as the pinned ultralytics would.

    annotations: COCO JSON per split to compare the labels with, {} = none.
    classes: `detect.train.classes`, to which ultralytics cuts the labels down before it trains; None = all.
    Raises SpkdError where data.yaml itself cannot be read, or `classes` are none of its.
    """
    hermetic.quiet()
    given = yaml_file.read(data_yaml)
    with hermetic.hushed():
        try:
            data = check_det_dataset(str(data_yaml), autodownload=False)
        except (FileNotFoundError, SyntaxError, TypeError, ValueError, KeyError) as error:
            got = " ".join(str(error).partition(THEIR_ADVICE)[0].split())
            raise SpkdError(data_yaml, "a data.yaml that ultralytics reads", got, yaml_file.remedy(given)) from None
    if empty := [name for name in ("train", "val") if not data.get(name)]:
        raise SpkdError(data_yaml, "images of train and val", f"`{empty[0]}:` with nothing", yaml_file.remedy(given))
    chosen = _chosen(classes, data["nc"], data_yaml)
    report = Report(data_yaml, data["names"], Path(data["path"]).absolute())
    if data["channels"] != 3:
        what = f"`channels: {data['channels']}`, but teachers, similarity maps and cost are of images with three"
        do = "leave `channels:` out: grey images are then read as three equal channels"
        report.problems.append(Problem("data.yaml", "channels", what, do))
    for name in ("train", "val", "test"):
        if data.get(name):
            split = scan.split(name, given.get(name, data[name]), data[name], data["nc"], chosen)
            report.splits[name] = split
            _labels(report, split, limits)
            if name in annotations and len(split.missing) < len(split.seen):
                report.problems += [Problem(name, *p) for p in truth.compare(annotations[name], split, report.names)]
    for name in ("val", "test"):
        if {"train", name} <= report.splits.keys():
            _shared(report, name)
    return report


def _chosen(classes: Any, n_classes: int, data_yaml: Path) -> list[int] | None:
    """`detect.train.classes` as a list without repeats; None = all. Raises SpkdError on what is no class index."""
    if classes is None:
        return None
    given = classes if isinstance(classes, list | tuple) else [classes]
    if not given or any(type(index) is not int or not 0 <= index < n_classes for index in given):
        expected = f"class indices of {data_yaml}, 0 to {n_classes - 1}"
        raise SpkdError("params.yaml: detect.train.classes", expected, classes, "correct it, or leave it out for all")
    return sorted(set(given))


def _files(seen: list[Seen]) -> tuple[str, ...]:
    """The first few images, and how many more there are."""
    more = (f"... and {len(seen) - 3} more",) if len(seen) > 3 else ()
    return tuple(s.image for s in seen[:3]) + more


def _labels(report: Report, split: Split, limits: Preflight) -> None:
    """Judge one split: found, whole, once, sized."""

    def problem(rule: str, what: str, do: str, examples: tuple[str, ...] = ()) -> None:
        report.problems.append(Problem(split.name, rule, what, do, examples))

    n = len(split.seen)
    if split.unreadable:
        return problem("no images", split.unreadable, f"correct `{split.name}:` in {report.data_yaml}")
    if len(split.missing) == n:
        first, stems = split.seen[0], {Path(s.image).stem for s in split.seen}
        where = (report.root, report.data_yaml, split.name, split.given[0])
        advice = layout.advise(*where, first.image, first.label, stems)
        return problem("labels not found", advice.what, advice.do, (f"looked for {first.label}",))
    if len(split.missing) > limits.max_missing * n:
        what = f"{len(split.missing)} of {n} images have no label file and would train as background"
        do = f"if these images show no object, say so with empty files: {_touch(split.missing)}"
        problem("labels missing", what, do, _files(split.missing))
    before = len(report.problems)
    _dropped(report, split)
    _rows(report, split, limits.max_duplicates)
    kept = _n_kept(split)
    empty, none_left = split.backgrounds, split.backgrounds == kept
    if kept and (none_left or empty > limits.max_background * kept) and len(report.problems) == before:
        named = "" if split.classes is None else f" of detect.train.classes {split.classes}"
        do = "name more classes there" if named else "label them"
        limit = "one at least must show an object" if none_left else "`detect.preflight.max_background` is the limit"
        problem("backgrounds", f"{empty} of {kept} images have no object{named}", f"{do}, or leave most out; {limit}")
    for rule, what, do in cached.compare(split, len(report.names)):
        problem(rule, what, do)
    return None


def _shared(report: Report, name: str) -> None:
    """Images of `train` in another split: all of them may be meant (said so), some of them are a leak."""
    train, split = report.splits["train"], report.splits[name]
    twice = overlap.shared(train, split)
    if twice and len(twice) == _n_kept(split) == _n_kept(train):
        what, do = "its images are those of train: results on them are no test", "name other images for a real test"
        report.notes.append(Problem(name, SAME_IMAGES, what, do))
    elif twice:
        what = f"{len(twice)} of {_n_kept(split)} images are in train too: results on them are no test"
        do = f"keep each image, with its label file, in one of {train.path[0]} and {split.path[0]}"
        report.problems.append(Problem(name, "shared images", what, do, _files(twice)))


def _n_kept(split: Split) -> int:
    """Images that ultralytics does not drop."""
    return len(split.seen) - len(split.corrupt)


def _touch(missing: list[Seen]) -> str:
    """The command that writes empty label files, in full for a few and as a loop for many."""
    if len(missing) <= 3:
        return f"touch {' '.join(shlex.quote(s.label) for s in missing)}"
    folder = shlex.quote(str(Path(missing[0].label).parent))
    images = shlex.quote(str(Path(missing[0].image).parent))
    return f'for f in {images}/*; do b=$(basename "$f"); t={folder}/"${{b%.*}}".txt; [ -e "$t" ] || : > "$t"; done'


def _dropped(report: Report, split: Split) -> None:
    """Images that ultralytics drops as corrupt, one problem per reason."""
    reasons: dict[str, list[Seen]] = {}
    for dropped in split.corrupt:
        key = next((k for k in WHY_DROPPED if k in dropped.reason), "")
        reasons.setdefault(key, []).append(dropped)
    for key, images in reasons.items():
        what = f"ultralytics drops {len(images)} image(s), e.g. because: {images[0].reason}"
        problem = Problem(split.name, "corrupt", what, WHY_DROPPED.get(key, UNREADABLE), _files(images))
        report.problems.append(problem)
    damaged = [s for s in split.seen if s.damaged_end and s.rows is not None]
    if damaged:
        what = f"{len(damaged)} JPEG(s) do not end as one; ultralytics would rewrite them in place"
        do = "fetch them again, or accept the rewrite"
        report.notes.append(Problem(split.name, "damaged end", what, do, _files(damaged)))


def _rows(report: Report, split: Split, max_duplicates: float) -> None:
    """Rows that ultralytics accepts in silence, or repairs, and that mean a broken converter."""
    rows = len(split.rows()) + split.duplicates
    if split.duplicates:
        files = _files([s for s in split.seen if s.duplicates])
        what = f"{split.duplicates} of {rows} rows are there twice"
        do = f"the converter was run twice and appended: delete the label files first; {RECONVERT}"
        many = split.duplicates > max_duplicates * rows
        (report.problems if many else report.notes).append(Problem(split.name, "duplicates", what, do, files))
    if degenerate := split.degenerate():
        what = f"{len(degenerate)} image(s) hold a box of no width or no height"
        do = f"delete those rows; {RECONVERT}"
        report.problems.append(Problem(split.name, "zero size", what, do, _files(degenerate)))
    if outside := split.outside():
        what = f"{outside} boxes reach over their image's edge"
        report.notes.append(Problem(split.name, "outside", what, f"clip them; {RECONVERT}"))


def histogram_text(report: Report, split: Split) -> str:
    """The most frequent classes of a split as one line."""
    counts = split.objects()
    shown = ", ".join(f"{report.names.get(c, c)} {k}" for c, k in counts.most_common(MOST_CLASSES))
    more = len(counts) - MOST_CLASSES
    return f"{shown}, and {more} more classes" if more > 0 else shown
