"""SimKD: the student keeps the teacher's classifier and learns, through a projector, the feature that it reads.

Source: Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022 (arXiv 2203.14001). The
published method has no other term: distill.base 0, distill.beta {simkd: 1.0}. Pure function of tensors.
"""

import torch
from torch import Tensor
from torch.nn import functional

from spkd.config import Section
from spkd.losses._space import aligned

SEES = "features"
# Which layers are compared, student's: teacher's, instead of distill.taps.
TAPS = {"projector": "norm"}
# The file of models/ that the student's network becomes: its encoder, a projector, the teacher's classifier.
STUDENT = "reused_classifier"


class Settings(Section):
    """Nothing to set."""


def simkd(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared gap between the projected feature of the student and the teacher's last one (scalar).

    student, teacher: (b, D, *space), D channels of the teacher. The teacher's is taken after a ReLU, as its classifier
    reads it. Maps of different sizes are averaged to the smaller one, an image against a signal after flattening it
    row by row (losses/_space.py); the published method aligns images alone, by averaging.
    Raises ValueError if b or the channels differ.
    """
    if student.shape[1] != teacher.shape[1]:
        got = f"{student.shape[1]} and {teacher.shape[1]}"
        raise ValueError(f"simkd: the projector must give the teacher's channels, got {got}")
    dtype = torch.promote_types(student.dtype, torch.float32)
    own, known = aligned(student.to(dtype), functional.relu(teacher.detach().to(dtype)))
    return functional.mse_loss(own, known)
