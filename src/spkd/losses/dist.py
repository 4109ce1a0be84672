"""DIST: the student keeps the teacher's relations between classes and between inputs, not its very probabilities.

Source: Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022 (arXiv 2205.10536); published with
weight 2 beside the plain cross entropy: distill.lambda 0, distill.beta {dist: 2.0}. Pure function of tensors.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from spkd.config import Section

SEES = "logits"
# Added to the product of two lengths: a constant row has no correlation, and gives 0 instead of NaN.
EPSILON = 1e-8


class Settings(Section):
    """Softening, and the weights of the two relations."""

    temperature: Annotated[float, Field(gt=0, lt=1e100)]
    inter: Annotated[float, Field(ge=0)]
    intra: Annotated[float, Field(ge=0)]


def dist(student_logits: Tensor, teacher_logits: Tensor, temperature: float, inter: float, intra: float) -> Tensor:
    """T^2 (inter (1 - mean_i r(p_i:, q_i:)) + intra (1 - mean_c r(p_:c, q_:c))), scalar, in at least float32.

    student_logits, teacher_logits: (b, n_classes). p, q: their softmax at temperature T; r: Pearson correlation, of an
    input's classes (inter-class relation) and of a class's inputs (intra-class relation).
    Raises ValueError if the shapes differ.
    """
    if student_logits.shape != teacher_logits.shape:
        shapes = f"{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        raise ValueError(f"dist: student and teacher logits must have one shape, got {shapes}")
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    own = functional.softmax(student_logits.to(dtype) / temperature, dim=1)
    known = functional.softmax(teacher_logits.detach().to(dtype) / temperature, dim=1)
    between_classes, between_inputs = 1 - pearson(own, known).mean(), 1 - pearson(own.T, known.T).mean()
    return temperature**2 * (inter * between_classes + intra * between_inputs)


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """(n,) correlation of each row of a with the same row of b, both (n, m)."""
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    correlation: Tensor = (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1) + EPSILON)
    return correlation
