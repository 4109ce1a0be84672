import pytest
import torch
from torch.nn import functional

from spkd.losses.simkd import simkd


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_value_by_hand():
    # The teacher's -3 is 0 after its ReLU: gaps 1, 0, 2, 1.
    student = torch.tensor([[[1.0, 0.0], [2.0, 3.0]]])
    teacher = torch.tensor([[[2.0, -3.0], [4.0, 2.0]]])
    assert simkd(student, teacher).item() == pytest.approx((1 + 0 + 4 + 1) / 4)


def test_images_of_two_sizes_have_the_value_of_the_published_code():
    student, teacher = draw(0, 3, 5, 8, 8), draw(1, 3, 5, 4, 4)
    expected = functional.mse_loss(functional.adaptive_avg_pool2d(student, (4, 4)), teacher.relu())
    assert simkd(student, teacher).item() == pytest.approx(expected.item(), rel=1e-12)


def test_a_signal_learns_the_flattened_image():
    student, teacher = draw(0, 3, 5, 4), draw(1, 3, 5, 6, 6)
    expected = functional.mse_loss(student, functional.adaptive_avg_pool1d(teacher.relu().flatten(2), 4))
    assert simkd(student, teacher).item() == pytest.approx(expected.item(), rel=1e-12)


def test_other_channels_than_the_teachers_are_refused():
    with pytest.raises(ValueError, match="teacher's channels, got 4 and 5"):
        simkd(draw(0, 3, 4, 4), draw(1, 3, 5, 4))
