import math

import numpy as np
import pytest
import torch

from spkd.losses.kd import each, kd


def pair(n_classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, n_classes, generator=generator, dtype=torch.float64) * 3
    return student, teacher


def twin(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    """KL of each sample with explicit loops, averaged over the batch."""
    total = 0.0
    for s, t in zip(student / temperature, teacher / temperature, strict=True):
        p, q = np.exp(t) / np.exp(t).sum(), np.exp(s) / np.exp(s).sum()
        total += sum(p[c] * (math.log(p[c]) - math.log(q[c])) for c in range(len(p)))
    return temperature**2 * total / len(student)


def test_value_by_hand():
    student, teacher = torch.zeros(1, 2), torch.tensor([[0.0, 4 * math.log(3.0)]])
    kl = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert kd(student, teacher, 4.0).item() == pytest.approx(16 * kl, rel=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 10.0])
def test_value_is_that_of_a_numpy_twin(temperature):
    student, teacher = pair()
    assert kd(student, teacher, temperature).item() == pytest.approx(
        twin(student.numpy(), teacher.numpy(), temperature), rel=1e-12
    )


def test_paper_reduction_is_n_classes_times_weaker():
    student, teacher = pair(n_classes=12)
    assert kd(student, teacher, 4.0).item() == pytest.approx(12 * kd(student, teacher, 4.0, "paper").item())


def test_equal_logits_up_to_a_shift_cost_nothing():
    student, _ = pair()
    assert kd(student + 7, student, 4.0).item() == pytest.approx(0, abs=1e-12)


def test_gradient_is_the_numeric_one():
    student, teacher = pair()
    assert torch.autograd.gradcheck(lambda s: kd(s, teacher, 4.0), student.requires_grad_())


def test_a_class_that_the_teacher_excludes_gives_no_nan():
    teacher = torch.tensor([[0.0, -1e9, 2.0]])
    assert torch.isfinite(kd(torch.zeros(1, 3), teacher, 4.0))


@pytest.mark.parametrize("shape", [(2, 4), (1, 3), (3,)])
def test_different_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="one shape"):
        kd(torch.zeros(2, 3), torch.zeros(*shape), 4.0)


def test_an_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="batchmean or paper"):
        kd(torch.zeros(2, 3), torch.zeros(2, 3), 4.0, "sum")


@pytest.mark.parametrize("reduction", ["batchmean", "paper"])
def test_the_mean_of_each_input_is_the_loss_of_the_batch(reduction):
    student, teacher = pair()
    costs = each(student, teacher, 4.0, reduction)
    assert costs.shape == (6,)
    assert costs.mean().item() == pytest.approx(kd(student, teacher, 4.0, reduction).item(), rel=1e-12)
    assert costs[2].item() == pytest.approx(kd(student[2:3], teacher[2:3], 4.0, reduction).item(), rel=1e-12)
