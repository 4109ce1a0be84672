"""One product, two libraries: the same numbers up to rounding, and torch's own wherever a gradient is wanted."""

import pytest
import torch

from spkd import matmul
from spkd.losses.sp import sp


@pytest.fixture(params=[False, True], ids=["torch's own", "oneDNN"])
def library(request, monkeypatch):
    monkeypatch.setattr(matmul, "_one_dnn", lambda: request.param)


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize(("m", "n", "d"), [(1, 1, 1), (3, 5, 7), (128, 128, 1600), (64, 1600, 64)])
def test_a_product_is_that_of_float64_up_to_float32s_rounding(library, m, n, d):
    left, right = random(m, d), random(n, d, seed=1)
    true = left.double() @ right.double().T
    length = left.double().norm(dim=1, keepdim=True) * right.double().norm(dim=1)
    for columns in (right, right.T.contiguous().T):  # rows, and columns, that lie together in memory
        assert ((matmul.by_rows(left, columns).double() - true).abs() <= 1e-6 * length).all()


def test_a_product_is_written_where_it_is_asked_to_be(library):
    left, out = random(4, 9), torch.zeros(2, 4, 4)
    assert matmul.by_rows(left, left, out=out[1]).data_ptr() == out[1].data_ptr()
    assert torch.equal(out[1], matmul.by_rows(left, left))
    assert not out[0].any()


def test_what_is_not_finite_stays_so(library):
    left = random(3, 4)
    left[1, 2] = torch.inf
    made = matmul.by_rows(left, left)
    assert made[1, 1] == torch.inf
    assert torch.isfinite(made[0, 2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_gradient_is_lost(library, dtype):
    left, right = random(3, 4, dtype=dtype).requires_grad_(), random(5, 4, seed=1, dtype=dtype)
    matmul.by_rows(left, right).sum().backward()
    assert torch.allclose(left.grad, right.sum(0).expand(3, 4))


def test_the_loss_and_its_gradient_hardly_depend_on_the_library(monkeypatch):
    student, teacher, found = random(32, 16, 50), random(32, 48, 20, seed=1), []
    for one_dnn in (False, True):
        monkeypatch.setattr(matmul, "_one_dnn", lambda one_dnn=one_dnn: one_dnn)
        own = student.clone().requires_grad_()
        loss = sp(own, teacher)
        loss.backward()
        found.append((loss.detach(), own.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("vendor", "used"), [("AuthenticAMD", True), ("GenuineIntel", False), (None, False)])
def test_onednn_multiplies_on_processors_of_amds_alone(tmp_path, monkeypatch, vendor, used):
    monkeypatch.setattr(matmul, "CPU", tmp_path / "cpuinfo")
    if vendor:
        matmul.CPU.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n")
    monkeypatch.setattr(matmul, "slow_mkl", matmul.slow_mkl.__wrapped__)
    assert matmul._one_dnn() is used


def test_an_older_torch_without_that_product_multiplies_by_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(matmul, "CPU", tmp_path / "cpuinfo")
    matmul.CPU.write_text("vendor_id\t: AuthenticAMD\n")
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    monkeypatch.setattr(matmul, "slow_mkl", matmul.slow_mkl.__wrapped__)
    assert matmul._one_dnn() is False


@pytest.mark.parametrize("right", [
    random(5, 20)[:, :10], random(5, 20)[:, ::2], random(20, 5).T[:, ::2], random(10, 10)[::2],
    random(1, 10).expand(5, 10),
])  # fmt: skip
def test_onednn_never_multiplies_by_what_lies_scattered_in_memory(right, monkeypatch):
    given = []

    class Watched:
        @staticmethod
        def _linear_pointwise(left, right, *rest):
            given.append(right)
            return left @ right.T

    monkeypatch.setattr(matmul, "_one_dnn", lambda: True)
    monkeypatch.setattr(torch.ops, "mkldnn", Watched)
    left = random(3, 10, seed=2)
    torch.testing.assert_close(matmul.by_rows(left, right), left @ right.T)
    assert given[0].is_contiguous()


@pytest.mark.parametrize("right", [random(5, 10), random(10, 5).T])
def test_what_lies_together_is_not_copied(right):
    assert matmul.dense(right) is right
