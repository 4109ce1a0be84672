import math

import numpy as np
import pytest
import torch

from spkd import matmul
from spkd.losses.sp import Products, normalise, similarity, sp, summed

B = 8
ALPHAS = [0.5, 0.3, 0.1]


def features(seed: int, *shape: int, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def twin_map(raw: np.ndarray) -> np.ndarray:
    """Row-normalised similarity map with explicit loops."""
    b = len(raw)
    flat = raw.reshape(b, -1)
    product = np.array([[np.dot(flat[i], flat[j]) for j in range(b)] for i in range(b)])
    return np.array([row / math.sqrt((row**2).sum()) for row in product])


def test_value_by_hand_of_two_inputs():
    # Student rows (1, 0), (1, 1): G = [[1, 1], [1, 2]], rows / sqrt 2 and / sqrt 5. Teacher: identity.
    student = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    teacher = torch.eye(2)
    r2, r5 = math.sqrt(2), math.sqrt(5)
    by_hand = ((1 - 1 / r2) ** 2 + (1 / r2) ** 2 + (1 / r5) ** 2 + (1 - 2 / r5) ** 2) / 4
    assert sp(student, teacher).item() == pytest.approx(by_hand, rel=1e-6)


def test_permuting_the_batch_changes_nothing():
    student, teacher = features(0, B, 6), features(1, B, 9)
    order = torch.randperm(B, generator=torch.Generator().manual_seed(2))
    assert sp(student[order], teacher[order]).item() == pytest.approx(sp(student, teacher).item(), rel=1e-12)
    assert sp(student[order], teacher).item() != pytest.approx(sp(student, teacher).item(), rel=1e-3)


def test_sp_ignores_scale_and_rotation_of_the_features():
    student, teacher = features(0, B, 6), features(1, B, 9)
    rotation, _ = torch.linalg.qr(features(2, 6, 6))
    assert sp(37.5 * student @ rotation, teacher * 1e-3).item() == pytest.approx(sp(student, teacher).item(), rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_value_stays_between_zero_and_four_over_b(seed):
    value = sp(features(seed, B, 2), features(seed + 100, B, 3)).item()
    assert 0 < value < 4 / B
    assert sp(features(seed, B, 2), features(seed, B, 2)).item() == 0


@pytest.mark.parametrize("b", [2, 8, 64])
def test_maps_that_are_opposite_but_for_one_row_come_near_to_the_bound(b):
    # One input is long, the others short: like it to the student, opposite to it to the teacher. Every row is +-e_1.
    student = torch.full((b, 1), 1e-6, dtype=torch.float64)
    student[0] = 1.0
    teacher = torch.where(student < 1, -student, student)
    assert sp(student, teacher).item() == pytest.approx(4 / b * (1 - 1 / b), rel=1e-5)


def test_the_loss_is_of_the_students_type_whatever_the_teachers_is():
    student, teacher = features(0, B, 6, dtype=torch.float32), features(1, B, 9)
    assert sp(student, teacher).dtype == torch.float32
    assert sp(student.double(), teacher.float()).dtype == torch.float64


@pytest.mark.parametrize("one_dnn", [False, True], ids=["torch's own", "oneDNN"])
def test_autocast_does_not_reach_the_product(one_dnn, monkeypatch):
    monkeypatch.setattr(matmul, "_one_dnn", lambda: one_dnn)
    student = features(0, B, 4096, dtype=torch.float32) * 20
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = similarity(student)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, similarity(student))


@pytest.mark.parametrize("one_dnn", [False, True], ids=["torch's own", "oneDNN"])
def test_autocast_changes_neither_value_nor_gradient(one_dnn, monkeypatch):
    monkeypatch.setattr(matmul, "_one_dnn", lambda: one_dnn)
    student, teacher = (features(k, B, 4096, dtype=torch.float32) for k in (0, 1))
    found = []
    for enabled in (True, False):
        own = student.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            value = sp(own, teacher)
        found.append((value.detach(), torch.autograd.grad(value, own)[0]))
    assert all(torch.equal(inside, outside) for inside, outside in zip(*found, strict=True))


def test_no_gradient_reaches_a_teacher():
    student, teacher = features(0, B, 6).requires_grad_(), features(1, B, 6).requires_grad_()
    for mixing in ("normalise_first", "paper"):
        summed([student], [[teacher, Products(similarity(teacher))]], [0.5, 0.5], mixing).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def test_a_second_derivative_is_refused_instead_of_wrong():
    student = features(0, 5, 6).requires_grad_()
    (first,) = torch.autograd.grad(sp(student, features(1, 5, 4)), student, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        first.sum().backward()


def obvious(students, teachers, alphas, mixing):
    """sp of several layers and teachers as its formula reads, for autograd to differentiate."""

    def gram(features):
        return features.flatten(1) @ features.flatten(1).T

    def unit(product):
        return product / product.norm(dim=1, keepdim=True).clamp_min(1e-12)

    total = 0
    for student, known in zip(students, teachers, strict=True):
        before, after = (unit, lambda mix: mix) if mixing == "normalise_first" else (lambda product: product, unit)
        target = after(sum(alpha * before(gram(t)) for alpha, t in zip(alphas, known, strict=True)))
        total = total + (target - unit(gram(student))).square().sum() / len(student) ** 2
    return total


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("mixing", ["normalise_first", "paper"])
@pytest.mark.parametrize("b", [1, 2, 5])
def test_value_and_gradients_are_those_of_autograd_on_the_formula(b, mixing, dtype, rtol):
    students = [
        features(0, b, 12, dtype=dtype)[:, ::2],  # with gaps in memory
        features(1, b, 4, 7, dtype=dtype),
        features(2, b, 7, 4, dtype=dtype).movedim(-1, 1),  # as a signal's channels lie in a network on a CPU
        features(3, b, 3, 4, 5, dtype=dtype).contiguous(memory_format=torch.channels_last),
    ]
    teachers = [
        [features(k + j, b, *shape, dtype=dtype) for j, shape in enumerate([(4,), (2, 3, 3), (9,)])]
        for k in (10, 20, 30, 40)
    ]
    known = [[one, 3 * two, Products(similarity(three))] for one, two, three in teachers]
    exact = [[one.double(), 3 * two.double(), three.double()] for one, two, three in teachers]
    ours = [feature.requires_grad_() for feature in students]
    plain = [feature.detach().double().requires_grad_() for feature in students]
    value, expected = summed(ours, known, ALPHAS, mixing), obvious(plain, exact, ALPHAS, mixing)
    torch.testing.assert_close(value.double(), expected, rtol=rtol, atol=1e-12)
    for found, sought in zip(torch.autograd.grad(value, ours), torch.autograd.grad(expected, plain), strict=True):
        torch.testing.assert_close(found.double(), sought, rtol=rtol, atol=rtol * 1e-2)


@pytest.mark.parametrize("mixing", ["normalise_first", "paper"])
def test_an_all_zero_input_gives_a_zero_row_and_the_large_but_finite_gradient_of_the_formula(mixing):
    student, teachers = features(0, B, 6), [features(1, B, 9), features(2, B, 3, 4)]
    student[3], teachers[1][5] = 0, 0
    assert not normalise(similarity(student))[3].any()
    ours, plain, single = (one.requires_grad_() for one in (student.clone(), student.clone(), student.float()))
    (found,) = torch.autograd.grad(summed([ours], [teachers], [0.3, 0.7], mixing), ours)
    (sought,) = torch.autograd.grad(obvious([plain], [teachers], [0.3, 0.7], mixing), plain)
    torch.testing.assert_close(found, sought, rtol=1e-12, atol=1e-15)
    assert sought[3].norm() > 1e9 * sought[2].norm()  # its row of G is divided by 1e-12, not by its length
    (found,) = torch.autograd.grad(summed([single], [teachers], [0.3, 0.7], mixing), single)
    assert torch.isfinite(found).all()


def test_both_mixings_are_those_of_a_numpy_twin():
    student, small, large = features(0, B, 6), features(1, B, 9), 10 * features(2, B, 4)
    s = twin_map(student.numpy())
    normalised = 0.3 * twin_map(small.numpy()) + 0.7 * twin_map(large.numpy())
    raw = 0.3 * (small @ small.T).numpy() + 0.7 * (large @ large.T).numpy()
    raw /= np.linalg.norm(raw, axis=1, keepdims=True)
    for mixing, target in (("normalise_first", normalised), ("paper", raw)):
        expected = ((target - s) ** 2).sum() / B**2
        assert summed([student], [[small, large]], [0.3, 0.7], mixing).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("mixing", ["normalise_first", "paper"])
def test_a_teachers_products_serve_as_well_as_its_features(mixing):
    student, teachers = features(0, B, 6).requires_grad_(), [features(1, B, 9), features(2, B, 3, 4)]
    known = [Products(similarity(teachers[0])), teachers[1]]
    values = [summed([student], [which], [0.3, 0.7], mixing) for which in (teachers, known)]
    assert torch.equal(*values)
    assert torch.equal(*(torch.autograd.grad(value, student)[0] for value in values))
    with pytest.raises(ValueError, match="same b"):
        sp(features(0, B + 1, 6), known[0])


@pytest.mark.parametrize("mixing", ["normalise_first", "paper"])
def test_the_sum_over_layers_is_that_of_each_layer_by_itself(mixing):
    students = [features(k, B, 3 + k, 5).requires_grad_() for k in range(3)]
    teachers = [[features(10 + k, B, 4 + k), Products(similarity(features(20 + k, B, 9)))] for k in range(3)]
    together = summed(students, teachers, [0.3, 0.7], mixing)
    apart = sum(summed([s], [known], [0.3, 0.7], mixing) for s, known in zip(students, teachers, strict=True))
    torch.testing.assert_close(together, apart, rtol=1e-13, atol=0)
    for one, other in zip(*(torch.autograd.grad(value, students) for value in (together, apart)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-15)
    with pytest.raises(ValueError, match="same b"):
        summed([*students[:2], features(0, B + 1, 6)], teachers, [0.3, 0.7], mixing)
    with pytest.raises(ValueError, match="same b"):
        summed(students, [*teachers[:2], [teachers[2][0], features(0, B + 1, 6)]], [0.3, 0.7], mixing)
    with pytest.raises(ValueError, match="one alpha per teacher"):
        summed(students, [*teachers[:2], teachers[2][:1]], [0.3, 0.7], mixing)


def test_only_the_paper_mixing_lets_the_larger_teacher_win():
    student, small, large = features(0, B, 6), features(1, B, 9), features(2, B, 9)
    for mixing, same in (("normalise_first", True), ("paper", False)):
        values = [summed([student], [[small, k * large]], [0.5, 0.5], mixing).item() for k in (1, 1000)]
        assert (values[0] == pytest.approx(values[1], rel=1e-9)) is same
    assert values[1] == pytest.approx(sp(student, large).item(), rel=1e-4)


@pytest.mark.parametrize("teacher_b", [B - 1, 1, 0])
def test_batches_of_other_sizes_are_refused(teacher_b):
    with pytest.raises(ValueError, match="same b"):
        sp(features(0, B, 6), torch.zeros(teacher_b, 6))


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="b > 0"):
        sp(torch.zeros(0, 6), torch.zeros(0, 6))


@pytest.mark.parametrize(("teachers", "alphas"), [(1, [0.5, 0.5]), (2, [1.0]), (0, [])])
def test_alphas_must_match_the_teachers(teachers, alphas):
    with pytest.raises(ValueError, match="one alpha per teacher"):
        summed([features(0, B, 6)], [[features(1, B, 6)] * teachers], alphas)


def test_an_unknown_mixing_is_refused():
    with pytest.raises(ValueError, match="normalise_first or paper"):
        summed([features(0, B, 6)], [[features(1, B, 6)]], [1.0], "raw")
