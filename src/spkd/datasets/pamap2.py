"""PAMAP2 (UCI 231): 9 people, 12 activities, three body-worn IMUs and a heart-rate strap, 100 Hz.

One contract: `read` gives one Recording a subject, without NaN, at 100 / keep_every Hz, and counts every row it leaves
out. Rule `sound` interpolates short drop-outs and breaks the recording at long ones; rule `paper` writes 0 and joins
the bouts, as the published line does. The heart rate, read a few times a second, is carried forward by either rule;
rows that have an old one are counted.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from spkd.config import Section
from spkd.data.recordings import UNLABELLED, Recording, Recordings, Report
from spkd.data.split_settings import Scaling, SplitSettings
from spkd.datasets import _pamap2_dat
from spkd.datasets._pamap2_dat import DatFile
from spkd.errors import SpkdError
from spkd.settings import Count

# UCI publishes neither size nor checksum; every member's CRC-32 is checked while it is read.
FETCH = [{"url": "https://archive.ics.uci.edu/static/public/231/pamap2+physical+activity+monitoring.zip"}]
LICENCE = "CC BY 4.0"
CITATION = (
    "Reiss, Stricker: Introducing a New Benchmarked Dataset for Activity Monitoring. ISWC 2012; "
    "UCI Machine Learning Repository 231, doi 10.24432/C5NW2H"
)
RATE_HZ = 100.0
CLASS_OF_ID = {24: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 7, 12: 8, 13: 9, 16: 10, 17: 11}
CLASSES = [
    "rope jumping", "lying", "sitting", "standing", "walking", "running", "cycling", "nordic walking",
    "ascending stairs", "descending stairs", "vacuum cleaning", "ironing",
]  # fmt: skip
OTHER_IDS = {
    0: "transient", 9: "watching TV", 10: "computer work", 11: "car driving",
    18: "folding laundry", 19: "house cleaning", 20: "playing soccer",
}  # fmt: skip
PLACES = ("hand", "chest", "ankle")
IMU = ("temperature", *(f"{kind}_{axis}" for kind in ("acc16", "acc6", "gyro", "mag") for axis in "xyz"))
CHANNELS = ["heart_rate", *(f"{place}_{name}" for place in PLACES for name in IMU)]
IMU_COLUMNS = 17  # per place: the 13 of IMU, then 4 of orientation, which the data set calls invalid
READINGS = [0, *(1 + IMU_COLUMNS * p + c for p in range(len(PLACES)) for c in range(len(IMU)))]
NEVER_READ = "channel without a single reading, set to 0"
JUMP_ROWS = 1.5  # neighbours in the file further apart than this many rows' time are not neighbours in time


class Windows(Section):
    """Where the recordings come from, and how they are cleaned and cut."""

    source: Literal["raw", "uci"]
    rule: Literal["sound", "paper"]
    keep_every: Count
    length: Annotated[int, Field(ge=2, le=2**62)]
    step: Count
    max_gap_s: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(Section):
    """`datasets.pamap2` of params.yaml."""

    windows: Windows
    split: SplitSettings
    scaling: Scaling


@dataclass(frozen=True)
class Rows:
    """One file's rows. time_s: (n,) float64. activity: (n,) int64 id. signal: (40, n) float32, NaN = missing."""

    time_s: np.ndarray
    activity: np.ndarray
    signal: np.ndarray


