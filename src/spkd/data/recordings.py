"""What a reader returns: labelled, continuous signals of one subject each, and a count of everything it dropped.

Readers on the datasets shelf produce these; windowing consumes them. Nothing here knows a file format.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

UNLABELLED = -1


@dataclass(frozen=True)
class Recording:
    """One subject's continuous signal with a label per sample.

    subject: the data set's own id ("101"). name: the file or bout it came from.
    signal: (samples, channels) float32 in the units the data set documents, no NaN.
    label: (samples,) int16 class index, UNLABELLED where a window must not start or pass.
    segment: (samples,) int32, a new number after every time gap: samples of two segments are never neighbours in time.
    """

    subject: str
    name: str
    signal: np.ndarray
    label: np.ndarray
    segment: np.ndarray


@dataclass
class Report:
    """Counts of what a reader met: drops by reason, gaps, and where each was first seen. Never silent."""

    drops: Counter[str] = field(default_factory=Counter)
    first_seen: dict[str, str] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def drop(self, reason: str, where: str, n: int = 1) -> None:
        """Count n samples, rows, pages or files dropped for a reason, and remember the first place."""
        if n:
            self.drops[reason] += n
            self.first_seen.setdefault(reason, where)

    def note(self, name: str, n: int) -> None:
        """Count n more of something that is told and not dropped."""
        self.notes[name] = self.notes.get(name, 0) + n

    def __str__(self) -> str:
        """What was dropped, in words, for the message of an error that it may explain."""
        drops = [f"{n} x {reason}, first {self.first_seen[reason]}" for reason, n in self.drops.items()]
        return "; ".join(drops) or "nothing"


@dataclass(frozen=True)
class Recordings:
    """Everything a data set's reader knows.

    channels: names, in column order. classes: names, in index order. rate_hz: after resampling.
    origin: "simulated" or the source's name. licence, citation: of the raw data.
    """

    items: list[Recording]
    channels: list[str]
    classes: list[str]
    rate_hz: float
    origin: str
    licence: str
    citation: str
    report: Report
