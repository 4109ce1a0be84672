"""The verdict on a repeated run: identical, equivalent, different or inconclusive. Pure: records in, a verdict out.

The rule, in order. (0) What went in must be the same: code, data, settings, teachers' weights, first weights; otherwise
`different`. (1) The same final weights and numbers are `identical`; on the same kind of machine with deterministic
algorithms anything else is `different`. (2) On another machine the losses of the first step and the similarity maps of
fixed weights must agree within tolerances; otherwise `different`. (3) Then the results of n trials must be shown to lie
within a margin fixed beforehand (TOST): `equivalent`; shown to lie beyond it: `different`; neither, or too few trials:
`inconclusive`. A difference that is not significant is never called the same.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from scipy import stats

from spkd.evidence import similarity
from spkd.settings import Reproduce

Status = Literal["identical", "equivalent", "different", "inconclusive"]
EXIT_STATUS: dict[Status, int] = {"identical": 0, "equivalent": 0, "different": 1, "inconclusive": 3}
KIND = ("cpu", "gpu", "driver", "cuda", "cudnn", "torch", "lock", "flags")
CLOCKS = ("seconds", "samples_per_s", "cost/latency_ms")
OF_MAPS = "sim/"


@dataclass(frozen=True)
class Record:
    """What is compared of one run. Hashes are hex, "" = not recorded.

    inputs: name -> hash or text of code, data, teachers, first weights. settings: dotted key -> text. machine: fact ->
    text. weights: hash of the final weights. deterministic: whether its bits can be repeated. first_step:
    loss -> value of the first batch. maps: layer -> (b, b) products of fixed weights on probe rows. results: metric ->
    value [0-1]. history: metric -> (step, value) by step.
    """

    run_id: str
    name: str
    seed: str
    inputs: Mapping[str, str]
    settings: Mapping[str, str]
    machine: Mapping[str, str]
    weights: str
    deterministic: bool
    first_step: Mapping[str, float]
    results: Mapping[str, float]
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    history: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One line of the side-by-side table. agrees: None = for information."""

    what: str
    recorded: str
    repeated: str
    agrees: bool | None


@dataclass(frozen=True)
class Verdict:
    """The judgement. level: 0 inputs, 1 bits, 2 first step and maps, 3 results; the one that decided."""

    status: Status
    level: int
    reason: str
    rows: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class Equivalence:
    """Difference of two means, repeated minus recorded, its (1 - 2 alpha) interval, and the TOST p value."""

    difference: float
    low: float
    high: float
    p: float


def tost(recorded: Sequence[float], repeated: Sequence[float], margin: float, alpha: float) -> Equivalence:
    """Two one-sided paired t tests of |mean difference| < margin; p is the larger of the two.

    recorded, repeated: the same seeds in the same order, at least two: what a seed does on both sides falls out.
    Equivalence is shown where p < alpha, which is where the interval lies inside (-margin, margin).
    Sources: Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987; Lakens, Soc. Psychol. Pers. Sci. 8, 2017.
    """
    gaps = np.asarray(repeated, np.float64) - np.asarray(recorded, np.float64)
    difference, error = float(gaps.mean()), float(gaps.std(ddof=1)) / math.sqrt(len(gaps))
    if error == 0:
        return Equivalence(difference, difference, difference, 0.0 if abs(difference) < margin else 1.0)
    freedom = len(gaps) - 1
    p = max(stats.t.sf((difference + margin) / error, freedom), stats.t.cdf((difference - margin) / error, freedom))
    half = float(stats.t.ppf(1 - alpha, freedom)) * error
    return Equivalence(difference, difference - half, difference + half, float(p))


def judge(pairs: Sequence[tuple[Record, Record]], limits: Reproduce) -> Verdict:
    """The verdict on (recorded, repeated) of each seed that was run again, the run that was asked for first.

    limits: what counts as the same, fixed beforehand. first_step is relative, maps the largest entry of row-normalised
    maps, margin of results [0-1], alpha the level of each one-sided test, min_trials the fewest trials on either side.
    """
    first = pairs[0]
    rows = [*input_rows(*first), *machine_rows(*first), *bit_rows(*first), *step_rows(*first, limits)]
    rows += [row for pair in pairs[1:] for row in _named(input_rows(*pair), pair)]
    rows += [row for pair in pairs[1:] for row in _named([*bit_rows(*pair), *step_rows(*pair, limits)], pair)]
    decided = [_of_one(*pair, limits) for pair in pairs]
    chosen = next((v for v in decided if v.status == "different"), None)
    if chosen is None:
        open_ones = [v for v in decided if v.status != "identical"]
        chosen = min(open_ones, key=lambda v: v.level) if open_ones else decided[0]
        chosen = _of_results(pairs, limits) if chosen.level == 3 else chosen
    return Verdict(chosen.status, chosen.level, chosen.reason, rows + result_rows(pairs, limits))