def read(folder: Path, settings: Settings) -> Recordings:
    """The recordings of every subject, in order of subject id.

    folder: holds the archive, or the .dat files.
    Raises SpkdError that names the file and row of what cannot be read; everything left out is counted in the report.
    """
    chosen, report = settings.windows, Report()
    items: list[Recording] = []
    seen: dict[str, str] = {}
    simulated = (folder / "SIMULATED").exists()
    for file in _pamap2_dat.files(folder):
        if not simulated and not file.as_recorded:
            report.notes.setdefault("checksum_not_as_recorded", []).append(file.subject)
        item = recording(file, chosen, report)
        if not len(item.label):
            report.drop("subject without a labelled row", file.where)
            continue
        key = hashlib.md5(item.signal.T.tobytes() + item.label.tobytes(), usedforsecurity=False).hexdigest()
        if key in seen:
            raise SpkdError(file.where, "rows of its own", f"those of {seen[key]}", "remove the copied file")
        seen[key] = file.where
        items.append(item)
    origin = "simulated" if simulated else "UCI 231"
    return Recordings(items, CHANNELS, CLASSES, RATE_HZ / chosen.keep_every, origin, LICENCE, CITATION, report)


def recording(file: DatFile, chosen: Windows, report: Report) -> Recording:
    """One subject's labelled rows, cleaned by the chosen rule and thinned; empty where no row has a class."""
    rows = _rows(file, report)
    label = _labels(rows.activity, file.where, report)
    stretch = np.concatenate([[0], np.cumsum(np.diff(rows.time_s) > JUMP_ROWS / RATE_HZ)])
    report.note("rows_read", len(label))
    report.note("time_jumps", int(stretch[-1]))
    if np.isnan(rows.signal[0]).all():
        report.drop(NEVER_READ, f"{file.where}: {CHANNELS[0]}")
    age_s = seconds_since_reading(rows.signal[0], rows.time_s)
    rows.signal[0] = carry_forward(rows.signal[0])
    whole = np.ones(len(label), dtype=bool)
    if chosen.rule == "paper":
        missing = np.isnan(rows.signal)
        report.note("missing_values_set_to_0", int(np.count_nonzero(missing)))
        rows.signal[missing] = 0.0
    else:
        whole[_interpolate(rows, stretch, chosen.max_gap_s, file.where, report)] = False
    lost = int((~whole & (label != UNLABELLED)).sum())  # rows without a class are counted by their activity
    report.drop(f"row in a drop-out longer than {chosen.max_gap_s:g} s", file.where, lost)
    kept = np.flatnonzero(whole & (label != UNLABELLED))
    if old := int((age_s[kept] > chosen.max_gap_s + 0.5 / RATE_HZ).sum()):
        report.note(f"rows_whose_heart_rate_was_read_more_than_{chosen.max_gap_s:g}_s_before_or_never", old)
    segment, place = segments(kept, stretch[kept], label[kept])
    thinned = np.arange(len(kept)) if chosen.rule == "paper" else place
    taken = thinned % chosen.keep_every == 0
    kept = kept[taken]
    return Recording(file.subject, file.where, rows.signal[:, kept].T, label[kept], segment[taken])


def _rows(file: DatFile, report: Report) -> Rows:
    """The file's rows without repeated ones; raises SpkdError where time runs backwards or a reading is infinite."""
    head, readings = _pamap2_dat.parse(file, READINGS)
    (time_s, activity), signal = head.T, readings.T
    step = np.diff(time_s)
    for bad, expected, got in (
        (~np.isfinite(time_s), "a timestamp", time_s),
        (~np.isin(activity, [*CLASS_OF_ID, *OTHER_IDS]), f"an activity id of {[*CLASS_OF_ID, *OTHER_IDS]}", activity),
        (np.concatenate([[False], step < 0]), "a timestamp not before the last row's", time_s),
        (np.isinf(signal).any(axis=0), "finite readings", np.full(len(time_s), np.inf)),
    ):
        if bad.any():
            row = int(bad.argmax())
            do = 'correct or delete that row, or fetch the file again ("dvc repro")'
            raise SpkdError(f"{file.where}: row {row + 1}", expected, f"{got[row]:g}", do)
    repeated = np.concatenate([[False], step == 0])
    report.drop("row with the timestamp of the row before", file.where, int(repeated.sum()))
    fresh = ~repeated if repeated.any() else slice(None)
    return Rows(time_s[fresh], activity[fresh].astype(np.int64), signal[:, fresh])


