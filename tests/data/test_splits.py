import dataclasses

import numpy as np
import pytest
from pydantic import ValidationError

from spkd.data import splits, windowset
from spkd.data.split_settings import LeaveOneSubjectOut, SubjectFractions
from spkd.errors import SpkdError


def windows_of(has):
    """A set with two windows for each class (column) that each subject (row) has."""
    subject, label = np.repeat(np.array(np.nonzero(has)), 2, axis=1)
    n_subjects, n_classes = np.shape(has)
    content = {
        "signal": np.arange(2.0 * len(label))[None],
        "starts": 2 * np.arange(len(label)),
        "label": label,
        "subject": subject,
    }
    manifest = {
        **{"dataset": "demo", "channels": ["x"], "classes": [f"c{i}" for i in range(n_classes)]},
        **{"subjects": [f"s{i}" for i in range(n_subjects)], "rate_hz": 1.0, "length": 2, "step": 2, "rule": "sound"},
        **{"drops": {}, "first_seen": {}, "notes": {}, "settings": {}},
        **{"origin": "simulated", "licence": "none", "citation": "none"},
    }
    return windowset.build(content, manifest)


def stream(seed=0):
    return np.random.default_rng(seed)


EVERYBODY = windows_of(np.ones((8, 3)))


def test_each_subject_is_tested_in_exactly_one_fold_and_alone():
    tested = [splits.leave_one_subject_out(EVERYBODY, fold, 1, stream()).test_subjects for fold in range(8)]
    assert tested == [[f"s{i}"] for i in range(8)]


@pytest.mark.parametrize("seed", range(20))
def test_the_parts_of_a_fold_share_no_subject_and_lose_no_window(seed):
    found = splits.leave_one_subject_out(EVERYBODY, seed % 8, 2, stream(seed))
    assert len(found.validation_subjects) == 2
    names = found.train_subjects + found.validation_subjects + found.test_subjects
    assert sorted(names) == EVERYBODY.subjects
    rows = np.concatenate([found.train, found.validation, found.test])
    assert sorted(rows) == list(range(len(EVERYBODY)))
    for part, subjects in ((found.train, found.train_subjects), (found.validation, found.validation_subjects)):
        assert {EVERYBODY.subjects[s] for s in EVERYBODY.subject[part]} == set(subjects)


def test_without_validation_subjects_all_others_train():
    found = splits.leave_one_subject_out(EVERYBODY, 2, 0, stream())
    assert found.train_subjects == [f"s{i}" for i in range(8) if i != 2]
    assert (found.validation_subjects, found.validation.shape, found.validation.dtype) == ([], (0,), np.int64)
    assert len(found.train) + len(found.test) == len(EVERYBODY) and found.missing == []


def test_the_same_stream_gives_the_same_split_and_another_one_another():
    chosen = [
        tuple(splits.leave_one_subject_out(EVERYBODY, 0, 2, stream(s)).validation_subjects) for s in (0, 0, *range(9))
    ]
    assert chosen[0] == chosen[1]
    assert len(set(chosen)) > 1


def test_a_subject_with_one_class_does_not_choose_the_epoch():
    has = np.ones((5, 4), dtype=bool)
    has[4, 1:] = False
    for seed in range(20):
        assert splits.leave_one_subject_out(windows_of(has), 0, 1, stream(seed)).validation_subjects != ["s4"]


def test_a_subject_with_one_class_chooses_the_epoch_where_nobody_else_is_left():
    has = np.ones((4, 3))
    has[2:, 1:] = 0
    for seed in range(10):
        found = splits.leave_one_subject_out(windows_of(has), 0, 2, stream(seed))
        assert found.validation_subjects == ["s2", "s3"]  # without s1 training would lack two classes


def test_the_two_training_subjects_of_a_class_are_not_both_held_out():
    has = np.ones((7, 2))
    has[3:, 1] = 0  # s1 and s2 alone have the second class, beside the tested s0
    held_out = [splits.leave_one_subject_out(windows_of(has), 0, 3, stream(seed)) for seed in range(20)]
    assert all(found.missing == [] for found in held_out)
    assert all(found.validation_subjects == sorted(found.validation_subjects) for found in held_out)
    assert any("s1" in found.validation_subjects for found in held_out)


