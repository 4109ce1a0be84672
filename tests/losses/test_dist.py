import numpy as np
import pytest
import torch

from spkd.losses.dist import dist, pearson


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return drawn[0], drawn[1]


def twin(student: np.ndarray, teacher: np.ndarray, temperature: float, inter: float, intra: float) -> float:
    """The loss with numpy's correlation coefficient and explicit loops."""
    p, q = (np.exp(x / temperature) / np.exp(x / temperature).sum(1, keepdims=True) for x in (student, teacher))
    rows = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    columns = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    return temperature**2 * (inter * (1 - rows) + intra * (1 - columns))


def test_correlation_by_hand():
    a, b = torch.tensor([[1.0, 2.0, 3.0], [1.0, 0.0, 0.0]]), torch.tensor([[2.0, 4.0, 6.0], [-1.0, 0.0, 0.0]])
    assert pearson(a, b).tolist() == pytest.approx([1.0, -1.0], abs=1e-6)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (2.0, 0.0), (0.0, 0.5)])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_value_is_that_of_a_numpy_twin(temperature, weights):
    student, teacher = pair()
    expected = twin(student.numpy(), teacher.numpy(), temperature, *weights)
    assert dist(student, teacher, temperature, *weights).item() == pytest.approx(expected, rel=1e-5)


def test_equal_logits_up_to_a_shift_of_each_input_cost_nothing():
    student, _ = pair()
    assert dist(student + torch.arange(6.0).view(6, 1), student, 4.0, 1.0, 1.0).item() == pytest.approx(0, abs=1e-4)


def test_a_student_without_an_opinion_gives_a_finite_gradient():
    student = torch.zeros(4, 3, requires_grad=True)
    dist(student, torch.randn(4, 3), 1.0, 1.0, 1.0).backward()
    assert torch.isfinite(student.grad).all()


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        dist(torch.zeros(2, 3), torch.zeros(2, 4), 1.0, 1.0, 1.0)
