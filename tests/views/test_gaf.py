import math
from collections.abc import Callable

import numba
import numpy as np
import pytest
import torch

from spkd.errors import SpkdError
from spkd.views import gaf


@pytest.fixture(autouse=True, params=["a CPU's way", "a GPU's way"])
def way(request, monkeypatch):
    if request.param == "a GPU's way":
        monkeypatch.setattr(gaf, "_weighted_rows", gaf._outer_products)


def walk(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).cumsum(-1).astype(np.float32)


@pytest.fixture(scope="module")
def peer() -> Callable[[np.ndarray, int], np.ndarray]:
    """pyts' images of (..., T). It compiles itself on import, which takes 20 s: here it runs as plain Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba.config, "DISABLE_JIT", True)
        from pyts.image import GramianAngularField

    def images(x: np.ndarray, size: int) -> np.ndarray:
        field = GramianAngularField(image_size=size, method="summation")
        return field.fit_transform(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], size, size)

    return images


@pytest.mark.parametrize("length", [64, 100, 156, 500])
def test_image_is_that_of_pyts(peer, length):
    x = walk(length, 5, 4, length)
    np.testing.assert_allclose(gaf.render(torch.from_numpy(x), 64).numpy(), peer(x, 64), atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_image_of_a_signal_far_from_zero_is_that_of_pyts(peer, offset):
    x = (walk(1, 5, 4, 100) + np.float32(offset)).astype(np.float32)
    np.testing.assert_allclose(gaf.render(torch.from_numpy(x), 32).numpy(), peer(x, 32), atol=1e-5)


@pytest.mark.parametrize(("length", "size"), [(100, 64), (7, 3), (65, 64), (999, 43), (60, 44)])
def test_pieces_are_those_of_pyts_where_the_length_does_not_divide(peer, length, size):
    x = np.arange(length, dtype=np.float32) ** 1.5
    np.testing.assert_allclose(
        gaf.render(torch.from_numpy(x)[None, None], size)[0, 0], peer(x[None], size)[0], atol=1e-5
    )


def test_image_by_hand():
    # Pieces 0, 1, 2 scale to -1, 0, 1: angles 180, 90, 0 degrees.
    x = torch.tensor([[[0.0, 0.0, 1.0, 1.0, 2.0, 2.0]]])
    angles = [math.pi, math.pi / 2, 0.0]
    by_hand = [[math.cos(a + b) for b in angles] for a in angles]
    np.testing.assert_allclose(gaf.render(x, 3)[0, 0].numpy(), by_hand, atol=1e-7)
    cosine, sine = gaf.polar(gaf.aggregate(x, 3)[:, 0], x.dtype)
    assert (cosine.tolist(), sine.tolist()) == ([-1, 0, 1], [0, 1, 0])


def test_scale_and_offset_of_a_channel_change_nothing():
    x = torch.from_numpy(walk(2, 3, 4, 100)).double()
    scale = torch.tensor([1e-30, 1.0, 30.0, 1e6]).double()[:, None]
    torch.testing.assert_close(gaf.render(x * scale + 5 * scale, 64), gaf.render(x, 64), atol=1e-9, rtol=0)


def test_values_stay_within_one_and_the_image_is_symmetric():
    image = gaf.render(torch.from_numpy(walk(3, 8, 4, 100)), 64)
    assert image.abs().max() <= 1 + 1e-6
    assert torch.equal(image, image.mT)


@pytest.mark.parametrize("value", [0.0, 72.0, 0.1, -1e-30])
def test_a_constant_channel_gives_minus_one_and_spoils_no_other(value):
    x = torch.from_numpy(walk(4, 2, 3, 100))
    alone = gaf.render(x, 64)
    x[:, 1] = value
    image = gaf.render(x, 64)
    assert (image[:, 1] == -1).all()
    assert torch.equal(image[:, [0, 2]], alone[:, [0, 2]])


def test_rounding_of_a_constant_in_double_precision_is_not_taken_for_a_signal():
    assert (gaf.render(torch.full((1, 1, 997), 0.1, dtype=torch.float64), 64) == -1).all()


def test_a_signal_in_double_precision_may_be_a_billionth_of_its_offset():
    x = 1e9 + torch.tensor([[[0.0, 1.0, 2.0]]], dtype=torch.float64)
    assert gaf.render(x, 3)[0, 0].tolist() == [[1, 0, -1], [0, -1, 0], [-1, 0, 1]]


def test_autocast_does_not_round_the_image():
    x = torch.from_numpy(walk(5, 2, 3, 100))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = gaf.render(x, 64)
    assert torch.equal(inside, gaf.render(x, 64))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gives_the_image_of_the_cpu_though_tf32_is_allowed():
    products, x = torch.backends.cuda.matmul, torch.from_numpy(walk(8, 2, 3, 100))
    before, products.allow_tf32 = products.allow_tf32, True
    try:
        torch.testing.assert_close(gaf.render(x.cuda(), 64).cpu(), gaf.render(x, 64), rtol=0, atol=1e-6)
    finally:
        products.allow_tf32 = before


def test_windows_do_not_influence_each_other_or_the_input():
    x = torch.from_numpy(walk(6, 5, 3, 100))
    before = x.clone()
    torch.testing.assert_close(gaf.render(x, 64)[2:3], gaf.render(x[2:3], 64), rtol=0, atol=1e-7)
    assert torch.equal(x, before)


def test_a_window_shorter_than_the_image_is_refused():
    with pytest.raises(SpkdError, match=r"views.gaf.size: expected at most 50"):
        gaf.render(torch.zeros(1, 1, 50), 64)
