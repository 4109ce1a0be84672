import math

import numpy as np
import pytest
import torch

from spkd.losses import dcd as module
from spkd.losses.dcd import dcd, of_scores


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def made():
    return module.parts(draw(0, 4, 6, 5), draw(1, 4, 3, 2, 2), torch.Generator().manual_seed(7), 8, 0.5)


def test_weights_start_uniform_within_one_by_the_root_of_the_inputs_and_biases_at_zero():
    fresh = module.parts(draw(0, 2, 400), draw(1, 2, 100), torch.Generator().manual_seed(0), 64, 0.5)
    for layer, bound in ((fresh.student, 1 / 20), (fresh.teacher, 1 / 10)):
        assert 0.99 * bound < layer.weight.max() <= bound
        assert -bound <= layer.weight.min() < -0.99 * bound
        assert not layer.bias.any()


def test_value_of_scores_by_hand():
    # Rows softmax to (3/4, 1/4) and (1/2, 1/2); columns of the same scores to (3/4, 1/4) and (1/2, 1/2), transposed.
    scores = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]], dtype=torch.float64)
    contrast = -(math.log(3 / 4) + math.log(1 / 2)) / 2
    assert of_scores(scores, 0.0).item() == pytest.approx(contrast)
    assert of_scores(scores, 0.5).item() == pytest.approx(contrast)
    skew = torch.tensor([[math.log(3.0), 0.0], [math.log(2.0), 0.0]], dtype=torch.float64)
    rows, columns = np.array([[3 / 4, 1 / 4], [2 / 3, 1 / 3]]), np.array([[3 / 5, 2 / 5], [1 / 2, 1 / 2]])
    agreement = (columns * np.log(columns / rows)).sum() / 2
    contrast = -(math.log(3 / 4) + math.log(1 / 3)) / 2
    assert of_scores(skew, 0.5).item() == pytest.approx(contrast + 0.5 * agreement)


def test_value_is_that_of_a_numpy_twin_of_embeddings_and_scores(made):
    student, teacher = draw(0, 4, 6, 5), draw(1, 4, 3, 2, 2)
    vectors = [np.maximum(x.numpy(), 0).reshape(4, x.shape[1], -1).mean(2) for x in (student, teacher)]
    embedded = []
    for layer, x in zip((made.student, made.teacher), vectors, strict=True):
        y = x @ layer.weight.detach().numpy().T
        embedded.append(y / np.linalg.norm(y, axis=1, keepdims=True))
    scores = torch.from_numpy(math.e * embedded[0] @ embedded[1].T)
    assert dcd(student, teacher, made, 8, 0.5).item() == pytest.approx(of_scores(scores, 0.5).item(), rel=1e-5)


def test_the_temperature_ends_at_ten(made):
    with torch.no_grad():
        made.log_scale.fill_(5.0)
        made.bias.fill_(0.25)
    x, y = draw(2, 4, 6), draw(3, 4, 3)
    cosine = torch.nn.functional.cosine_similarity(made.student(x)[:, None], made.teacher(y)[None], dim=2)
    torch.testing.assert_close(made(x, y), 10 * cosine + 0.25)


def test_every_part_learns_but_the_bias_which_no_softmax_sees(made):
    dcd(draw(0, 4, 6, 5), draw(1, 4, 3, 2, 2), made, 8, 0.5).backward()
    moved = {name for name, p in made.named_parameters() if p.grad.abs().max() > 1e-6}
    assert moved == {"student.weight", "student.bias", "teacher.weight", "teacher.bias", "log_scale"}


def test_parts_come_from_the_stream_alone(made):
    state = torch.random.get_rng_state()
    again, other = (
        module.parts(draw(0, 4, 6), draw(1, 4, 3), torch.Generator().manual_seed(s), 8, 0.5) for s in (7, 8)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(again.teacher.weight, made.teacher.weight)
    assert not torch.equal(other.teacher.weight, made.teacher.weight)
