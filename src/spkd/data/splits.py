"""Which windows train, validate and test: always whole subjects, never one subject in two parts (asserted).

Validation subjects are held out of the TRAINING subjects to choose the epoch; the test subjects choose nothing. The
published protocol has none: that part is then empty.
The caller gives the random stream, derived from the fold alone, so that the trials of a fold share one split.
"""

from dataclasses import dataclass

import numpy as np

from spkd.data.split_settings import LeaveOneSubjectOut, SubjectFractions
from spkd.data.windowset import WindowSet
from spkd.errors import SpkdError


@dataclass(frozen=True)
class Split:
    """Row numbers of the three parts, ascending, and the subjects in each.

    train, validation, test: (k,) int64. missing: classes that test or validation have and training lacks, to be told.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    train_subjects: list[str]
    validation_subjects: list[str]
    test_subjects: list[str]
    missing: list[str]


def split(
    windows: WindowSet, rule: LeaveOneSubjectOut | SubjectFractions, fold: int, rng: np.random.Generator
) -> Split:
    """The split that a data set's `split` section describes. rng: derived from the fold alone, not from the trial."""
    if isinstance(rule, LeaveOneSubjectOut):
        return leave_one_subject_out(windows, fold, rule.validation_subjects, rng)
    fractions = (rule.train_fraction, rule.test_fraction)
    return subject_fractions(windows, fractions, rule.validation_subjects, rng)


def leave_one_subject_out(windows: WindowSet, fold: int, n_validation: int, rng: np.random.Generator) -> Split:
    """Fold k tests on the k-th subject of the set. Raises SpkdError where there is no such subject."""
    n = len(windows.subjects)
    if not 0 <= fold < n:
        do = f"choose one of {', '.join(f'{i} ({s})' for i, s in enumerate(windows.subjects))}"
        raise SpkdError("fold", f"0 to {n - 1}", fold, do)
    if n < 2 + n_validation:
        raise SpkdError("split", f"at least {2 + n_validation} subjects", windows.subjects, "add recordings")
    subjects = np.unique(windows.subject)
    return _parts(windows, subjects[subjects != fold], subjects[subjects == fold], n_validation, rng)


def subject_fractions(
    windows: WindowSet, fractions: tuple[float, float], n_validation: int, rng: np.random.Generator
) -> Split:
    """A random draw of (train, test) shares of the subjects; validation subjects come out of the training share.

    Raises SpkdError where the shares exceed 1 or leave a part empty.
    """
    # Here, because it takes as long to import as the rest of a run does, and few data sets are split so.
    from sklearn.model_selection import GroupShuffleSplit

    train_share, test_share = fractions
    if train_share + test_share > 1.0 + 1e-9:
        got = f"{train_share} + {test_share}"
        raise SpkdError("split", "train_fraction + test_fraction <= 1", got, "lower one of them in params.yaml")
    random_state = int(rng.integers(2**31))
    draw = GroupShuffleSplit(1, train_size=train_share, test_size=test_share, random_state=random_state)
    try:
        train, test = next(draw.split(windows.starts, groups=windows.subject))
    except ValueError as error:
        got = f"{len(windows.subjects)} subjects, shares {fractions}: {error}"
        raise SpkdError("split", "a subject in every part", got, "change the fractions or add recordings") from None
    return _parts(windows, np.unique(windows.subject[train]), np.unique(windows.subject[test]), n_validation, rng)


def _parts(
    windows: WindowSet, train: np.ndarray, test: np.ndarray, n_validation: int, rng: np.random.Generator
) -> Split:
    """The Split of these subject indices, after validation subjects were held out of training."""
    has = np.zeros((len(windows.subjects), len(windows.classes)), dtype=bool)
    has[windows.subject, windows.label] = True
    validation = _held_out(has, train, n_validation, rng)
    parts = {"train": np.setdiff1d(train, validation), "validation": validation, "test": test}
    rows = {name: np.flatnonzero(np.isin(windows.subject, part)).astype(np.int64) for name, part in parts.items()}
    names = {name: [windows.subjects[s] for s in part] for name, part in parts.items()}
    empty = [name for name in parts if not len(rows[name]) and name != "validation"]
    if empty:
        got = f"none in {', '.join(empty)}"
        raise SpkdError("split", "windows in every part", got, "lower split.validation_subjects or add recordings")
    seen = has[parts["train"]].any(axis=0)
    wanted = has[np.concatenate([validation, test])].any(axis=0)
    missing = [name for name, lacks in zip(windows.classes, wanted & ~seen, strict=True) if lacks]
    found = Split(
        rows["train"], rows["validation"], rows["test"], names["train"], names["validation"], names["test"], missing
    )
    assert_disjoint(found)
    return found


def _held_out(has: np.ndarray, train: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """n of the training subjects, in random order of preference among those fit to judge an epoch.

    has: (subjects, classes) bool. Fit: at least half of the classes of the training subjects (PAMAP2's subject 109 has
    one), and none of them the last example of a class in training; both give way where nobody is fit.
    """
    enough = has[train].sum(axis=1) * 2 >= has[train].any(axis=0).sum()
    shuffled = rng.permutation(len(train))
    candidates = [train[i] for i in shuffled if enough[i]] + [train[i] for i in shuffled if not enough[i]]
    chosen: list[int] = []
    while len(chosen) < n and candidates:
        left = [c for c in train if c not in chosen]
        keeps_all = [
            c for c in candidates if not (has[left].any(axis=0) & ~has[[x for x in left if x != c]].any(axis=0)).any()
        ]
        pick = int((keeps_all or candidates)[0])
        chosen.append(pick)
        candidates = [c for c in candidates if c != pick]
    return np.sort(np.array(chosen, dtype=np.int64))


def assert_disjoint(found: Split) -> None:
    """Raise SpkdError where a subject, or a window, is in two parts."""
    parts = {"train": found.train_subjects, "validation": found.validation_subjects, "test": found.test_subjects}
    for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
        common = sorted(set(parts[a]) & set(parts[b]))
        rows = np.intersect1d(getattr(found, a), getattr(found, b))
        if common or len(rows):
            got = f"subjects {common}, {len(rows)} windows in both {a} and {b}"
            raise SpkdError("split", "each subject in one part", got, "correct the split rule")
