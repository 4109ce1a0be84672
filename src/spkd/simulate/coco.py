"""Small rendered scenes in the official COCO 2017 format: folders of JPEGs and instances JSONs, as the zips unpack.

Contract: the same seed gives the same bytes (with the same Pillow). Ids lie in COCO's 91-id space with gaps; there are
crowds with RLE, images without objects, boxes that reach out of their image, one that lies outside, one without width.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from spkd import atomic
from spkd.simulate.shapes import KINDS, Kind

N_IMAGES = {"train2017": 40, "val2017": 12}
SIZES = ((160, 120), (120, 160), (144, 144), (160, 128))  # width, height [pixels]
QUALITY = 84
DETAIL = 4  # scenes are drawn this much larger and scaled down, for smooth edges


def write(folder: Path, seed: int) -> list[Path]:
    """The files written: <folder>/{train2017,val2017,annotations}/, README.md and the marker SIMULATED."""
    rng = np.random.Generator(np.random.PCG64([seed, 2017]))
    with atomic.folder(folder) as new:
        (new / "annotations").mkdir()
        for split, n_images in N_IMAGES.items():
            (new / split).mkdir()
            tree = _split(new / split, n_images, rng)
            text = json.dumps(tree, separators=(",", ":"))
            (new / "annotations" / f"instances_{split}.json").write_text(text, encoding="utf-8")
        (new / "SIMULATED").write_text("Rendered by spkd simulate; no photograph.\n", encoding="utf-8")
        (new / "README.md").write_text(README, encoding="utf-8")
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _split(folder: Path, n_images: int, rng: np.random.Generator) -> dict[str, Any]:
    """Draw a split's images; returns its instances JSON."""
    images, annotations = [], []
    ids = np.cumsum(rng.integers(1, 30, n_images)) + (0 if folder.name.startswith("train") else 10_000)
    for index, image_id in enumerate(ids.tolist()):
        size = SIZES[int(rng.integers(len(SIZES)))]
        scene = _background(size, rng)
        empty = index % 12 == 7
        objects = [] if empty else _objects(scene, size, rng, out_of_image=index % 8 == 3)
        if index % 12 == 5:
            objects.append(_crowd(scene, size, rng))
        if index == 0:
            objects += _degenerate(size)
        name = f"{image_id:012d}.jpg"
        small = scene.resize(size, Image.Resampling.BOX)
        small.save(folder / name, quality=QUALITY, optimize=True, subsampling=0)
        images.append({
            "license": 1, "file_name": name, "coco_url": "", "height": size[1], "width": size[0],
            "date_captured": "2017-09-01 00:00:00", "flickr_url": "", "id": image_id,
        })  # fmt: skip
        annotations += [{**o, "image_id": image_id, "id": 1000 * image_id + 7 * k + 1} for k, o in enumerate(objects)]
    keys = ("segmentation", "area", "iscrowd", "image_id", "bbox", "category_id", "id")  # the official order
    order = rng.permutation(len(annotations))
    return {
        "info": {
            "description": "SIMULATED scenes in the format of COCO 2017", "url": "", "version": "1.0", "year": 2017,
            "contributor": "spkd simulate", "date_created": "2017/09/01",
        },
        "licenses": [{"url": "http://creativecommons.org/publicdomain/zero/1.0/", "id": 1, "name": "CC0"}],
        "images": images,
        "annotations": [{key: annotations[i][key] for key in keys} for i in order],
        "categories": [{"supercategory": k.supercategory, "id": k.id, "name": k.name} for k in KINDS],
    }  # fmt: skip


def _background(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """A soft two-color gradient with grey slabs and fine noise, DETAIL times `size`."""
    width, height = size
    low, high = rng.integers(90, 200, (2, 3))
    ramp = np.linspace(0, 1, height)[:, None, None]
    pixels = low + (high - low) * ramp + rng.normal(0, 5, (height, width, 1))
    scene = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).resize(
        (width * DETAIL, height * DETAIL), Image.Resampling.NEAREST
    )
    draw = ImageDraw.Draw(scene)
    for _ in range(int(rng.integers(1, 4))):
        x, y, w, h = rng.random(4) * (width, height, width / 3, height / 4) * DETAIL
        grey = int(rng.integers(70, 210))
        draw.rectangle((int(x), int(y), int(x + w), int(y + h)), fill=(grey, grey, grey))
    return scene


