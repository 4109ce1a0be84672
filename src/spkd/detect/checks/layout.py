"""Where the labels are, when ultralytics does not find them, and the exact commands that put them where it looks.

The rule: ultralytics replaces the last `/images/` of an image's resolved path by `/labels/` and the ending by `.txt`.
Pure reading: nothing here moves a file.
"""

import os
import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

IMAGES, LABELS = f"{os.sep}images{os.sep}", f"{os.sep}labels{os.sep}"
ASIDE = {"classes.txt", "readme.txt", "license.txt"}


@dataclass(frozen=True)
class Advice:
    """What is wrong with the layout, in one sentence, and what to type."""

    what: str
    do: str


def linked_folder(root: Path, given: str) -> tuple[Path, Path] | None:
    """(link, target) of the folder link on the way to a split's images, or None: ultralytics follows such links."""
    at = root / given
    for part in [at, *at.parents]:
        if part == root or root not in part.parents:
            return None
        if part.is_symlink() and part.is_dir():
            return part, part.resolve()
    return None


def find_labels(root: Path, stems: set[str]) -> Path | None:
    """The folder below root that holds the most label files named like the split's images; None where there is none."""
    counts: Counter[str] = Counter()
    for folder, _, files in os.walk(root, followlinks=True):
        counts[folder] = sum(f.endswith(".txt") and f.lower() not in ASIDE and f[:-4] in stems for f in files)
    folder, n = max(counts.items(), key=lambda item: item[1], default=("", 0))
    return Path(folder) if n else None


def advise(root: Path, data_yaml: Path, split: str, given: str, image: str, looked: str, stems: set[str]) -> Advice:
    """Why no label was found for a split, and what to type. image, looked: an image and the label path tried for it."""
    link = linked_folder(root, given)
    if link:
        return _unlink(data_yaml, split, *link)
    images, expected = Path(image).parent, Path(looked).parent
    found = find_labels(root, stems)
    if found is None:
        return Advice(
            f"no label file for its images anywhere below {root}",
            "write them: spkd convert-coco --annotations instances.json --images "
            f"{shlex.quote(str(images))} --out NEW_FOLDER, then use NEW_FOLDER/data.yaml",
        )
    if IMAGES in f"{images}{os.sep}":
        return Advice(
            f"the labels are in {found}, but ultralytics looks in {expected}", f"move them: {_move(found, expected)}"
        )
    return _rename(root, data_yaml, split, given, images, found)


def _rename(root: Path, data_yaml: Path, split: str, given: str, images: Path, found: Path) -> Advice:
    """The images are in no folder called `images`: the layout coco/train2017 beside coco/labels/train2017."""
    head, sep, tail = f"{found}{os.sep}".rpartition(LABELS)
    if sep:
        target = Path(head) / "images" / tail.rstrip(os.sep)
        commands = [_move(images, target)]
    else:
        target = root / "images" / images.name
        commands = [_move(images, target), _move(found, root / "labels" / images.name)]
    inside = os.path.relpath(target, root)
    return Advice(
        f"the labels are in {found}, but the images are in {images}, which is in no folder called 'images', "
        "so ultralytics looks for each label beside its image",
        f"move the images: {' && '.join(commands)} ; "
        f"then write `{split}: {inside}` instead of `{split}: {given}` in {data_yaml}",
    )


def _unlink(data_yaml: Path, split: str, link: Path, target: Path) -> Advice:
    folder, files = shlex.quote(str(link)), shlex.quote(str(target))
    listing = shlex.quote(str(data_yaml.parent / f"{split}.txt"))
    return Advice(
        f"{link} is a link to a folder; ultralytics follows it to {target} before it looks for labels, "
        "and finds none there",
        f"replace the folder link by links to the files: rm {folder} && cp -rs {files} {folder} ; "
        f"or keep it and list the images: find -L {folder} -type f > {listing}, "
        f"then write `{split}: {split}.txt` in {data_yaml}",
    )


def _move(source: Path, target: Path) -> str:
    return f"mkdir -p {shlex.quote(str(target.parent))} && mv {shlex.quote(str(source))} {shlex.quote(str(target))}"
