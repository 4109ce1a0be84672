import numpy as np
import pytest
import torch

from spkd.evidence import similarity
from spkd.evidence.similarity import Layer
from spkd.losses import sp as sp_loss

STUDENT = np.array([[1.0, 0.0], [0.0, 2.0]])
TEACHER = np.array([[9.0, 12.0], [12.0, 16.0]])


def random_layer(b: int = 12, teachers: int = 2) -> Layer:
    rng = np.random.default_rng(0)

    def product() -> np.ndarray:
        f = rng.random((b, 20))
        return f @ f.T

    return Layer(product(), {f"t{k}": product() for k in range(teachers)})


def test_probe_takes_the_same_number_of_every_class_in_class_order():
    labels = np.array([2, 0, 1, 0, 2, 1, 0, 0, 2, 2, 1, 1])
    rows = similarity.probe(labels, 2)
    assert labels[rows].tolist() == [0, 0, 1, 1, 2, 2]
    assert rows.tolist() == [3, 7, 5, 11, 4, 9]
    assert similarity.probe(np.zeros(10, int), 3).tolist() == [1, 5, 8]  # the middles of three equal parts


def test_probe_spreads_a_class_over_subjects():
    labels = np.zeros(100, int)
    subjects = np.tile(np.arange(4), 25)
    assert sorted(subjects[similarity.probe(labels, 4, subjects)]) == [0, 1, 2, 3]


def test_the_whole_probe_is_in_the_order_of_class_subject_and_row():
    labels, subjects = np.arange(300) * 7 % 3, np.arange(300) * 11 % 4
    expected = np.lexsort((np.arange(300), subjects, labels))
    assert similarity.probe(labels, 300, subjects).tolist() == expected.tolist()


def test_probe_never_takes_a_window_twice_or_an_unlabelled_one_and_gives_all_of_a_small_class():
    labels = np.array([0, -1, 1, 1, 1, 1, 1])
    rows = similarity.probe(labels, 3)
    assert labels[rows].tolist() == [0, 1, 1, 1]
    assert len(set(rows.tolist())) == len(rows)
    assert similarity.probe(np.array([-1, -1]), 3).tolist() == []


def test_rows_are_scaled_to_length_one_as_computed_by_hand_and_a_dead_row_stays_zero():
    assert similarity.normalised(TEACHER).tolist() == [[0.6, 0.8], [0.6, 0.8]]
    assert similarity.normalised(np.zeros((2, 2))).tolist() == [[0, 0], [0, 0]]
    large = np.float32(1e30) * TEACHER.astype(np.float32)  # whose squares float32 does not hold
    assert similarity.normalised(large) == pytest.approx(similarity.normalised(TEACHER))


def test_distance_is_the_value_computed_by_hand():
    # (1-.6)^2 + .8^2 + .6^2 + (1-.8)^2 = 0.16 + 0.64 + 0.36 + 0.04 = 1.2; / 2^2
    assert similarity.distance(STUDENT, TEACHER) == pytest.approx(0.3)


def test_distance_equals_the_sp_loss_of_the_same_features():
    torch.manual_seed(0)
    student, teacher = torch.randn(8, 3, 5), torch.randn(8, 7)
    products = [sp_loss.similarity(f).numpy() for f in (student, teacher)]
    assert similarity.distance(*products) == pytest.approx(float(sp_loss.sp(student, teacher)), rel=1e-5)


def test_contrast_is_the_two_means_computed_by_hand_without_the_diagonal():
    product = np.array([[3.0, 4.0, 0.0], [4.0, 3.0, 0.0], [0.0, 0.0, 5.0]])
    labels = np.array([0, 0, 1])
    assert similarity.contrast(product, labels) == pytest.approx((0.8, 0.0))
    within, between = similarity.contrast(product, np.zeros(3, int))
    assert within == pytest.approx(1.6 / 6) and np.isnan(between)


def test_cka_is_the_value_computed_by_hand():
    # features x = (1, -1, 0) and y = (1, 0, -1), both centred: (x.y)^2 / (|x|^2 |y|^2) = 1 / 4
    x, y = np.array([[1.0], [-1.0], [0.0]]), np.array([[1.0], [0.0], [-1.0]])
    assert similarity.cka(x @ x.T, y @ y.T) == pytest.approx(0.25)


def test_cka_ignores_rotation_scale_and_shift_of_the_features():
    rng = np.random.default_rng(1)
    f = rng.normal(size=(10, 6))
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    other = 3 * f @ rotation + 5
    assert similarity.cka(f @ f.T, other @ other.T) == pytest.approx(1.0)
    assert np.isnan(similarity.cka(np.ones((4, 4)), f[:4] @ f[:4].T))


def test_numbers_leave_out_what_is_not_defined_and_name_every_teacher():
    layer = random_layer()
    found = similarity.numbers(layer, np.repeat([0, 1, 2], 4))
    assert set(found) == {
        "within", "between", "contrast", "distance/t0", "cka/t0", "contrast/t0", "distance/t1", "cka/t1", "contrast/t1"
    }  # fmt: skip
    assert found["contrast"] == pytest.approx(found["within"] - found["between"])
    within, between = similarity.contrast(layer.teachers["t1"], np.repeat([0, 1, 2], 4))
    assert found["contrast/t1"] == pytest.approx(within - between)
    alone = similarity.numbers(Layer(layer.student), np.zeros(12, int))
    assert set(alone) == {"within"}


