"""A contact sheet: images with the boxes that would be trained on, so that a person can see what no count shows."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from spkd.detect.checks.scan import Seen
from spkd.errors import SpkdError

COLOURS = ["#e6194b", "#3cb44b", "#ffe119", "#4363d8", "#f58231", "#911eb4", "#46f0f0", "#f032e6", "#bcf60c", "#fabebe"]


def draw(seen: list[Seen], names: dict[int, str], columns: int = 4, rows: int = 3, side: int = 240) -> np.ndarray:
    """(rows * side, columns * side, 3) uint8: evenly chosen images with boxes and names, those without objects last.

    side: of one square cell [pixels]. Images that ultralytics drops are left out.
    """
    usable = [s for s in seen if s.rows is not None]
    usable.sort(key=lambda s: s.rows is None or not len(s.rows))
    n = min(columns * rows, len(usable))
    chosen = [usable[i] for i in np.linspace(0, len(usable) - 1, n).astype(int)]
    sheet = Image.new("RGB", (columns * side, rows * side), "#202020")
    for i, one in enumerate(chosen):
        cell = _cell(one, names, side)
        row, column = divmod(i, columns)
        sheet.paste(cell, (column * side + (side - cell.width) // 2, row * side + (side - cell.height) // 2))
    return np.asarray(sheet)


def _cell(one: Seen, names: dict[int, str], side: int) -> Image.Image:
    with Image.open(one.image) as opened:
        cell = ImageOps.contain(ImageOps.exif_transpose(opened).convert("RGB"), (side - 4, side - 4))
    pen, font = ImageDraw.Draw(cell), ImageFont.load_default(size=10)
    for c, x, y, w, h in one.rows if one.rows is not None else ():
        box = [(x - w / 2) * cell.width, (y - h / 2) * cell.height, (x + w / 2) * cell.width, (y + h / 2) * cell.height]
        colour = COLOURS[int(c) % len(COLOURS)]
        pen.rectangle([float(v) for v in box], outline=colour, width=2)
        at, name = (float(box[0]) + 2, float(box[1]) + 1), names.get(int(c), str(int(c)))
        told = name if name.isascii() else str(int(c))  # the font has no Hangul: a number says more than boxes
        pen.rectangle(pen.textbbox(at, told, font=font), fill="#202020")
        pen.text(at, told, fill="white", font=font)
    return cell


def target(path: Path) -> Path:
    """The path itself. Raises SpkdError where its ending names no kind of picture."""
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise SpkdError("--sheet", "a file that ends in .png or .jpg", path, f"write {path}.png")
    return path


def save(picture: np.ndarray, path: Path) -> Path:
    """Write a sheet as PNG or JPEG, after the ending of a path that `target` let pass."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path
