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

    temperature: Annotated[float, Field(gt=0)]
    reduction: Literal["batchmean", "paper"]


def kd(student_logits: Tensor, teacher_logits: Tensor, temperature: float, reduction: str = "batchmean") -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)) in nats (scalar), in at least float32.

    student_logits, teacher_logits: (b, n_classes). reduction: `batchmean` is the KL of a sample, averaged over the
    batch; `paper` averages over the b * n_classes elements, as the published line does, and is n_classes times weaker.
    Raises ValueError if the shapes differ or the reduction is unknown. Source: Hinton et al., arXiv 1503.02531.
    """
    log_student, log_teacher = _softened(student_logits, teacher_logits, temperature, reduction)
    summed = functional.kl_div(log_student, log_teacher, reduction="sum", log_target=True)
    n = student_logits.numel() if reduction == "paper" else len(student_logits)
    return temperature**2 * summed / n


def each(student_logits: Tensor, teacher_logits: Tensor, temperature: float, reduction: str = "batchmean") -> Tensor:
    """(b,) the loss of each input; its mean over the batch is `kd`. For weights that differ from input to input."""
    log_student, log_teacher = _softened(student_logits, teacher_logits, temperature, reduction)
    summed = functional.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=1)
    return temperature**2 * summed / (student_logits.shape[1] if reduction == "paper" else 1)


def _softened(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, reduction: str
) -> tuple[Tensor, Tensor]:
    """log softmax(student / T), log softmax(teacher / T), both (b, n_classes), the latter without a gradient."""
    if student_logits.shape != teacher_logits.shape:
        shapes = f"{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        raise ValueError(f"kd: student and teacher logits must have one shape, got {shapes}")
    if reduction not in ("batchmean", "paper"):
        raise ValueError(f"kd: reduction must be batchmean or paper, got {reduction!r}")
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    log_student = functional.log_softmax(student_logits.to(dtype) / temperature, dim=1)
    log_teacher = functional.log_softmax(teacher_logits.detach().to(dtype) / temperature, dim=1)
    return log_student, log_teacher
