"""COCO to YOLO in one go: images/<split>, labels/<split>, data.yaml and conversion.json, where YOLO really looks.

Contract: the output folder appears complete or stays as it was; what came in is never changed. Neither ultralytics nor
torch is imported (3 s, 690 MB).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from spkd import atomic
from spkd.detect.coco import boxes, image_files, instances, label_files
from spkd.detect.coco.boxes import Drops
from spkd.errors import SpkdError

REPORT, DATA, ABSENT = "conversion.json", "data.yaml", "ABSENT"
RAW, FETCHED = Path("data/raw/coco"), Path("data/fetched/coco")
OUT = Path("data/coco")  # what the DVC stage makes of coco.source


@dataclass(frozen=True)
class Split:
    """One split to convert. name: its folder in images/ and labels/. images: the folder that file_name starts from."""

    name: str
    annotations: Path
    images: Path


def source_folder(source: str) -> Path:
    """The folder that `coco.source` means: what data.dvc brought, what `spkd fetch coco` brought, or the user's own."""
    return {"raw": RAW, "val2017": FETCHED, "coco2017": FETCHED}.get(source, Path(source))


def convert(
    splits: Sequence[Split], out: Path, images: str, segments: bool, damaged_images: str, origin: str
) -> dict[str, Any]:
    """The conversion report, once `out` holds the whole YOLO data set.

    images: "hardlink" or "copy". segments: outlines instead of boxes. damaged_images: "error" or "drop".
    origin: "simulated" or where the data is from; kept in the report.
    Report: {origin, segments, classes, category_ids, splits: {name: {annotations, sha256 (of that JSON), images,
    backgrounds, boxes, n_clipped, n_from_box, not_in_json, drops: {reason: {n, first}}, images_dropped: same,
    classes: {name: n}}}}.
    Raises SpkdError that names the record on damaged input; nothing is written then.
    """
    _check_folders(splits, out)
    report: dict[str, Any] = {"format": 1, "origin": origin, "segments": segments, "splits": {}}
    with atomic.folder(out) as new:
        for split in splits:
            found = instances.read(split.annotations, segments)
            head = {"classes": found.classes, "category_ids": found.category_ids}
            if any(report.setdefault(key, value) != value for key, value in head.items()):
                do = "all splits must have the same classes"
                raise SpkdError(split.annotations, "the categories of the first split", "others", do)
            report["splits"][split.name] = _convert_split(split, found, new, images, damaged_images)
        (new / DATA).write_text(data_yaml([s.name for s in splits], report["classes"], origin), encoding="utf-8")
        (new / REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return report


def leave_out(out: Path, why: str) -> None:
    """Replace the output folder by a note that there is nothing to convert: the stages go on, preflight says why."""
    _check_folders([], out)
    with atomic.folder(out) as new:
        (new / ABSENT).write_text(f"{why}\n", encoding="utf-8")


def _convert_split(
    split: Split, found: instances.Instances, new: Path, images: str, damaged_images: str
) -> dict[str, Any]:
    """One split below `new`; its part of the report."""
    drops, image_drops = Drops(), Drops()
    names = image_files.layout(found.files, lambda row: f"{split.annotations}: image id {found.image_ids[row]}")
    usable = image_files.check(found, split.images, damaged_images, image_drops)
    kept, n_from_box = write_labels(found, usable, names, new / "labels" / split.name, drops)
    chosen = np.flatnonzero(usable).tolist()
    sources = [found.files[row] for row in chosen]
    image_files.place(split.images, sources, new / "images" / split.name, [names[row] for row in chosen], images)
    return {
        "annotations": split.annotations.name,
        "sha256": sha256(split.annotations),
        "images": len(chosen),
        "backgrounds": len(chosen) - len(np.unique(kept.image)),
        "boxes": len(kept.label),
        "n_clipped": int(kept.clipped.sum()),
        "n_from_box": n_from_box,
        "not_in_json": _n_not_in_json(split.images, set(found.files)),
        "drops": drops.report(),
        "images_dropped": image_drops.report(),
        "classes": boxes.histogram(found, kept),
    }


def sha256(path: Path) -> str:
    """64 hex digits that name a file's content (1 s for COCO's 450 MB)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_labels(
    found: instances.Instances, usable: np.ndarray, names: list[str], folder: Path, drops: Drops
) -> tuple[boxes.Rows, int]:
    """(rows written, objects whose outline is their box); one label file below `folder` for every usable image."""
    kept, n_from_box = boxes.rows(found, usable, drops, once=found.polygons is None), 0
    if found.polygons is None:
        contents = list(label_files.box_files(len(names), kept))
    else:
        contents, again, n_from_box = label_files.outline_files(found, kept)
        if again.any():
            first = found.name(int(kept.annotation[np.argmax(again)]))
            drops.add("same class and outline twice in an image", int(again.sum()), first)
            kept = kept.only(~again)
    chosen = np.flatnonzero(usable).tolist()
    label_files.write(folder, [names[row] for row in chosen], [contents[row] for row in chosen])
    return kept, n_from_box


def data_yaml(splits: list[str], classes: list[str], origin: str) -> str:
    """The text of data.yaml. It has no `path`, so ultralytics looks beside the file wherever the folder is moved."""
    train = next((s for s in splits if s.startswith("train")), splits[0])
    val = next((s for s in splits if s.startswith("val")), next((s for s in splits if s != train), train))
    entries: dict[str, Any] = {"train": f"images/{train}", "val": f"images/{val}"}
    test = next((s for s in splits if s.startswith("test") and s not in (train, val)), None)
    if test:
        entries["test"] = f"images/{test}"
    note = "# train and val are the SAME images: results on them are no test.\n" if train == val else ""
    entries |= {"nc": len(classes), "names": dict(enumerate(classes))}
    body = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)
    return f"# Written by `spkd convert-coco`; origin: {origin}\n{note}{body}"


def _n_not_in_json(folder: Path, known: set[str]) -> int:
    """Image files in the folder that no record names; they are not converted."""
    there = (p for p in folder.rglob("*") if p.suffix.lower().removeprefix(".") in image_files.FORMATS)
    return sum(p.relative_to(folder).as_posix() not in known for p in there)


def _check_folders(splits: Sequence[Split], out: Path) -> None:
    """Raises SpkdError where the output would replace something else, or a split's name would mislead YOLO."""
    if out.is_dir() and any(out.iterdir()) and not any((out / name).is_file() for name in (REPORT, ABSENT)):
        raise SpkdError(out, f"a new folder, or one with {REPORT}", "other content", "name another --out")
    if out.is_file():
        raise SpkdError(out, "a folder", "a file", "name another --out")
    for split in splits:
        if not split.images.is_dir():
            raise SpkdError(split.images, "the image folder", "no such folder", "correct --images")
        if split.images.resolve().is_relative_to(out.resolve()) or split.annotations.resolve().is_relative_to(
            out.resolve()
        ):
            raise SpkdError(out, "a folder beside the input", "one that holds the input", "name another --out")
        if split.name in ("images", "labels", "") or set(split.name) & set("/\\:") or split.name[0] == ".":
            do = "name it with --split, for example train"
            raise SpkdError(f"split {split.name!r}", "a plain name other than images and labels", split.name, do)
