from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import spkd.detect  # noqa: F401 - before any test imports ultralytics, whose settings it makes private


def draw_scene(path: Path, boxes: list[tuple[int, float, float, float, float]], size: int = 64, seed: int = 0) -> None:
    """A noisy image with one flat rectangle per box, coloured by its class."""
    pixels = np.random.default_rng(seed).integers(90, 130, (size, size, 3), dtype=np.uint8)
    for c, x, y, w, h in boxes:
        x1, x2 = int((x - w / 2) * size), int((x + w / 2) * size)
        y1, y2 = int((y - h / 2) * size), int((y + h / 2) * size)
        pixels[y1:y2, x1:x2] = [(255, 40, 40), (40, 255, 40), (40, 40, 255)][c % 3]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95)


def write_data_set(
    root: Path, images: str = "images/{}", labels: str = "labels/{}", n_train: int = 8, n_val: int = 4
) -> Path:
    """A YOLO data set of small rendered scenes with three classes; returns its data.yaml."""
    rng = np.random.default_rng(7)
    for split, n in (("train", n_train), ("val", n_val)):
        for i in range(n):
            boxes = []
            for _ in range(2):
                w, h = rng.uniform(0.25, 0.45, 2)
                x, y = rng.uniform(w / 2, 1 - w / 2), rng.uniform(h / 2, 1 - h / 2)
                boxes.append((int(rng.integers(3)), float(x), float(y), float(w), float(h)))
            draw_scene(root / images.format(split) / f"{split}{i:03}.jpg", boxes, seed=i)
            label = root / labels.format(split) / f"{split}{i:03}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("".join(f"{c} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for c, x, y, w, h in boxes))
    data = root / "data.yaml"
    data.write_text(
        f"train: {images.format('train')}\nval: {images.format('val')}\nnames:\n  0: red\n  1: green\n  2: blue\n"
    )
    return data


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    """The data.yaml of a sound data set."""
    return write_data_set(tmp_path / "set")


@pytest.fixture
def make_set(tmp_path: Path) -> Callable[..., Path]:
    """Writes a data set with another layout or size; returns its data.yaml."""

    def make(name: str = "made", **layout: Any) -> Path:
        return write_data_set(tmp_path / name, **layout)

    return make


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set that only training reads."""
    return write_data_set(tmp_path_factory.mktemp("tiny") / "set")


@pytest.fixture(scope="session")
def tiny_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YOLOv8 of 8 to 64 channels: 30 ms a step on one core."""
    import yaml
    from ultralytics.utils import ROOT

    tree = yaml.safe_load((ROOT / "cfg/models/v8/yolov8.yaml").read_text())
    tree |= {"nc": 3, "scales": {"n": [0.33, 0.0625, 1024]}}
    path = tmp_path_factory.mktemp("model") / "yolov8n-tiny.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory: pytest.TempPathFactory, tiny_yaml: Path) -> Path:
    """Weights of a tiny network whose features differ between images (its convolutions are scaled up), as .pt."""
    import torch
    from ultralytics import YOLO

    torch.manual_seed(3)
    model = YOLO(str(tiny_yaml))
    with torch.no_grad():
        for part in model.model.modules():
            if isinstance(part, torch.nn.Conv2d):
                part.weight.mul_(3.0)
    path = tmp_path_factory.mktemp("teacher") / "teacher.pt"
    model.save(path)
    return path


@pytest.fixture(scope="session")
def real(shared_data: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """(data.yaml, val JSON, YOLOv8n weights) of real COCO images."""
    from safetensors.torch import load_file, save_file

    from spkd.detect import coco, networks

    weights = shared_data("weights", "yolov8n_coco_rebuilt.safetensors")
    source = shared_data("coco", "annotations").parent
    folder = tmp_path_factory.mktemp("real")
    annotations = source / "annotations" / "instances_val2017.json"
    report = coco.convert(
        [coco.Split("val2017", annotations, source / "val2017")], folder / "coco", "copy", False, "error", "COCO 2017"
    )
    model = networks.build("yolov8n.yaml", "test")
    model.names = dict(enumerate(report["classes"]))
    # In half precision, as ultralytics keeps what it publishes.
    halved = {name: tensor.half().to(tensor.dtype) for name, tensor in load_file(weights).items()}
    save_file(halved, folder / "described.safetensors", networks.described(model))
    return folder / "coco/data.yaml", annotations, networks.restored(folder / "described.safetensors", folder / "y.pt")
