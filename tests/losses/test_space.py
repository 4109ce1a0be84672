import pytest
import torch
from torch.nn import functional

from spkd.losses._space import aligned, averaged, pooled


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("n", "size"), [(8, 4), (25, 8), (7, 5), (5, 1), (6, 6)])
def test_averages_are_those_of_adaptive_pooling(n, size):
    x = draw(0, 3, 4, n)
    torch.testing.assert_close(averaged(x, 2, size), functional.adaptive_avg_pool1d(x, size))


def test_two_images_meet_at_the_smaller_side_of_each_axis():
    a, b = draw(0, 2, 3, 8, 5), draw(1, 2, 6, 4, 7)
    own, known = aligned(a, b)
    torch.testing.assert_close(own, functional.adaptive_avg_pool2d(a, (4, 5)))
    torch.testing.assert_close(known, functional.adaptive_avg_pool2d(b, (4, 5)))


def test_an_image_meets_a_signal_row_by_row():
    image = torch.arange(4.0).reshape(1, 1, 4, 1).expand(1, 1, 4, 3)
    signal, rows = aligned(torch.zeros(1, 2, 4), image)
    assert signal.shape == (1, 2, 4)
    assert rows.tolist() == [[[0.0, 1.0, 2.0, 3.0]]]


def test_an_image_of_height_one_is_a_signal():
    signal, image = draw(0, 2, 3, 5), draw(1, 2, 4, 6, 6)
    for written in (signal, signal.unsqueeze(2)):
        own, known = aligned(written, image)
        assert torch.equal(own, signal)
        torch.testing.assert_close(known, functional.adaptive_avg_pool1d(image.flatten(2), 5))


def test_equal_shapes_and_features_without_space_stay_as_they_are():
    for shape in ((2, 3, 5), (2, 3)):
        a, b = draw(0, *shape), draw(1, *shape)
        assert all(torch.equal(x, y) for x, y in zip(aligned(a, b), (a, b), strict=True))


def test_pooling_averages_every_place_once():
    assert pooled(torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])).tolist() == [[3.0]]
    assert pooled(torch.ones(2, 3)).shape == (2, 3)


def test_other_batches_are_refused():
    with pytest.raises(ValueError, match="same inputs"):
        aligned(draw(0, 2, 3, 4), draw(1, 3, 3, 4))
