"""What a table of runs says: spreads, tests against a baseline, differences of settings. Pure functions of records.

Contract: every trial is kept; a mean says over which trials; a cell that is not there is named, never filled in.
Accuracies are fractions 0-1 here and percent only where they are written down.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import stats

RESULTS = {
    "headline": "headline",
    "validation": "chosen on validation",
    "last": "last epoch",
    "best": "best TEST epoch",
}
SCORES = ("accuracy", "macro_f1")
HEADLINE = "headline/accuracy"
# On validation subjects, at the epoch that they chose: the one number here that is not of the test subjects.
VALIDATION = "validation/val_accuracy"
OF_TEACHERS = ("views.", "networks.")
FEWEST_PAIRS = 3
# Differences of accuracies that spread less than this do so by rounding, and would test as all but certain.
SMALLEST_SPREAD = 1e-9


@dataclass(frozen=True)
class Record:
    """One cell of one row. results: {"headline/accuracy": 0-1, ...}, empty where it is not done.

    windows: how many test windows. settings, context: flat, dotted key -> text; context is data, code and machine.
    curve: (epoch, test accuracy) pairs. rule: what the headline is. origin: "simulated" or where the recordings are
    from.
    """

    row: str
    fold: int
    trial: int
    subjects: str = ""
    status: str = "done"
    reason: str = ""
    run_id: str = ""
    results: dict[str, float] = field(default_factory=dict)
    windows: int = 0
    seconds: float = 0.0
    settings: dict[str, str] = field(default_factory=dict)
    context: dict[str, str] = field(default_factory=dict)
    curve: list[tuple[int, float]] = field(default_factory=list)
    rule: str = ""
    origin: str = ""
    published: float | None = None


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1) of one value a trial. wanted: how many trials there should be."""

    values: dict[int, float]
    wanted: int

    @property
    def n(self) -> int:
        """How many trials there are."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Mean over the trials, nan where there is none."""
        return float(np.mean(list(self.values.values()))) if self.values else math.nan

    @property
    def sd(self) -> float:
        """Sample standard deviation over the trials, nan below two."""
        return float(np.std(list(self.values.values()), ddof=1)) if self.n > 1 else math.nan


Scope = Callable[[str, dict[int, Record]], float]
"""From a result's key and the records of one trial by fold to one number."""


def rows(records: Iterable[Record]) -> list[str]:
    """Names of the rows, in the order of the table."""
    return list(dict.fromkeys(r.row for r in records))


def folds(records: Iterable[Record]) -> list[int]:
    """Folds of the table, ascending."""
    return sorted({r.fold for r in records})


def mean_of_folds(key: str, by_fold: dict[int, Record]) -> float:
    """Every fold weighs the same."""
    return float(np.mean([r.results[key] for r in by_fold.values()]))


def pooled(key: str, by_fold: dict[int, Record]) -> float:
    """Every test window weighs the same: folds weigh by their windows. For accuracy, the share of all windows."""
    return sum(r.results[key] * r.windows for r in by_fold.values()) / sum(r.windows for r in by_fold.values())


def spread(
    records: Sequence[Record], row: str, key: str = HEADLINE, among: Iterable[int] | None = None,
    scope: Scope = mean_of_folds,
) -> Spread:  # fmt: skip
    """One number a trial, for the trials that have every fold among those asked for (None: of the table)."""
    wanted = set(folds(records) if among is None else among)
    by_trial: dict[int, dict[int, Record]] = {}
    for r in records:
        if r.row == row and r.fold in wanted:
            by_trial.setdefault(r.trial, {})[r.fold] = r
    whole = {
        trial: by_fold
        for trial, by_fold in by_trial.items()
        if set(by_fold) == wanted and all(key in r.results for r in by_fold.values())
    }
    return Spread({trial: scope(key, by_fold) for trial, by_fold in sorted(whole.items())}, len(by_trial))


@dataclass(frozen=True)
class Test:
    """A row against the baseline, paired. unit: what a pair is. difference: mean [0-1], with its 95 % interval.

    p: two-sided paired t test, of folds whose test subjects overlap with the variance that Nadeau and Bengio correct
    (Machine Learning 52, 2003); p_holm: after Holm's correction for the rows of the table. dz: mean over sd of the
    differences (Cohen). nan where there are too few pairs or the differences do not vary.
    """

    row: str
    unit: str
    n: int
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    dz: float = math.nan
    p: float = math.nan
    p_holm: float = math.nan