def test_a_subject_with_half_of_the_classes_may_choose_the_epoch():
    has = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]], dtype=bool)
    for seed in range(20):  # s3 alone has two classes, s2 has less than half
        assert splits.leave_one_subject_out(windows_of(has), 0, 1, stream(seed)).validation_subjects == ["s1"]


def test_the_only_training_subject_of_a_class_is_not_held_out():
    has = np.ones((5, 4), dtype=bool)
    has[[1, 2, 4], 3] = False
    for seed in range(20):
        found = splits.leave_one_subject_out(windows_of(has), 0, 1, stream(seed))
        assert found.validation_subjects != ["s3"]
        assert found.missing == []


def test_a_class_that_training_lacks_is_reported():
    has = np.ones((4, 3), dtype=bool)
    has[1:, 2] = False
    assert splits.leave_one_subject_out(windows_of(has), 0, 1, stream()).missing == ["c2"]


def test_a_class_that_validation_alone_has_is_reported():
    has = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]], dtype=bool)
    found = splits.leave_one_subject_out(windows_of(has), 0, 1, stream())
    assert found.missing == [{"s1": "c2", "s2": "c3"}[found.validation_subjects[0]]]


@pytest.mark.parametrize("fold", [-1, 8])
def test_a_fold_that_does_not_exist_is_refused_with_the_ones_that_do(fold):
    with pytest.raises(SpkdError, match=r"0 to 7.*0 \(s0\)"):
        splits.leave_one_subject_out(EVERYBODY, fold, 1, stream())


def test_too_few_subjects_for_three_parts_are_refused():
    with pytest.raises(SpkdError, match="at least 3 subjects"):
        splits.leave_one_subject_out(windows_of(np.ones((2, 2))), 0, 1, stream())


@pytest.mark.parametrize("seed", range(10))
def test_fractions_count_subjects_not_windows(seed):
    has = np.ones((20, 6), dtype=bool)
    has[10:, 1:] = False
    found = splits.subject_fractions(windows_of(has), (0.7, 0.25), 2, stream(seed))
    assert len(found.test_subjects) == 5
    assert len(found.train_subjects) + len(found.validation_subjects) == 14
    names = found.train_subjects + found.validation_subjects + found.test_subjects
    assert len(set(names)) == len(names)


def test_fractions_above_one_or_that_leave_a_part_empty_are_refused():
    with pytest.raises(SpkdError, match="<= 1"):
        splits.subject_fractions(EVERYBODY, (0.8, 0.3), 1, stream())
    with pytest.raises(SpkdError, match="a subject in every part"):
        splits.subject_fractions(EVERYBODY, (0.05, 0.9), 1, stream())
    with pytest.raises(SpkdError, match="none in train"):
        splits.subject_fractions(EVERYBODY, (0.3, 0.3), 2, stream())


def test_the_settings_choose_the_rule():
    one_out = LeaveOneSubjectOut(rule="leave_one_subject_out", validation_subjects=2)
    assert splits.split(EVERYBODY, one_out, 3, stream()).test_subjects == ["s3"]
    shares = SubjectFractions(rule="subject_fractions", train_fraction=0.5, test_fraction=0.5, validation_subjects=1)
    assert len(splits.split(EVERYBODY, shares, 3, stream()).test_subjects) == 4


def test_no_validation_subject_may_be_asked_for_and_fewer_may_not():
    LeaveOneSubjectOut(rule="leave_one_subject_out", validation_subjects=0)
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        LeaveOneSubjectOut(rule="leave_one_subject_out", validation_subjects=-1)


def test_a_subject_or_a_window_in_two_parts_is_refused():
    found = splits.leave_one_subject_out(EVERYBODY, 0, 1, stream())
    with pytest.raises(SpkdError, match="each subject in one part"):
        splits.assert_disjoint(dataclasses.replace(found, train_subjects=[*found.train_subjects, "s0"]))
    with pytest.raises(SpkdError, match="1 windows in both train and test"):
        splits.assert_disjoint(dataclasses.replace(found, train=np.append(found.train, found.test[0])))
    with pytest.raises(SpkdError, match="1 windows in both train and validation"):
        splits.assert_disjoint(dataclasses.replace(found, train=np.append(found.train, found.validation[0])))
    with pytest.raises(SpkdError, match="1 windows in both validation and test"):
        splits.assert_disjoint(dataclasses.replace(found, validation=np.append(found.validation, found.test[0])))
