"""Scores agree with scikit-learn's, class by class and where classes are missing."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score

from spkd.training import metrics


@pytest.mark.parametrize("seed", range(6))
def test_accuracy_f1_and_confusion_are_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    k = int(rng.integers(2, 13))
    truth, predicted = rng.integers(0, rng.integers(1, k + 1), 60), rng.integers(0, k, 60)
    labels = np.arange(k)
    found = metrics.scores(truth, predicted)
    present = np.unique(truth)
    assert found.macro_f1 == pytest.approx(f1_score(truth, predicted, labels=present, average="macro"), abs=1e-15)
    assert found.accuracy == np.mean(truth == predicted)
    counts = metrics.confusion(truth, predicted, k)
    assert np.array_equal(counts, confusion_matrix(truth, predicted, labels=labels))
    every = f1_score(truth, predicted, labels=labels, average=None, zero_division=0.0)
    f1 = metrics.per_class_f1(truth, predicted, k)
    assert np.array_equal(np.isnan(f1), ~np.isin(labels, present))
    assert f1[present] == pytest.approx(every[present], abs=1e-15)


def test_a_class_that_is_never_right_counts_as_zero_and_one_that_never_occurs_not_at_all():
    # Class 0: TP 2, FN 1 -> F1 4/5. Class 1: TP 0, FP 1 -> 0. Class 2 is only guessed: left out of the mean.
    truth, predicted = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 2])
    assert metrics.scores(truth, predicted).macro_f1 == pytest.approx((0.8 + 0.0) / 2)
    assert metrics.per_class_f1(truth, predicted, 4) == pytest.approx([0.8, 0.0, np.nan, np.nan], nan_ok=True)


def test_accuracy_of_a_subject_counts_its_own_windows():
    truth, predicted, subject = np.array([0, 1, 1, 0]), np.array([0, 0, 1, 1]), np.array([3, 3, 5, 3])
    assert metrics.per_subject_accuracy(truth, predicted, subject) == {3: pytest.approx(1 / 3), 5: 1.0}
