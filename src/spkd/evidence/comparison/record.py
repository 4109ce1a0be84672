"""One run as the comparison page knows it: plain values, read once, with nothing of a store or a file in it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spkd import config
from spkd.evidence.charts.colours import of_line
from spkd.evidence.charts.text import letter, without_shared_words
from spkd.evidence.selection import is_detector
from spkd.evidence.tracking.reading import RunInfo

LONGEST = 90  # of a value in a table


@dataclass(frozen=True)
class Map:
    """Products G = F F^T of one layer at one step, {"student" or a teacher's name: (b, b)}. labels: (b,) classes."""

    labels: np.ndarray
    products: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Record:
    """Everything that the page shows of one run. What the run did not record is empty.

    settings, taught, data, environment, code: flat, dotted key -> value; taught: settings of the runs that it builds
    on, `<teacher's name>.<key>`. curves: metric -> (step, value) pairs by step.
    maps: step -> layer -> Map. rows: which windows the maps show, as one text. classes: names by class index.
    confusion: (k, k) windows, rows = truth. subjects: name -> (accuracy, windows).
    """

    run: RunInfo
    settings: Mapping[str, Any] = field(default_factory=dict)
    taught: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    code: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    maps: Mapping[int, Mapping[str, Map]] = field(default_factory=dict)
    rows: str = ""
    classes: Sequence[str] = ()
    confusion: np.ndarray | None = None
    subjects: Mapping[str, tuple[float, int]] = field(default_factory=dict)

    @property
    def detection(self) -> bool:
        """Whether it found boxes rather than activities."""
        return is_detector(self.run)

    @property
    def teachers(self) -> dict[str, str]:
        """{name of the teacher: run id}."""
        ends = {k: v for k, v in self.run.tags.items() if k.startswith("teacher.") and k.endswith(".run_id")}
        return {k.removeprefix("teacher.").removesuffix(".run_id"): v for k, v in ends.items()}


@dataclass(frozen=True)
class Entry:
    """A record with its place on the page. title: its name without what all names share.

    number: for its letter and colour, and for hiding it.
    """

    number: int
    record: Record
    title: str

    @property
    def letter(self) -> str:
        """A ... Z, AA, AB ..."""
        return letter(self.number)

    @property
    def colour(self) -> str:
        """One of ten."""
        return of_line(self.number)[0]

    @property
    def dash(self) -> str:
        """Tells runs of one colour apart."""
        return of_line(self.number)[1]

    @property
    def name(self) -> str:
        """Letter and name."""
        return f"{self.letter}: {self.title}"


def entries(records: Sequence[Record]) -> tuple[list[Entry], list[Entry]]:
    """(runs on recordings, detection runs), each in the given order, with one numbering."""
    ordered = [r for r in records if not r.detection] + [r for r in records if r.detection]
    shared = [without_shared_words([r.run.name for r in ordered if r.detection == kind]) for kind in (False, True)]
    titles = [title for titles in shared for title in titles]
    found = [Entry(k, record, title) for k, (record, title) in enumerate(zip(ordered, titles, strict=True))]
    return [e for e in found if not e.record.detection], [e for e in found if e.record.detection]


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key -> value of every leaf."""
    return dict(config.leaves(dict(tree)))


def differing(columns: Sequence[Mapping[str, Any]], missing_counts: bool = True) -> tuple[list[str], list[str]]:
    """(every key of the flat columns, those whose values are not all equal); a missing value is one, if it counts."""
    keys = list(dict.fromkeys(key for column in columns for key in column))
    missing = object()
    found = {key: [c.get(key, missing) for c in columns if missing_counts or key in c] for key in keys}
    return keys, [key for key, values in found.items() if any(value != values[0] for value in values[1:])]


def short(value: Any) -> str:
    """A value as YAML on one line; a long one is cut and named by its hash, so that two long ones can be told apart."""
    text = value if isinstance(value, str) else config.dump(value)
    if len(text) <= LONGEST:
        return text
    return f"{' '.join(text[: LONGEST - 20].split())} ... #{hashlib.sha256(text.encode()).hexdigest()[:8]}"
