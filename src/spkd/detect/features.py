"""From a detector's feature maps to the rows that SPKD compares: whole images, pooled images, or single objects.

Pure torch. The paper flattens an image's whole map (`batch`). A real detector's features share a large mean, so that
its flattened maps are almost uniform (docs/spkd-for-yolo.md); pooling and centring keep what differs between images
(`pooled`) or between objects (`object`).
"""

from typing import Any

import torch
from torch import Tensor

MODES = ("batch", "pooled", "object")
# How few rows of a mode have a map that depends on the features: two centred ones are always opposite.
FEWEST = {"batch": 2, "pooled": 3, "object": 3}


def of(predictions: Any) -> list[Tensor]:
    """The inputs of the detection head, (b, channels, h, w) each, finest first, from what a model returns.

    predictions: of a YOLO model in train or eval mode, with or without the end-to-end head.
    """
    raw = predictions[1] if isinstance(predictions, tuple) else predictions
    raw = raw.get("one2many", raw)
    return list(raw["feats"])


def level_names(strides: Tensor) -> list[str]:
    """P3 for stride 8, P4 for 16, and so on. strides: (levels,) [pixels]."""
    return [f"P{int(s).bit_length() - 1}" for s in strides.tolist()]


def rows(features: Tensor, mode: str, boxes: Tensor, image: Tensor) -> Tensor:
    """(n, d) float32: what is compared pairwise in one level.

    features: (b, c, h, w). boxes: (n, 4) centre x, centre y, width, height in [0, 1] of the input; image: (n,) which
    of the b images each lies in, ascending. n = b, d = c h w for `batch`; n = b, d = c for `pooled`; n = objects, d =
    c for `object`.
    """
    with torch.autocast(features.device.type, enabled=False):
        x = features.float()
        if mode == "batch":
            return x.flatten(1)
        found = x.mean((2, 3)) if mode == "pooled" else under_boxes(x, boxes, image)
        return found - found.mean(0)


def under_boxes(features: Tensor, boxes: Tensor, image: Tensor) -> Tensor:
    """(n, c) mean of the features under each box, every cell weighted by the share of it that the box covers.

    features: (b, c, h, w) float32; boxes, image as in `rows`. A box smaller than a cell takes that cell's features;
    the weight is the product of its overlap along y and along x. One batched matmul, no loop over objects.
    """
    b, c, h, w = features.shape
    n = len(boxes)
    half = boxes[:, 2:] / 2
    across = _overlap(boxes[:, 0] - half[:, 0], boxes[:, 0] + half[:, 0], w)
    down = _overlap(boxes[:, 1] - half[:, 1], boxes[:, 1] + half[:, 1], h)
    weight = (down[:, :, None] * across[:, None, :]).flatten(1)  # (n, h w)
    weight = weight / weight.sum(1, keepdim=True).clamp_min(1e-12)
    per_image = torch.bincount(image, minlength=b)
    first = per_image.cumsum(0) - per_image
    slot = torch.arange(n, device=image.device) - first[image]
    padded = features.new_zeros(b, int(per_image.max()) if n else 0, h * w)
    padded[image, slot] = weight
    pooled = padded @ features.flatten(2).transpose(1, 2)  # (b, most objects in one image, c)
    return pooled[image, slot]


def _overlap(low: Tensor, high: Tensor, cells: int) -> Tensor:
    """(n, cells) length of each interval [low, high] inside each of the cells that divide [0, 1]."""
    edge = torch.arange(cells + 1, device=low.device, dtype=low.dtype) / cells
    upper = torch.minimum(high[:, None], edge[None, 1:])
    lower = torch.maximum(low[:, None], edge[None, :-1])
    return (upper - lower).clamp_min(0)


def evenly(n: int, most: int, device: torch.device) -> Tensor:
    """Ascending indices of at most `most` of n things, evenly chosen."""
    if n <= most:
        return torch.arange(n, device=device)
    return torch.linspace(0, n - 1, most, device=device).round().long()


def is_dead(features: Tensor) -> str:
    """Why a teacher's level says nothing about its inputs, "" where it does.

    features: (b, c, h, w) of b > 1 different images.

    An untrained network in eval mode shrinks its signal layer by layer to about 1e-8; a broken one answers every
    image alike. A real detector's flattened map is nearly uniform too (off-diagonal 0.175 +- 0.005 at P3), but its
    pooled features vary by more than a tenth from image to image: that is what is tested here.
    """
    size = float(features.float().square().mean().sqrt())
    if size < 1e-4:
        return f"features of size {size:.1e} (an untrained network?)"
    pooled = features.float().mean((2, 3))
    varies = float((pooled - pooled.mean(0)).square().mean().sqrt()) / size
    return f"features that vary by {varies:.1e} of their size between images" if varies < 1e-3 else ""
