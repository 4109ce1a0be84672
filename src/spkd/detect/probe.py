"""A fixed probe of validation images: which of them, and which objects in them, look alike to a model.

The same images and objects for every run on a data set, sorted by class, so that maps of two runs can be laid side by
side.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from ultralytics.utils.patches import imread

from spkd import atomic, plugin
from spkd.detect import features
from spkd.errors import SpkdError

GREY = 114


@dataclass(frozen=True)
class Probe:
    """Images and objects to compare.

    images: (n, 3, side, side) float32 in [0, 1]. paths: their files. image_class: (n,) most frequent class, ascending.
    boxes: (k, 4) of the square image; box_image: (k,) ascending. object_order: (k,) that sorts objects by class;
    object_class: (k,) after sorting.
    """

    images: Tensor
    paths: list[str]
    image_class: np.ndarray
    boxes: Tensor
    box_image: Tensor
    object_order: Tensor
    object_class: np.ndarray


def choose(labels: list[dict[str, Any]], n_images: int, n_objects: int, side: int) -> Probe:
    """The probe of a data set: evenly chosen images that show an object, and evenly chosen objects of them.

    labels: ultralytics' label list (im_file, cls (m, 1), bboxes (m, 4) in [0, 1]). side: of the square input [pixels].
    Raises SpkdError where no image shows an object.
    """
    shown = sorted((entry for entry in labels if len(entry["cls"])), key=lambda entry: str(entry["im_file"]))
    if not shown:
        do = "label them, or name classes that they show in detect.train.classes"
        raise SpkdError("the similarity maps of `detect`", "validation images with an object", "none", do)
    n_images = min(n_images, len(shown))
    picked = [shown[i] for i in np.unique(np.linspace(0, len(shown) - 1, n_images).round().astype(int))]
    main = [Counter(entry["cls"].reshape(-1).astype(int).tolist()).most_common(1)[0][0] for entry in picked]
    order = sorted(range(len(picked)), key=lambda i: (main[i], str(picked[i]["im_file"])))
    images, boxes, box_image, classes = [], [], [], []
    for place, i in enumerate(order):
        image, moved = _letterbox(picked[i], side)
        images.append(image)
        boxes.append(moved)
        box_image += [place] * len(moved)
        classes += picked[i]["cls"].reshape(-1).astype(int).tolist()
    all_boxes, of_image, of_class = torch.cat(boxes), torch.tensor(box_image), torch.tensor(classes)
    kept = features.evenly(len(all_boxes), n_objects, torch.device("cpu"))
    by_class = of_class[kept].argsort(stable=True)
    return Probe(
        torch.stack(images), [str(picked[i]["im_file"]) for i in order], np.array([main[i] for i in order]),
        all_boxes[kept], of_image[kept], by_class, of_class[kept][by_class].numpy(),
    )  # fmt: skip


def _letterbox(entry: dict[str, Any], side: int) -> tuple[Tensor, Tensor]:
    """((3, side, side) image in [0, 1], (m, 4) boxes in it): scaled to fit, centred on grey."""
    import cv2

    pixels = imread(str(entry["im_file"]))
    h, w = pixels.shape[:2]
    ratio = side / max(h, w)
    new_w, new_h = max(round(w * ratio), 1), max(round(h * ratio), 1)
    left, top = (side - new_w) // 2, (side - new_h) // 2
    canvas = np.full((side, side, 3), GREY, np.uint8)
    canvas[top : top + new_h, left : left + new_w] = cv2.resize(pixels, (new_w, new_h), interpolation=cv2.INTER_AREA)
    boxes = torch.as_tensor(np.asarray(entry["bboxes"], np.float32))
    scale = torch.tensor([new_w, new_h, new_w, new_h]) / side
    shift = torch.tensor([left, top, 0, 0]) / side
    image = torch.from_numpy(np.ascontiguousarray(canvas[..., ::-1].transpose(2, 0, 1))).float() / 255
    return image, boxes * scale + shift


@torch.no_grad()
def maps(model: nn.Module, probe: Probe, levels: list[str], mode: str) -> dict[str, np.ndarray]:
    """{"image/P3": (n, n), "object/P3": (k, k), ...}: products G = F F^T of a model in eval mode, not normalised.

    mode: how images are compared (`batch` or `pooled`; `object` compares images as `pooled`). Levels that the model
    lacks are left out. The model's own mode is put back.
    """
    part = plugin.load("losses", "sp")
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    found = features.of(model(probe.images.to(device)))
    model.train(was_training)
    names = features.level_names(torch.as_tensor(model.stride))
    answer = {}
    for name, level in zip(names, found, strict=True):
        if name not in levels:
            continue
        for what, how in (("image", "batch" if mode == "batch" else "pooled"), ("object", "object")):
            rows = features.rows(level, how, probe.boxes.to(device), probe.box_image.to(device))
            rows = rows[probe.object_order.to(device)] if what == "object" else rows
            answer[f"{what}/{name}"] = part.similarity(rows).cpu().numpy()
    return answer


def save(path: Path, student: dict[str, np.ndarray], teacher: dict[str, np.ndarray], probe: Probe) -> None:
    """Write maps and classes as one npz, atomically: a reader sees a whole file or none."""
    arrays = {f"student/{k}": v for k, v in student.items()} | {f"teacher/{k}": v for k, v in teacher.items()}
    with atomic.file(path, sync=False) as new, new.open("wb") as file:
        np.savez(file, allow_pickle=False, image_class=probe.image_class, object_class=probe.object_class, **arrays)
