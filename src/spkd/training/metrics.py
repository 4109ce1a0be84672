"""What a classifier got right: accuracy, macro-F1, confusion, per subject. Arrays in, numbers out.

Counted with numpy: the same numbers as scikit-learn's (tests/training/test_metrics.py; macro-F1 with the classes of the
truth as `labels`), whose import takes longer than everything else that a run does before its first epoch.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scores:
    """accuracy and macro_f1 in [0, 1]; macro_f1 averages over the classes that occur in the truth."""

    accuracy: float
    macro_f1: float


def scores(truth: np.ndarray, predicted: np.ndarray) -> Scores:
    """Scores of predicted against true class indices, both (n,)."""
    counts = confusion(truth, predicted, 1 + int(max(truth.max(), predicted.max())))
    return Scores(float(np.mean(truth == predicted)), float(np.nanmean(_f1(counts))))


def confusion(truth: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """(n_classes, n_classes) counts; rows are the truth."""
    pairs = np.asarray(truth, np.int64) * n_classes + predicted
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def per_class_f1(truth: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """(n_classes,) F1 of each class; NaN where the class does not occur in the truth."""
    return _f1(confusion(truth, predicted, n_classes))


def _f1(counts: np.ndarray) -> np.ndarray:
    """F1 = 2 TP / (2 TP + FP + FN) of every class of a confusion matrix; NaN where its row is empty."""
    true, guessed = counts.sum(axis=1), counts.sum(axis=0)
    return np.where(true > 0, 2 * counts.diagonal() / np.maximum(true + guessed, 1), np.nan)


def per_subject_accuracy(truth: np.ndarray, predicted: np.ndarray, subject: np.ndarray) -> dict[int, float]:
    """Accuracy of each subject index that occurs in `subject` (n,)."""
    return {int(s): float(np.mean((truth == predicted)[subject == s])) for s in np.unique(subject)}