def _named(rows: Sequence[Row], pair: tuple[Record, Record]) -> list[Row]:
    """The disagreeing rows of a further trial, under its seed."""
    return [Row(f"t{pair[0].seed} {r.what}", r.recorded, r.repeated, r.agrees) for r in rows if r.agrees is False]


def _of_one(recorded: Record, repeated: Record, limits: Reproduce) -> Verdict:
    """The verdict that one pair allows; level 3 (results) is left open as inconclusive."""
    if broken := [row for row in input_rows(recorded, repeated) if row.agrees is False]:
        row = broken[0]
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        return Verdict("different", 0, f"{row.what}: recorded {row.recorded}, here {row.repeated}{more}")
    moved = _moved(recorded, repeated)
    if recorded.weights and recorded.weights == repeated.weights and not moved:
        return Verdict("identical", 1, "the same bits in the weights, the same numbers")
    if same_kind(recorded, repeated) and recorded.deterministic:
        where = f"first at {moved[0]}" if moved else "in the weights only"
        return Verdict("different", 1, f"the same kind of machine promises the same bits, but they differ, {where}")
    steps = step_rows(recorded, repeated, limits)
    if not steps:
        return Verdict("inconclusive", 2, "the record has neither a first step nor maps to compare")
    if wrong := [row for row in steps if not row.agrees]:
        row = wrong[0]
        return Verdict("different", 2, f"{row.what}: recorded {row.recorded}, here {row.repeated}")
    return Verdict("inconclusive", 3, "")


def _of_results(pairs: Sequence[tuple[Record, Record]], limits: Reproduce) -> Verdict:
    n, agreed = len(pairs), "first step and maps agree"
    if n < limits.min_trials:
        few = f"{n} of the {limits.min_trials} trials (reproduce.min_trials) that it takes"
        return Verdict("inconclusive", 3, f"{agreed}, but {few} to say that the results are equivalent")
    tests = _tests(pairs, limits)
    for name, test in tests.items():
        if test.low > limits.margin or test.high < -limits.margin:
            interval = f"{100 * test.low:+.2f} to {100 * test.high:+.2f} points"
            return Verdict("different", 3, f"{name} differs by {interval}, beyond {100 * limits.margin:g}")
    shown = {name: test for name, test in tests.items() if test.p < limits.alpha}
    if tests and len(shown) == len(tests):
        return Verdict("equivalent", 3, f"{agreed}, results within {100 * limits.margin:g} points (TOST, n {n})")
    missing = ", ".join(name for name in tests if name not in shown) or "no common result"
    return Verdict("inconclusive", 3, f"{agreed}, but {n} trials neither show nor exclude equivalence: {missing}")


def same_kind(recorded: Record, repeated: Record) -> bool:
    """Whether both machines are of one kind, so that bits may be compared."""
    return all(recorded.machine.get(key) == repeated.machine.get(key) for key in KIND)


def input_rows(recorded: Record, repeated: Record) -> list[Row]:
    """Code, data, teachers and first weights, then every setting that differs."""
    keys = [*recorded.inputs, *(key for key in repeated.inputs if key not in recorded.inputs)]
    rows = []
    for key in keys:
        one, other = recorded.inputs.get(key, ""), repeated.inputs.get(key, "")
        agrees = one == other if one and other else None
        rows.append(Row(key, one[:16] or "not recorded", other[:16] or "not recorded", agrees))
    for key in sorted({*recorded.settings, *repeated.settings}):
        old, new = recorded.settings.get(key, "absent"), repeated.settings.get(key, "absent")
        if old != new:
            rows.append(Row(f"setting {key}", old, new, False))
    return rows


def machine_rows(recorded: Record, repeated: Record) -> list[Row]:
    """Both machines; differences here are for information, as they choose the level and not the verdict."""
    keys = sorted({*recorded.machine, *repeated.machine})
    return [Row(key, recorded.machine.get(key, ""), repeated.machine.get(key, ""), None) for key in keys]


def bit_rows(recorded: Record, repeated: Record) -> list[Row]:
    """Hash of the final weights, and the first number of the history that differs."""
    same = recorded.weights == repeated.weights if recorded.weights and repeated.weights else None
    moved = _moved(recorded, repeated)
    numbers = Row("numbers of every epoch, results", "", f"first at {moved[0]}" if moved else "the same", not moved)
    return [
        Row("weights sha256", recorded.weights[:16], repeated.weights[:16], same),
        *([numbers] if moved or (recorded.history and repeated.history) else []),
    ]


