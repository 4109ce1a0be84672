"""What trained weights are worth on a data set: ultralytics' validator, COCO's metric, size, speed. No tracking."""

import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.utils.torch_utils import get_flops

from spkd.detect import coco_metric, hardware, hermetic

# Training arguments that say what is detected and what counts as found; ultralytics' last validation takes them too.
OF_THE_TASK = ("single_cls", "classes", "conf", "iou", "max_det", "agnostic_nms", "nms", "rect", "augment")
# Images of a validation step, as of ultralytics' own `val`: which images share a shape depends on it, so that results
# that stand side by side are of one, whatever the batch and the GPUs of the training.
BATCH = 16
COLUMNS = ("class", "images", "objects", "precision", "recall", "AP50", "AP50-95")


class _Collecting(DetectionValidator):
    """Keeps its detections for COCO's metric instead of measuring them with its own rebuilt annotations."""

    def pred_to_json(self, predn: dict[str, Any], pbatch: dict[str, Any]) -> None:
        """ultralytics' own, with the image's whole path: two folders may hold one name."""
        known = len(self.jdict)
        super().pred_to_json(predn, pbatch)
        for one in self.jdict[known:]:
            one["file_name"] = str(pbatch["im_file"])

    def eval_json(self, stats: dict[str, Any]) -> dict[str, Any]:
        return stats


@dataclass(frozen=True)
class Result:
    """numbers: precision, recall, mAP50, mAP50-95 over all classes. per_class: table columns.

    coco: {} where `without_coco` says why. plots: files that the validator drew.
    """

    numbers: dict[str, float]
    per_class: dict[str, list[Any]]
    coco: dict[str, float]
    plots: list[Path]


def without_coco(annotations: Path | None, train: Mapping[str, Any]) -> str:
    """Why an evaluation has no COCO metric, "" where it has one. Arguments as of `validate`."""
    if train.get("single_cls") or train.get("classes") is not None:
        return "detect.train has single_cls or classes, and the JSON knows all classes"
    return "" if annotations else "no COCO JSON that the labels of `val` come from; detect.annotations may name it"


def validate(
    weights: Path, data: Path, folder: Path, imgsz: int, device: str, plots: bool,
    annotations: Path | None, train: Mapping[str, Any],
) -> Result:  # fmt: skip
    """Validate weights on the val split. folder: for plots and predictions.json. annotations: the split's COCO JSON.

    train: further training arguments; those that say what counts as a detection hold here too (OF_THE_TASK).
    Images keep their shape and get as little grey as their batch allows, as in ultralytics' own validation and while
    training; `rect: false` pads all of them to squares.
    """
    hermetic.quiet()
    if without_coco(annotations, train):
        annotations = None
    args: dict[str, Any] = {"rect": True} | {k: train[k] for k in OF_THE_TASK if k in train}
    args |= {"task": "detect", "mode": "val", "model": str(weights), "data": str(data), "imgsz": imgsz, "batch": BATCH}
    args |= {"plots": plots, "device": device.split(",")[0], "workers": 0, "verbose": False}
    validator = _Collecting(save_dir=folder, args={**args, "save_json": annotations is not None})
    threads = torch.get_num_threads()
    validator(model=str(weights))
    torch.set_num_threads(threads)
    metrics = validator.metrics
    precision, recall, map50, map50_95 = (float(v) for v in metrics.mean_results())
    numbers = {"precision": precision, "recall": recall, "mAP50": map50, "mAP50-95": map50_95}
    columns: dict[str, list[Any]] = {k: [] for k in COLUMNS}
    for place, index in enumerate(metrics.ap_class_index):
        values = (validator.names[index], int(metrics.nt_per_image[index]), int(metrics.nt_per_class[index]))
        for key, value in zip(columns, (*values, *(float(v) for v in metrics.class_result(place))), strict=True):
            columns[key].append(value)
    coco = {}
    if annotations is not None:
        index_of = {category: i for i, category in enumerate(validator.class_map)}
        detections = [{**d, "index": index_of[d["category_id"]]} for d in validator.jdict]
        coco = coco_metric.measure(annotations, validator.dataloader.dataset.im_files, detections)
    drawn = sorted(p for p in folder.glob("*") if p.suffix in {".png", ".jpg"})
    return Result(numbers, columns, coco, drawn)


def fused(model: nn.Module, device: str | torch.device = "cpu") -> Any:
    """A copy as it infers, in eval mode: each convolution one layer with its BatchNorm, and one head only.

    The head that it lacks is the one-to-one head of YOLOv10 and YOLO26, which ultralytics uses only where asked to.
    """
    copied: Any = deepcopy(model).to(device).eval()
    with hermetic.hushed(), torch.no_grad():
        return copied.fuse(verbose=False)


def cost(model: nn.Module, imgsz: int, device: str | torch.device, rounds: int = 15) -> dict[str, float]:
    """{"parameters", "gflops", "latency_ms"} of one square image through a model as it infers: fused, with one head.

    The trained weights are a little more: BatchNorm, and a second head where a network trains with two.
    latency_ms: the shortest of `rounds` after 3 unmeasured ones, since other programs lengthen a time and nothing
    shortens it; without image loading and NMS. It stays a wall time of this machine at this moment.
    """
    lean = fused(model, device)
    parameters, gflops = sum(p.numel() for p in lean.parameters()), float(get_flops(lean, imgsz))
    with torch.no_grad():
        image = torch.zeros(1, 3, imgsz, imgsz, device=device)
        times = []
        for _ in range(rounds + 3):
            hardware.wait(image.device)
            start = time.perf_counter()
            lean(image)
            hardware.wait(image.device)
            times.append(time.perf_counter() - start)
    return {"parameters": parameters, "gflops": gflops, "latency_ms": min(times[3:]) * 1e3}