def tests(records: Sequence[Record], baseline: str, unit: str = "") -> list[Test]:
    """The headline of every other row against the baseline's, with p corrected over all of them.

    A pair is a fold (the mean over its trials, which are no independent subjects) where the table has at least two
    folds, and a trial otherwise, or as unit says. Only trials that both rows have count.
    """
    unit = unit or ("fold" if len(folds(records)) > 1 else "trial")
    shared = overlap(records) if unit == "fold" else 0.0
    others = [row for row in rows(records) if row != baseline]
    found = [_test(row, unit, *pairs(records, baseline, row, unit == "fold"), shared) for row in others]
    corrected = holm([t.p for t in found])
    return [replace(t, p_holm=p) for t, p in zip(found, corrected, strict=True)]


def pairs(records: Sequence[Record], baseline: str, row: str, by_fold: bool) -> tuple[list[float], list[float]]:
    """(baseline, row): matched values, one a fold, or one a trial."""
    values = {(r.row, r.fold, r.trial): r.results[HEADLINE] for r in records if HEADLINE in r.results}
    both = sorted((f, t) for name, f, t in values if name == row and (baseline, f, t) in values)
    groups = [[p for p in both if p[0] == f] for f in sorted({f for f, _ in both})] if by_fold else [[p] for p in both]
    means = [[float(np.mean([values[(name, *p)] for p in group])) for group in groups] for name in (baseline, row)]
    return means[0], means[1]


def overlap(records: Sequence[Record]) -> float:
    """Test subjects per training subject where folds are random draws, which have subjects in common; 0 elsewhere."""
    found = [0.0]
    for r in records:
        split = {key.split(".split.")[1]: value for key, value in r.settings.items() if ".split." in key}
        if split.get("rule") == "subject_fractions":
            n, held_out = int(r.context["data.subjects"]), int(split["validation_subjects"])
            test_share, train_share = float(split["test_fraction"]), float(split["train_fraction"])
            tested, trained = math.ceil(test_share * n), math.floor(train_share * n) - held_out
            found.append(tested / max(1, trained))
    return max(found)


def _test(row: str, unit: str, before: list[float], after: list[float], shared: float) -> Test:
    n = len(after)
    if not n:
        return Test(row, unit, 0)
    gaps = np.subtract(after, before)
    mean = float(gaps.mean())
    if n < FEWEST_PAIRS or not (sd := float(gaps.std(ddof=1))) > SMALLEST_SPREAD:
        return Test(row, unit, n, mean)
    error = sd * math.sqrt(1 / n + shared)
    reach, p = error * stats.t.ppf(0.975, n - 1), 2 * stats.t.sf(abs(mean) / error, n - 1)
    return Test(row, unit, n, mean, float(mean - reach), float(mean + reach), mean / sd, float(p))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the k-th smallest of m is multiplied by m - k + 1, never below a smaller one's.

    nan, a comparison that is planned and has no p yet, stays nan and counts among the m: what is corrected for must not
    depend on which rows are finished. Source: Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = list(p_values), 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(corrected) - rank)))
        corrected[i] = largest
    return corrected


def differing(records: Sequence[Record], of: str) -> dict[str, dict[str, str]]:
    """{key: {row: its values}} of the settings or the context that are not the same in every row.

    of: "settings" or "context". A row that itself varies (a machine in the middle of a table) lists all its values.
    What a row lacks is a difference, but for views and networks: whose teachers it has is told by `distill.teachers`.
    """
    seen: dict[str, dict[str, set[str]]] = {}
    done = [r for r in records if r.status == "done"]
    keys = {key for r in done for key in getattr(r, of)}
    for r in done:
        for key in keys:
            seen.setdefault(key, {}).setdefault(r.row, set()).add(str(getattr(r, of).get(key, "-")))
    return {
        key: {row: " | ".join(sorted(values)) for row, values in by_row.items()}
        for key, by_row in sorted(seen.items())
        if len({v for values in by_row.values() for v in values if v != "-" or not key.startswith(OF_TEACHERS)}) > 1
    }


def mean_curve(records: Sequence[Record], row: str) -> list[tuple[int, float]]:
    """(epoch, mean test accuracy over the cells of a row that have it)."""
    points: dict[int, list[float]] = {}
    for r in records:
        for epoch, value in r.curve if r.row == row else []:
            points.setdefault(epoch, []).append(value)
    return [(epoch, float(np.mean(values))) for epoch, values in sorted(points.items())]


def absent(records: Sequence[Record]) -> list[Record]:
    """The cells that are not done."""
    return [r for r in records if r.status != "done"]
