"""Knowledge distillation from softened logits. Pure function of tensors; the teacher gets no gradient."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from spkd.config import Section

SEES = "logits"


class Settings(Section):
    """Softening and the meaning of "mean"."""

    temperature: Annotated[float, Field(gt=0, lt=1e100)]
    reduction: Literal["batchmean", "paper"]


def kd(student_logits: Tensor, teacher_logits: Tensor, temperature: float, reduction: str = "batchmean") -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)) in nats (scalar), in at least float32.

    student_logits, teacher_logits: (b, n_classes). reduction: `batchmean` is the KL of a sample, averaged over the
    batch; `paper` averages over the b * n_classes elements, as the published line does, and is n_classes times weaker.
    Raises ValueError if the shapes differ or the reduction is unknown. Source: Hinton et al., arXiv 1503.02531.
    """
    return each(student_logits, teacher_logits, temperature, reduction).mean()


def each(student_logits: Tensor, teacher_logits: Tensor, temperature: float, reduction: str = "batchmean") -> Tensor:
    """(..., b) the loss of each input; its mean over the batch is `kd`. teacher_logits: (..., b, n_classes).

    For weights that differ from input to input, and for several teachers at once: they share the student's softmax.
    """
    if student_logits.shape != teacher_logits.shape[-2:]:
        shapes = f"{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        raise ValueError(f"kd: student and teacher logits must have one shape, got {shapes}")
    if reduction not in ("batchmean", "paper"):
        raise ValueError(f"kd: reduction must be batchmean or paper, got {reduction!r}")
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    log_student = functional.log_softmax(student_logits.to(dtype) / temperature, dim=-1)
    log_teacher = functional.log_softmax(teacher_logits.detach().to(dtype) / temperature, dim=-1)
    summed = (log_teacher.exp() * (log_teacher - log_student)).sum(dim=-1)  # KL(teacher || student)
    return summed * (temperature**2 / (student_logits.shape[1] if reduction == "paper" else 1))
