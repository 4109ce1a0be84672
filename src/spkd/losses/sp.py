"""Similarity-preserving distillation: inputs that look alike to the teacher shall look alike to the student.

Pure functions of tensors; a teacher gets no gradient. Student and teacher may differ in shape, depth and modality:
only the batch must be the same. Source: Tung & Mori, ICCV 2019.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from spkd import matmul
from spkd.config import Section

SEES = "features"
# Rows of G shorter than this are not stretched to length 1: an all-zero row stays zero instead of becoming NaN.
SHORTEST_ROW = 1e-12


class Settings(Section):
    """How several teachers become one map."""

    mixing: Literal["normalise_first", "paper"]


@dataclass(frozen=True)
class Products:
    """G = F F^T of a batch, (b, b), not normalised: all that sp needs of a teacher, whatever its features' size."""

    gram: Tensor

    def __len__(self) -> int:
        return len(self.gram)


def sp(student: Tensor, teacher: Tensor | Products) -> Tensor:
    """Mean squared gap between the two batches' similarity maps (scalar).

    student, teacher: (b, ...) features of the same b inputs; the rest may differ in shape. teacher may be Products.
    G = F F^T with F flattened to (b, d); each ROW of G is scaled to length 1 after the product (order matters).
    Returns ||G_t - G_s||_F^2 / b^2, at most 4 / b: keep b fixed, log it.
    Raises ValueError if b differs. Source: Tung & Mori, ICCV 2019.
    """
    return summed([student], [[teacher]], [1.0])


def summed(
    students: Sequence[Tensor], teachers: Sequence[Sequence[Tensor | Products]], alphas: Sequence[float],
    mixing: str = "normalise_first",
) -> Tensor:  # fmt: skip
    """Sum over layers of sp of the student against one map mixed from several teachers (scalar).

    students: of every layer (b, ...) features of the same b inputs. teachers: of every layer one such feature per
    teacher, which may be given as Products. alphas: one weight per teacher; the bound 4 / b a layer needs their sum to
    be at most 1. mixing: `normalise_first` mixes the normalised maps, so alpha alone sets a teacher's say; `paper`
    mixes the raw products and normalises the sum, so the teacher with the larger features wins.
    The maps of all layers and teachers are one tensor: a GPU starts fewer kernels.
    Raises ValueError if b differs, if alphas and teachers differ in number, or on an unknown mixing.
    """
    counts = sorted({len(known) for known in teachers})
    if counts != [len(alphas)] or not alphas:
        raise ValueError(f"sp: one alpha per teacher, got {len(alphas)} alphas for {counts} teachers")
    if mixing not in ("normalise_first", "paper"):
        raise ValueError(f"sp: mixing must be normalise_first or paper, got {mixing!r}")
    b = len(students[0])
    sizes = [len(feature) for layer in (students, *teachers) for feature in layer]
    if b == 0 or any(size != b for size in sizes):
        raise ValueError(f"sp: student and teachers must see the same b > 0 inputs, got {sizes}")
    own = own_maps(students)
    grams = [
        t.gram.detach() if isinstance(t, Products) else similarity(t.detach()) for known in teachers for t in known
    ]
    maps = torch.stack(grams).view(len(students), len(alphas), b, b)
    if mixing == "normalise_first":
        maps = normalise(maps)
    target = alphas[0] * maps[:, 0]
    for k, alpha in enumerate(alphas[1:], start=1):
        target = target.add(maps[:, k], alpha=alpha)
    if mixing == "paper":
        target = normalise(target)
    return functional.mse_loss(own, target.to(own.dtype), reduction="sum") / b**2


def own_maps(students: Sequence[Tensor]) -> Tensor:
    """normalise(similarity(student)) of every layer, (layers, b, b), with its gradient."""
    made: Tensor = _Maps.apply(*(_flat(feature) for feature in students))
    return made


def similarity(features: Tensor) -> Tensor:
    """G = F F^T, (b, b), with F the features flattened to (b, d); not normalised.

    features: (b, ...). Taken in at least float32 with autocast off: a YOLO P3 diagonal reaches 7e5, float16 ends
    at 65,504.
    """
    with torch.autocast(features.device.type, enabled=False):
        flat = _flat(features)
        return matmul.by_rows(flat, flat)


def _flat(features: Tensor) -> Tensor:
    """(b, d), in at least float32."""
    if features.dim() > 2 and features.movedim(1, -1).is_contiguous():
        # The order of a window's numbers changes nothing; the one they have in memory needs no copy.
        features = features.movedim(1, -1)
    return features.reshape(len(features), -1).to(torch.promote_types(features.dtype, torch.float32))


class _Maps(torch.autograd.Function):
    """normalise(F F^T), (layers, b, b), of every layer's F (b, d). Its gradient is written out: a third of autograd's.

    With D the gradient of the map M and l the lengths of the rows of F F^T, that of F F^T is
    E = (D - M rowsum(D M)) / l, and that of F is (E + E^T) F.
    """

    @staticmethod
    def forward(ctx: Any, *flats: Tensor) -> Tensor:
        b = len(flats[0])
        gram = flats[0].new_empty(len(flats), b, b)
        with torch.autocast(gram.device.type, enabled=False):
            for flat, product in zip(flats, gram, strict=True):
                matmul.by_rows(flat, flat, out=product)
        length = gram.norm(dim=2, keepdim=True).clamp_min(SHORTEST_ROW)
        made = gram.div_(length)
        ctx.save_for_backward(made, length, *flats)
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        made, length, *flats = ctx.saved_tensors
        along = (grads[0] * made).sum(dim=2, keepdim=True)
        of_gram = torch.addcmul(grads[0], made, along, value=-1).div_(length)
        both = of_gram + of_gram.mT
        return tuple(matmul.by_rows(product, flat.T) for product, flat in zip(both, flats, strict=True))


def normalise(product: Tensor) -> Tensor:
    """The map, or maps, with each row scaled to L2 length 1; an all-zero row stays zero. product: (..., b, b)."""
    return functional.normalize(product, p=2.0, dim=-1, eps=SHORTEST_ROW)
