"""What a classifier got right: accuracy, macro-F1, confusion, per subject. Arrays in, numbers out."""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import confusion_matrix, f1_score


@dataclass(frozen=True)
class Scores:
    """accuracy and macro_f1 in [0, 1]; macro_f1 averages over the classes that occur in the truth."""

    accuracy: float
    macro_f1: float


def scores(truth: np.ndarray, predicted: np.ndarray) -> Scores:
    """Scores of predicted against true class indices, both (n,)."""
    present = np.unique(truth)
    f1 = f1_score(truth, predicted, labels=present, average="macro", zero_division=0.0)
    return Scores(float(np.mean(truth == predicted)), float(f1))


def confusion(truth: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """(n_classes, n_classes) counts; rows are the truth."""
    return np.asarray(confusion_matrix(truth, predicted, labels=np.arange(n_classes)))


def per_class_f1(truth: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """(n_classes,) F1 of each class; NaN where the class does not occur in the truth."""
    f1 = f1_score(truth, predicted, labels=np.arange(n_classes), average=None, zero_division=0.0)
    return np.where(np.bincount(truth, minlength=n_classes) > 0, f1, np.nan)


def per_subject_accuracy(truth: np.ndarray, predicted: np.ndarray, subject: np.ndarray) -> dict[int, float]:
    """Accuracy of each subject index that occurs in `subject` (n,)."""
    return {int(s): float(np.mean((truth == predicted)[subject == s])) for s in np.unique(subject)}
