import math

import pytest
import torch
from torch.nn import functional

from spkd.losses.at import at, attention

B = 5


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_value_by_hand():
    # Squares averaged over two channels: student (5, 0), teacher (1, 1): directions (1, 0) and (1, 1) / sqrt 2.
    student = torch.tensor([[[1.0, 0.0], [3.0, 0.0]]])
    teacher = torch.tensor([[[1.0, -1.0]]])
    by_hand = ((1 - 1 / math.sqrt(2)) ** 2 + 0.5) / 2
    assert at(student, teacher).item() == pytest.approx(by_hand, rel=1e-6)


def test_images_of_two_sizes_have_the_value_of_the_published_code():
    student, teacher = draw(0, B, 3, 8, 8), draw(1, B, 6, 4, 4)

    def maps(features):
        return functional.normalize(features.pow(2).mean(1).view(B, -1))

    expected = (maps(functional.adaptive_avg_pool2d(student, 4)) - maps(teacher)).pow(2).mean()
    assert at(student, teacher).item() == pytest.approx(expected.item(), rel=1e-12)


def test_channels_their_order_and_the_scale_of_an_input_do_not_matter():
    student, teacher = draw(0, B, 4, 9), draw(1, B, 2, 9)
    scaled = student[:, [2, 0, 3, 1]] * torch.tensor([1.0, 2.0, 30.0, 0.1, 5.0]).view(B, 1, 1)
    assert at(scaled, teacher).item() == pytest.approx(at(student, teacher).item(), rel=1e-12)
    assert at(student, student * 3).item() == pytest.approx(0, abs=1e-15)


def test_a_signal_is_compared_with_the_flattened_image():
    signal, image = draw(0, B, 4, 5), draw(1, B, 3, 6, 6)
    pooled = functional.adaptive_avg_pool1d(image.flatten(2), 5)
    assert at(signal, image).item() == pytest.approx(at(signal, pooled).item(), rel=1e-12)


def test_an_all_zero_input_gives_a_finite_gradient():
    student = torch.zeros(B, 2, 4, dtype=torch.float64, requires_grad=True)
    at(student, draw(1, B, 2, 4)).backward()
    assert torch.isfinite(student.grad).all()
    assert attention(student).abs().sum() == 0


def test_gradient_is_the_numeric_one():
    student, teacher = draw(0, 3, 2, 4).requires_grad_(), draw(1, 3, 2, 3, 3)
    assert torch.autograd.gradcheck(lambda s: at(s, teacher), student)
