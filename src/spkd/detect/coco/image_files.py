"""Checks the image files of a COCO split and puts them into the YOLO layout: hard links or copies, never symlinks.

Contract: the originals are never changed. ultralytics rewrites a JPEG that lacks its end marker in place, so such a
file is copied, not linked.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from spkd.detect.coco.boxes import Drops
from spkd.detect.coco.instances import Instances
from spkd.errors import SpkdError
from spkd.meter import each

ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # EXIF
UPRIGHT = {"TIFF"}  # of these Pillow gives the size after turning
FORMATS = {"avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp"}  # of YOLO


def check(found: Instances, folder: Path, damaged: str, drops: Drops) -> np.ndarray:
    """(n_images,) bool: images that YOLO looks at, that exist, open, and have the size that their record states.

    damaged: "error" or "drop". Raises SpkdError that names the image, or where not one is usable.
    """
    usable = np.ones(len(found.files), bool)
    for row, why in _problems(found, folder):
        reason, _, got = why.partition(": ")
        name = f"image id {found.image_ids[row]} ({found.files[row]}{f', {got}' if got else ''})"
        if damaged == "error":
            do = "correct --images or the file, or leave such images out with --coco.damaged_images drop"
            raise SpkdError(f"{found.path}: {name}", f"a readable image of that size in {folder}", reason, do)
        usable[row] = False
        drops.add(reason, 1, name)
    if not usable.any():
        do = "correct --images"
        raise SpkdError(folder, f"the images of {found.path}", next(iter(drops.first.values())) + " ...", do)
    return usable


# ModuleNotFoundError: where ultralytics was imported before, it wraps Image.open and asks for a HEIF package.
DAMAGE = (
    OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError, ModuleNotFoundError,
)  # fmt: skip


def _problems(found: Instances, folder: Path) -> Iterator[tuple[int, str]]:
    records = list(zip(found.files, found.size.tolist(), strict=True))
    for row, (name, expected) in enumerate(each(f"looking at the images of {folder}", records)):
        if (suffix := name.rpartition(".")[2]).lower() not in FORMATS:
            yield row, f"image format that YOLO does not look at: .{suffix}"
            continue
        try:
            with Image.open(folder / name) as image:
                sideways = image.getexif().get(ORIENTATION) in SIDEWAYS and image.format not in UPRIGHT
                size = image.size[::-1] if sideways else image.size
                if image.format == "JPEG" and not ends(folder / name):
                    image.load()  # as ultralytics does there, which drops what was cut short
        except FileNotFoundError:
            yield row, "image missing on disk"
        except DAMAGE as error:
            yield row, f"image unreadable: {error}"
        else:
            if list(size) != expected:
                told, real = (f"{w} x {h}" for w, h in (expected, size))
                yield row, f"image size disagrees with its record: record {told}, file {real} pixels"


def place(folder: Path, names: list[str], to: Path, to_names: list[str], how: str) -> None:
    """Put images below `to`, a new folder. how: "hardlink" (a copy only where that is impossible) or "copy"."""
    for parent in {(to / name).parent for name in to_names}:
        parent.mkdir(parents=True, exist_ok=True)
    pairs = list(zip(names, to_names, strict=True))
    for name, to_name in each(f"{'copying' if how == 'copy' else 'linking'} the images of {folder}", pairs):
        source = (folder / name).resolve()
        if how == "copy" or not _linked(source, to / to_name):
            shutil.copyfile(source, to / to_name)


def _linked(source: Path, to: Path) -> bool:
    if source.suffix.lower() in (".jpg", ".jpeg") and not ends(source):
        return False
    with suppress(OSError):  # another file system, or a limit of links
        os.link(source, to)
        return True
    return False


def ends(source: Path) -> bool:
    """Whether a JPEG has its end marker."""
    with source.open("rb") as file:
        file.seek(max(-2, -os.fstat(file.fileno()).st_size), os.SEEK_END)
        return file.read() == b"\xff\xd9"


def layout(files: list[str], name_of: Callable[[int], str]) -> list[str]:
    """Names below images/<split>/: as they are, without folders called `images` (ultralytics would look beside them).

    name_of: an image's row in words. Raises SpkdError where two images would share one label file.
    """
    placed, seen = [], dict[str, int]()
    for row, file in enumerate(files):
        parts = file.split("/")
        name = "/".join([p for p in parts[:-1] if p != "images"] + parts[-1:])
        stem = name.rpartition(".")[0].casefold()
        if stem in seen:
            got = f"{file!r} and {files[seen[stem]]!r} would share {name.rpartition('.')[0]}.txt"
            raise SpkdError(name_of(row), "a label file of its own for each image", got, "rename one of them")
        seen[stem] = row
        placed.append(name)
    return placed