def _labels(activity: np.ndarray, where: str, report: Report) -> np.ndarray:
    """(n,) int16 class of each row, UNLABELLED for the other known ids, which are counted by name."""
    label = np.full(max([*CLASS_OF_ID, *OTHER_IDS]) + 1, UNLABELLED, dtype=np.int16)
    label[list(CLASS_OF_ID)] = list(CLASS_OF_ID.values())
    for number, name in OTHER_IDS.items():
        report.drop(f"row of activity {number} ({name})", where, int((activity == number).sum()))
    of_row: np.ndarray = label[activity]
    return of_row


def carry_forward(series: np.ndarray) -> np.ndarray:
    """The series with each NaN replaced by the reading before it; 0 before the first."""
    last = _last_reading(series)
    carried: np.ndarray = np.where(last < 0, series.dtype.type(0), series[np.maximum(last, 0)])
    return carried


def seconds_since_reading(series: np.ndarray, time_s: np.ndarray) -> np.ndarray:
    """(n,) how old the value is that `carry_forward` gives each row; infinite before the first reading."""
    last = _last_reading(series)
    age_s: np.ndarray = np.where(last < 0, np.inf, time_s - time_s[np.maximum(last, 0)])
    return age_s


def _last_reading(series: np.ndarray) -> np.ndarray:
    """(n,) the number of the last row with a reading, up to each row; -1 before the first."""
    last: np.ndarray = np.maximum.accumulate(np.where(np.isnan(series), -1, np.arange(len(series))))
    return last


def _interpolate(rows: Rows, stretch: np.ndarray, max_gap_s: float, where: str, report: Report) -> np.ndarray:
    """Fill short drop-outs of every channel in rows.signal; the numbers of the readings' rows that stay missing.

    A channel that never reads becomes 0, and is counted.
    """
    left = [np.empty(0, dtype=np.int64)]
    for channel, series in enumerate(rows.signal):
        missing = np.flatnonzero(np.isnan(series))
        if len(missing) == len(series):
            series[:] = 0.0
            report.drop(NEVER_READ, f"{where}: {CHANNELS[channel]}")
        elif len(missing):
            short, values = between(series, missing, rows.time_s, stretch, round(max_gap_s * RATE_HZ))
            series[missing[short]] = values
            left.append(missing[~short])
            report.note("interpolated_values", len(values))
    return np.concatenate(left)


def between(
    series: np.ndarray, missing: np.ndarray, time_s: np.ndarray, stretch: np.ndarray, longest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which missing rows lie in a run of at most `longest` (bool), and for these the values, linear in time.

    series, time_s, stretch: (n,). missing: (m,) ascending rows where the series is NaN. A run is filled only where
    readings of the same stretch lie before and after it.
    """
    first = np.concatenate([[True], np.diff(missing) > 1])
    run = np.cumsum(first) - 1
    left, right = missing[first][run] - 1, missing[np.append(first[1:], True)][run] + 1
    short = (left >= 0) & (right < len(series)) & (right - left - 1 <= longest)
    short[short] = stretch[left[short]] == stretch[right[short]]
    at, left, right = missing[short], left[short], right[short]
    share = (time_s[at] - time_s[left]) / (time_s[right] - time_s[left])
    return short, series[left] + share * (series[right] - series[left])


def segments(kept: np.ndarray, stretch: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(k,) int32 segment of each kept row, and its place in that segment.

    A segment ends at a left-out row, a jump in time and a change of activity. kept: (k,) row numbers, ascending.
    """
    breaks = np.ones(len(kept), dtype=bool)
    breaks[1:] = (np.diff(kept) > 1) | (np.diff(stretch) != 0) | (np.diff(label) != 0)
    first = np.flatnonzero(breaks)
    segment = np.cumsum(breaks) - 1
    return segment.astype(np.int32), np.arange(len(kept)) - first[segment]
