"""Scaling statistics of a WindowSet, measured on training windows and carried with the weights.

Three named rules, none silent: `training` (the sound default), `paper` (the published line's) and `subject`
(unsupervised: each subject by its own windows, the held-out one too).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from spkd.data.split_settings import Scaling as Rule
from spkd.data.windowset import WindowSet, covered
from spkd.errors import SpkdError

CHUNK_WINDOWS = 1024
SMALLEST_STD = 1e-7  # relative to |mean|: float32 cannot tell less from a constant


@dataclass(frozen=True)
class Scaling:
    """Statistics that turn stored units into z-scores: (x - mean) / std.

    rule: how they were measured. subjects: whom they were measured on.
    mean, std: (groups, channels) float64; one group, or one for each of `subjects` where the rule is `subject`.
    constant: channels without spread in some group; their std is set to 1, so that they become 0.
    """

    rule: Rule
    subjects: list[str]
    channels: list[str]
    mean: np.ndarray
    std: np.ndarray
    constant: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values that `from_dict` reads back exactly."""
        lists = {"subjects": self.subjects, "channels": self.channels, "constant": self.constant}
        return {"rule": self.rule, **lists, "mean": self.mean.tolist(), "std": self.std.tolist()}

    def group(self, windows: WindowSet) -> np.ndarray:
        """(n_subjects,) row of mean and std that each subject of the set takes.

        Raises SpkdError where channels differ or, under rule `subject`, a subject was not measured.
        """
        if windows.channels != self.channels:
            raise SpkdError(
                "scaling", f"channels {self.channels}", windows.channels, "use the data set it was measured on"
            )
        if self.rule != "subject":
            return np.zeros(len(windows.subjects), dtype=np.int64)
        missing = sorted(set(windows.subjects) - set(self.subjects))
        if missing:
            do = "measure it on this set: the rule `subject` needs each subject's own windows"
            raise SpkdError("scaling", f"statistics of subjects {', '.join(missing)}", self.subjects, do)
        return np.array([self.subjects.index(name) for name in windows.subjects], dtype=np.int64)


def from_dict(stored: Mapping[str, Any]) -> Scaling:
    """The Scaling that `to_dict` wrote. Raises SpkdError where a key is missing or shapes disagree."""
    try:
        mean, std = (np.array(stored[key], dtype=np.float64) for key in ("mean", "std"))
        scaling = Scaling(
            stored["rule"], list(stored["subjects"]), list(stored["channels"]), mean, std, list(stored["constant"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SpkdError("scaling", "what Scaling.to_dict writes", error, "train again") from None
    groups = len(scaling.subjects) if scaling.rule == "subject" else 1
    if scaling.rule not in get_args(Rule) or not mean.shape == std.shape == (groups, len(scaling.channels)):
        got = f"rule {scaling.rule!r}, mean {mean.shape}, std {std.shape}"
        raise SpkdError(
            "scaling", f"({groups}, {len(scaling.channels)}) statistics of a known rule", got, "train again"
        )
    return scaling


def measure(windows: WindowSet, rows: np.ndarray, rule: Rule) -> Scaling:
    """Statistics of one rule.

    rows: (k,) row numbers of the TRAINING windows; under `subject` they are ignored and every subject is measured.
    training: mean and std of the samples that these windows cover, each sample once.
    paper: mean of all windows' samples (overlaps count again), std = mean of the windows' own stds.
    Raises SpkdError where there is nothing to measure.
    """
    if not len(rows):
        raise SpkdError(f"scaling {rule}", "training windows", "none", "change the split")
    if rule == "subject":
        kept = np.unique(windows.subject)
        moments = [_covered(windows, np.flatnonzero(windows.subject == s)) for s in kept]
    else:
        kept = np.unique(windows.subject[rows])
        moments = [_paper(windows, rows) if rule == "paper" else _covered(windows, rows)]
    mean, std = (np.stack([m[i] for m in moments]) for i in (0, 1))
    flat = std <= SMALLEST_STD * np.abs(mean)
    constant = [name for name, is_flat in zip(windows.channels, flat.any(axis=0), strict=True) if is_flat]
    names = [windows.subjects[s] for s in kept]
    return Scaling(rule, names, windows.channels, mean, np.where(flat, 1.0, std), constant)


def _covered(windows: WindowSet, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inside = covered(windows.signal.shape[1], windows.starts[rows], windows.length)
    mean, std = np.empty((2, len(windows.channels)))
    for channel, series in enumerate(windows.signal):
        values = series[inside].astype(np.float64)
        mean[channel], std[channel] = values.mean(), values.std()
    return mean, std


def _paper(windows: WindowSet, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    total = [np.zeros(len(windows.channels)), np.zeros(len(windows.channels))]
    for chunk in _chunks(windows, rows):
        total[0] += chunk.mean(axis=2).sum(axis=0)
        total[1] += chunk.std(axis=2).sum(axis=0)
    return total[0] / len(rows), total[1] / len(rows)


def _chunks(windows: WindowSet, rows: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(rows), CHUNK_WINDOWS):
        yield windows.windows(rows[first : first + CHUNK_WINDOWS]).astype(np.float64)
