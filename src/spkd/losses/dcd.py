"""DCD: an input's student embedding finds its own teacher embedding in the batch, and the two views agree on the rest.

Has trainable parts: a linear embedding of either network's feature, a temperature and a bias.
Source: Giakoumoglou & Stathaki, "Discriminative and Consistent Representation Distillation", arXiv 2407.11802, and the
authors' code; published with embeddings of 128, consistency 0.5 and weight 1 beside cross
entropy of weight 1, or beside cross entropy and KD of weight 1 each.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from spkd.config import Section
from spkd.losses._space import pooled

SEES = "features"
# What the classifier averages: looked at instead of distill.taps.
TAPS = {"norm": "norm"}
LARGEST_SCALE = 10.0


class Settings(Section):
    """Size of the common space, and the weight of the consistency term."""

    width: Annotated[int, Field(ge=1)]
    consistency: Annotated[float, Field(ge=0)]


class Parts(nn.Module):
    """Embeddings of student and teacher, log-temperature (first 1) and bias (first 0)."""

    def __init__(self, student_channels: int, teacher_channels: int, width: int) -> None:
        super().__init__()
        self.student, self.teacher = nn.Linear(student_channels, width), nn.Linear(teacher_channels, width)
        self.log_scale, self.bias = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(0.0))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """(b, b) scores: min(exp(log_scale), 10) cos(student i, teacher j) + bias. student, teacher: (b, channels)."""
        own, known = functional.normalize(self.student(student)), functional.normalize(self.teacher(teacher))
        scores: Tensor = self.log_scale.exp().clamp(max=LARGEST_SCALE) * (own @ known.T) + self.bias
        return scores


def parts(student: Tensor, teacher: Tensor, generator: torch.Generator, width: int, consistency: float) -> Parts:
    """The trainable parts for features of these shapes; linear weights uniform within 1 / sqrt(inputs), biases 0."""
    with torch.random.fork_rng(devices=[]):
        made = Parts(student.shape[1], teacher.shape[1], width)
    for layer in (made.student, made.teacher):
        bound = layer.in_features**-0.5
        nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
        nn.init.zeros_(layer.bias)
    return made


def dcd(student: Tensor, teacher: Tensor, parts: Parts, width: int, consistency: float) -> Tensor:
    """-mean_i log P_ii + consistency * mean_i KL(Q_i || P_i), scalar.

    student: (b, C, *space), teacher: (b, D, *space) of the same b inputs; ReLU and the mean
    over space make the vectors that the classifiers see. P: softmax of the scores over the teacher's inputs j;
    Q: softmax over the student's inputs, transposed. width: of the embeddings, already in `parts`.
    The teacher gets no gradient, its embedding does.
    """
    vectors = [pooled(functional.relu(features)) for features in (student, teacher.detach())]
    return of_scores(parts(*vectors), consistency)


def of_scores(scores: Tensor, consistency: float) -> Tensor:
    """The loss of (b, b) scores: student i in rows, teacher j in columns."""
    own = torch.arange(len(scores), device=scores.device)
    by_student, by_teacher = scores.log_softmax(dim=1), scores.log_softmax(dim=0).T
    agreement = functional.kl_div(by_student, by_teacher, reduction="batchmean", log_target=True)
    return functional.cross_entropy(scores, own) + consistency * agreement