def _objects(
    scene: Image.Image, size: tuple[int, int], rng: np.random.Generator, out_of_image: bool
) -> list[dict[str, Any]]:
    """Draw 2 to 5 objects that hardly overlap; with out_of_image the first one reaches over the left border."""
    taken: list[np.ndarray] = []
    objects = []
    for index in range(int(rng.integers(2, 6))):
        kind = KINDS[int(rng.integers(len(KINDS)))]
        for _ in range(30):
            width = rng.uniform(*kind.size) * min(size)
            extent = np.array([width, width * kind.aspect * rng.uniform(0.9, 1.1)])
            corner = rng.random(2) * np.maximum(np.array(size) - extent, 1)
            if out_of_image and index == 0:
                corner[0] = -extent[0] * 0.3
            box = np.concatenate([corner, corner + extent])
            if all(_overlap(box, other) < 0.1 for other in taken) and box[3] <= size[1] and box[2] <= size[0]:
                taken.append(box)
                objects.append(_draw(scene, kind, corner, extent, rng))
                break
    return objects


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over the smaller of two boxes (x1, y1, x2, y2)."""
    inside = np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None).prod()
    return float(inside / min((b[2:] - b[:2]).prod() for b in (one, other)))


def _draw(
    scene: Image.Image, kind: Kind, corner: np.ndarray, extent: np.ndarray, rng: np.random.Generator
) -> dict[str, Any]:
    """Draw one object into the unit square's image at corner + extent [pixels]; its annotation without ids."""
    draw, tint = ImageDraw.Draw(scene), rng.integers(-18, 19, 3)
    outlines = []
    for color, points in kind.parts:
        placed = corner + np.array(points) * extent
        outlines.append(placed.round(2))
        fill = tuple(np.clip(np.array(color) + tint, 0, 255).tolist())
        draw.polygon([tuple(p) for p in (placed * DETAIL).round().astype(int).tolist()], fill=fill)
    solid = outlines[: kind.solid]
    low, high = np.concatenate(solid).min(0), np.concatenate(solid).max(0)
    return {
        "segmentation": [outline.ravel().tolist() for outline in solid],
        "area": round(sum(_area(outline) for outline in solid), 4),
        "iscrowd": 0,
        "bbox": np.concatenate([low, high - low]).round(2).tolist(),
        "category_id": kind.id,
    }


def _area(outline: np.ndarray) -> float:
    """Area of a polygon (m, 2): the shoelace formula."""
    x, y = outline.T
    return float(abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2)


def _crowd(scene: Image.Image, size: tuple[int, int], rng: np.random.Generator) -> dict[str, Any]:
    """Draw a group of tiny persons; one crowd annotation with an uncompressed RLE of the whole image."""
    person, mask = KINDS[0], Image.new("1", size)
    origin = rng.random(2) * np.array(size) * 0.5
    for _ in range(9):
        corner = origin + rng.random(2) * np.array(size) * 0.35
        extent = np.array([5.0, 12.0])
        _draw(scene, person, corner, extent, rng)
        ImageDraw.Draw(mask).rectangle((*corner.astype(int).tolist(), *(corner + extent).astype(int).tolist()), fill=1)
    inside = np.array(mask)
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    flat = inside.ravel(order="F").astype(np.int8)
    changes = np.flatnonzero(np.diff(np.concatenate([[0], flat])))
    counts = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    return {
        "segmentation": {"counts": counts, "size": [size[1], size[0]]},
        "area": int(inside.sum()),
        "iscrowd": 1,
        "bbox": [float(v) for v in box],
        "category_id": person.id,
    }


def _degenerate(size: tuple[int, int]) -> list[dict[str, Any]]:
    """Two annotations that a converter must drop: a box without width (COCO has such), and one outside of the image."""
    boxes = [[10.0, 12.5, 0.0, 8.0], [float(size[0]) + 4, 5.0, 12.0, 9.0]]
    common = {"segmentation": [], "area": 0.0, "iscrowd": 0, "category_id": KINDS[3].id}
    return [{**common, "bbox": box} for box in boxes]


README = f"""Simulated scenes in the format of COCO 2017 (images, instances JSON), laid out as the official zips unpack.

Made by `spkd simulate --only coco` (src/spkd/simulate/coco.py); these are drawings, no photographs. The file SIMULATED
marks everything made from them. {len(KINDS)} classes whose ids lie in COCO's 91-id space with gaps
({", ".join(f"{k.id} {k.name}" for k in KINDS)}),
crowd regions with RLE, images without objects, boxes that reach out of their image, one box outside of it and one
without width. The real images: `dvc exp run -S coco.source=val2017 coco` (1.1 GB; `coco2017`: 20.4 GB).
"""