def _moved(recorded: Record, repeated: Record) -> list[str]:
    """`metric, step` of every number that is not the same bit for bit, earliest step first, then the results.

    Clocks are left out; nan is nan. A number that one side lacks has moved, unless that side has no numbers at all or
    it is of the similarity maps: of which layers and how often they are looked at changes no training.
    """
    found = []
    if recorded.history and repeated.history:
        for key in recorded.history.keys() | repeated.history.keys():
            if key not in CLOCKS:
                one, other = dict(recorded.history.get(key, ())), dict(repeated.history.get(key, ()))
                steps = one.keys() & other.keys() if key.startswith(OF_MAPS) else one.keys() | other.keys()
                found += [(step, key) for step in steps if not same(one.get(step), other.get(step))]
    numbers = [f"{key}, step {step}" for step, key in sorted(found)]
    if recorded.results and repeated.results:
        keys = sorted(recorded.results.keys() | repeated.results.keys())
        numbers += [key for key in keys if not same(recorded.results.get(key), repeated.results.get(key))]
    return numbers


def same(one: float | None, other: float | None) -> bool:
    """Whether two numbers are one; None = there is none."""
    if one is None or other is None:
        return one is other
    return one == other or (math.isnan(one) and math.isnan(other))


def step_rows(recorded: Record, repeated: Record, limits: Reproduce) -> list[Row]:
    """The losses of the first step, and the largest entry by which each map differs.

    A loss is relative to the total, or to itself where it is larger. Total: `loss`; of a detector, without one, the
    largest loss.
    """
    rows = []
    largest = max((abs(v) for v in recorded.first_step.values()), default=0.0)
    total = abs(recorded.first_step.get("loss", largest))
    for key in sorted(recorded.first_step.keys() & repeated.first_step.keys()):
        one, other = recorded.first_step[key], repeated.first_step[key]
        gap = abs(one - other) / (max(total, abs(one)) or 1.0)
        text = f"{other:.7g} (off by {gap:.1e}, allowed {limits.first_step:g})"
        rows.append(Row(f"first step {key}", f"{one:.7g}", text, gap <= limits.first_step))
    for key in sorted(recorded.maps.keys() & repeated.maps.keys()):
        a, b = (similarity.normalised(np.asarray(r.maps[key])) for r in (recorded, repeated))
        gap = float(np.abs(a - b).max()) if a.shape == b.shape else math.inf
        rows.append(Row(f"map {key}", "", f"off by {gap:.1e}, allowed {limits.maps:g}", gap <= limits.maps))
    return rows


def _results(pairs: Sequence[tuple[Record, Record]]) -> dict[str, tuple[list[float], list[float]]]:
    """Metric -> (recorded, repeated) values, seed by seed, of the results that every trial has on both sides."""
    keys = set.intersection(*(set(record.results) for pair in pairs for record in pair))
    return {key: ([a.results[key] for a, _ in pairs], [b.results[key] for _, b in pairs]) for key in sorted(keys)}


def _tests(pairs: Sequence[tuple[Record, Record]], limits: Reproduce) -> dict[str, Equivalence]:
    found = _results(pairs) if len(pairs) >= 2 else {}
    return {key: tost(*both, limits.margin, limits.alpha) for key, both in found.items()}


def result_rows(pairs: Sequence[tuple[Record, Record]], limits: Reproduce) -> list[Row]:
    """Mean +- sample standard deviation of each result on either side, and the test where there are two trials."""
    rows, tests = [], _tests(pairs, limits)
    for key, (old, new) in _results(pairs).items():
        test, agrees = "", None
        if key in tests:
            t = tests[key]
            interval = f"{100 * t.low:+.2f} to {100 * t.high:+.2f}"
            test = f"; difference {interval}, margin {100 * limits.margin:g}, p {t.p:.2g}"
            agrees = True if t.p < limits.alpha else None
        rows.append(Row(f"{key} %", _spread(old), _spread(new) + test, agrees))
    return rows


def _spread(values: Sequence[float]) -> str:
    mean = f"{100 * float(np.mean(values)):.2f}"
    return (
        f"{mean} (n 1)" if len(values) < 2 else f"{mean} +- {100 * float(np.std(values, ddof=1)):.2f} (n {len(values)})"
    )


def columns(verdict: Verdict) -> dict[str, list[Any]]:
    """The side-by-side table as columns."""
    words = {True: "yes", False: "NO", None: "-"}
    return {
        "what": [row.what for row in verdict.rows],
        "recorded": [row.recorded for row in verdict.rows],
        "here": [row.repeated for row in verdict.rows],
        "agrees": [words[row.agrees] for row in verdict.rows],
    }


def markdown(verdict: Verdict, title: str) -> str:
    """The verdict and its table."""
    table = columns(verdict)
    lines = [f"# {title}", "", f"**{verdict.status}** (level {verdict.level}): {verdict.reason}", ""]
    lines += ["| " + " | ".join(table) + " |", "|" + "---|" * len(table)]
    for cells in zip(*table.values(), strict=True):
        lines.append("| " + " | ".join(str(c).replace("|", "/").replace("\n", " ") for c in cells) + " |")
    return "\n".join(lines) + "\n"