def test_the_colour_scale_of_a_layer_is_the_teachers_and_stays_while_the_student_changes():
    layer = random_layer()
    other = Layer(np.eye(12), layer.teachers)
    assert layer.limits == other.limits
    assert layer.signed_limits == other.signed_limits == (layer.limits[0] - layer.limits[1], np.ptp(layer.limits))
    entries = [similarity.normalised(t)[~np.eye(12, dtype=bool)] for t in layer.teachers.values()]
    assert layer.limits == tuple(np.percentile(np.concatenate(entries), [1, 99]))


def test_one_entry_far_out_does_not_set_the_scale_of_the_differences():
    differences = np.full((20, 20), 0.1)
    differences[3, 4] = -5.0
    assert similarity.symmetric([differences]) == pytest.approx((-0.1, 0.1))


def test_a_difference_is_the_students_map_minus_the_teachers():
    found = Layer(STUDENT, {"t": TEACHER}).differences["t"]
    assert found.ravel() == pytest.approx([0.4, -0.8, -0.6, 0.2])


def test_a_constant_map_still_has_a_colour_scale():
    low, high = similarity.spread([np.full((3, 3), 0.5)])
    assert low < 0.5 < high
    low, high = similarity.symmetric([np.zeros((3, 3))])
    assert low < 0 < high


def test_entries_that_are_no_numbers_do_not_count_in_a_colour_scale():
    broken, whole = np.full((3, 3), np.nan), np.array([[0.0, 1, 1], [0, 0, 1], [0, 0, 0]])
    assert similarity.spread([broken, whole]) == similarity.spread([whole])
    assert similarity.symmetric([broken, whole]) == similarity.symmetric([whole])
    assert similarity.spread([broken]) == (-0.5, 0.5)
    assert similarity.symmetric([broken]) == (-1, 1)


def test_a_picture_repeats_every_entry_and_draws_the_class_boundary():
    labels = np.array([0, 0, 1])
    image = similarity.draw(np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]), (0, 1), labels)
    assert image.shape == (258, 258, 3) and image.dtype == np.uint8
    yellow, violet = image[10, 10].tolist(), image[10, 100].tolist()
    assert yellow == [253, 231, 36] and violet == [68, 1, 84]
    assert (image[172] == 255).all() and (image[:, 172] == 255).all() and not (image[86] == 255).all()


def test_a_difference_of_zero_is_white_and_signs_have_their_own_colour():
    image = similarity.draw(np.array([[-1.0, 0.0], [0.0, 1.0]]), (-1, 1), np.zeros(2), signed=True)
    blue, white, red = (image[at].astype(int) for at in ((5, 5), (5, 200), (200, 200)))
    assert blue[2] > blue[0] and red[0] > red[2] and white.min() > 240


def test_every_layer_has_a_picture_of_each_teacher_the_student_and_their_difference():
    named = similarity.images(random_layer(teachers=1), np.repeat([0, 1], 6))
    assert list(named) == ["t0", "student", "student - t0"]
    assert list(similarity.images(random_layer(teachers=0), np.repeat([0, 1], 6))) == ["student"]


def test_arrays_come_back_from_npz_without_pickle(tmp_path):
    layers, labels = {"group1": random_layer()}, np.repeat([0, 1, 2], 4)
    path = tmp_path / "maps.npz"
    np.savez_compressed(path, **similarity.arrays(layers, labels, np.arange(12), 7))
    with np.load(path, allow_pickle=False) as stored:
        assert set(stored) == {"labels", "rows", "step", "group1/student", "group1/teacher/t0", "group1/teacher/t1"}
        assert stored["step"] == 7
        assert np.array_equal(stored["group1/student"], layers["group1"].student.astype(np.float32))
        ((layer, found),) = (again := similarity.stored(stored)).values()
    assert list(again) == ["group1"] and np.array_equal(found, labels) and list(layer.teachers) == ["t0", "t1"]
    assert np.array_equal(layer.teachers["t1"], layers["group1"].teachers["t1"].astype(np.float32))


def test_the_scale_of_differences_to_a_teacher_of_equal_entries_is_not_nothing():
    layer = Layer(np.eye(12), {"t": np.ones((12, 12))})
    assert layer.signed_limits[1] >= 0.05


def test_a_difference_that_becomes_small_is_drawn_pale():
    layer = random_layer()
    (name, teacher), *_ = layer.teachers.items()
    pale = [
        similarity.images(Layer(teacher + share * (layer.student - teacher), {name: teacher}), np.zeros(12, int))
        for share in (1.0, 0.1, 0.01)
    ]
    colour = [float(np.ptp(images[f"student - {name}"].astype(int), axis=2).mean()) for images in pale]
    assert colour[0] > 3 * colour[1] > 3 * colour[2]


def test_cka_of_small_features_is_that_of_large_ones_and_of_a_constant_layer_none():
    features = np.random.default_rng(3).normal(size=(12, 5))
    small = 1e-5 * features
    assert similarity.cka(small @ small.T, 1e-6 * small @ small.T) == pytest.approx(1)
    constant = np.full((12, 5), 0.3, np.float32) + np.float32(1e-8)
    assert np.isnan(similarity.cka(constant @ constant.T, features @ features.T))
