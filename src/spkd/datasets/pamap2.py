"""PAMAP2 (UCI 231): 9 people, 12 activities, three body-worn IMUs and a heart-rate strap, 100 Hz.

One contract: `read` gives one Recording a subject, without NaN, at 100 / keep_every Hz, and counts every row it leaves
out. Rule `sound` interpolates short drop-outs and breaks the recording at long ones; rule `paper` writes 0 and joins
the bouts, as the published line does.
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
    *("rope jumping", "lying", "sitting", "standing", "walking", "running", "cycling", "nordic walking"),
    *("ascending stairs", "descending stairs", "vacuum cleaning", "ironing"),
]
OTHER_IDS = {
    **{0: "transient", 9: "watching TV", 10: "computer work", 11: "car driving"},
    **{18: "folding laundry", 19: "house cleaning", 20: "playing soccer"},
}
PLACES = ("hand", "chest", "ankle")
IMU = ("temperature", *(f"{kind}_{axis}" for kind in ("acc16", "acc6", "gyro", "mag") for axis in "xyz"))
CHANNELS = ["heart_rate", *(f"{place}_{name}" for place in PLACES for name in IMU)]
IMU_COLUMNS = 17  # per place: the 13 of IMU, then 4 of orientation, which the data set calls invalid
READINGS = [0, *(1 + IMU_COLUMNS * p + c for p in range(len(PLACES)) for c in range(len(IMU)))]
JUMP_ROWS = 1.5  # neighbours in the file further apart than this many rows' time are not neighbours in time


class Windows(Section):
    """Where the recordings come from, and how they are cleaned and cut."""

    source: Literal["raw", "uci"]
    rule: Literal["sound", "paper"]
    keep_every: Count
    length: Annotated[int, Field(ge=2)]
    step: Count
    max_gap_s: Annotated[float, Field(gt=0)]


class Settings(Section):
    """`datasets.pamap2` of params.yaml."""

    windows: Windows
    split: SplitSettings
    scaling: Scaling


@dataclass(frozen=True)
class Rows:
    """One file's rows. time_s: (n,) float64. activity: (n,) int64 id. signal: (n, 40) float32, NaN = missing."""

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
        if not simulated and not _pamap2_dat.is_as_recorded(file):
            report.notes.setdefault("checksum_not_as_recorded", []).append(file.subject)
        item = recording(file, chosen, report)
        if not len(item.label):
            report.drop("subject without a labelled row", file.where)
            continue
        key = hashlib.md5(item.signal.tobytes() + item.label.tobytes(), usedforsecurity=False).hexdigest()
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
    _note(report, "rows_read", len(label))
    _note(report, "time_jumps", int(stretch[-1]))
    rows.signal[:, 0] = carry_forward(rows.signal[:, 0])
    if chosen.rule == "paper":
        _note(report, "missing_values_set_to_0", int(np.isnan(rows.signal).sum()))
        signal = np.nan_to_num(rows.signal, nan=0.0)
    else:
        signal = _interpolated(rows, stretch, chosen.max_gap_s, file.where, report)
    whole = ~np.isnan(signal).any(axis=1)
    report.drop(f"row in a drop-out longer than {chosen.max_gap_s:g} s", file.where, int((~whole).sum()))
    kept = np.flatnonzero(whole & (label != UNLABELLED))
    segment, place = segments(kept, stretch[kept], label[kept])
    thinned = np.arange(len(kept)) if chosen.rule == "paper" else place
    taken = thinned % chosen.keep_every == 0
    kept = kept[taken]
    return Recording(file.subject, file.where, signal[kept], label[kept], segment[taken])


def _rows(file: DatFile, report: Report) -> Rows:
    """The file's rows without repeated ones; raises SpkdError where time runs backwards or a reading is infinite."""
    head, readings = _pamap2_dat.parse(file)
    signal = np.ascontiguousarray(readings[:, READINGS])
    time_s, activity = head.T
    step = np.diff(time_s)
    for bad, expected, got in (
        (~np.isfinite(time_s), "a timestamp", time_s),
        (~np.isin(activity, [*CLASS_OF_ID, *OTHER_IDS]), f"an activity id of {[*CLASS_OF_ID, *OTHER_IDS]}", activity),
        (np.concatenate([[False], step < 0]), "a timestamp not before the last row's", time_s),
        (np.isinf(signal).any(axis=1), "finite readings", np.full(len(time_s), np.inf)),
    ):
        if bad.any():
            row = int(bad.argmax())
            do = 'correct or delete that row, or fetch the file again ("dvc repro")'
            raise SpkdError(f"{file.where}: row {row + 1}", expected, f"{got[row]:g}", do)
    repeated = np.concatenate([[False], step == 0])
    report.drop("row with the timestamp of the row before", file.where, int(repeated.sum()))
    fresh = ~repeated
    return Rows(time_s[fresh], activity[fresh].astype(np.int64), signal[fresh])


def _labels(activity: np.ndarray, where: str, report: Report) -> np.ndarray:
    """(n,) int16 class of each row, UNLABELLED for the other known ids, which are counted by name."""
    label = np.full(max([*CLASS_OF_ID, *OTHER_IDS]) + 1, UNLABELLED, dtype=np.int16)
    label[list(CLASS_OF_ID)] = list(CLASS_OF_ID.values())
    for number, name in OTHER_IDS.items():
        report.drop(f"row of activity {number} ({name})", where, int((activity == number).sum()))
    of_row: np.ndarray = label[activity]
    return of_row


def _note(report: Report, name: str, n: int) -> None:
    report.notes[name] = report.notes.get(name, 0) + n


def carry_forward(series: np.ndarray) -> np.ndarray:
    """The series with each NaN replaced by the reading before it; 0 before the first."""
    last = np.maximum.accumulate(np.where(np.isnan(series), -1, np.arange(len(series))))
    return np.where(last < 0, series.dtype.type(0), series[np.maximum(last, 0)])


def _interpolated(rows: Rows, stretch: np.ndarray, max_gap_s: float, where: str, report: Report) -> np.ndarray:
    """(n, 40) signal with short drop-outs of every channel filled; a channel that never reads is 0, and counted."""
    signal = rows.signal.copy()
    for channel, series in enumerate(rows.signal.T):
        missing = np.isnan(series)
        if missing.all():
            signal[:, channel] = 0.0
            report.drop("channel without a single reading, set to 0", f"{where}: {CHANNELS[channel]}")
        elif missing.any():
            signal[:, channel] = fill_gaps(series, rows.time_s, stretch, round(max_gap_s * RATE_HZ))
            _note(report, "interpolated_values", int((missing & ~np.isnan(signal[:, channel])).sum()))
    return signal


def fill_gaps(series: np.ndarray, time_s: np.ndarray, stretch: np.ndarray, longest: int) -> np.ndarray:
    """The series with runs of at most `longest` NaN interpolated linearly in time.

    series, time_s, stretch: (n,). A run is filled only where readings of the same stretch lie before and after it.
    """
    index, n = np.arange(len(series)), len(series)
    missing = np.isnan(series)
    before = np.maximum.accumulate(np.where(missing, -1, index))
    after = np.minimum.accumulate(np.where(missing, n, index)[::-1])[::-1]
    at = np.flatnonzero(missing & (before >= 0) & (after < n))
    left, right = before[at], after[at]
    near = (right - left - 1 <= longest) & (stretch[left] == stretch[right])
    at, left, right = at[near], left[near], right[near]
    share = (time_s[at] - time_s[left]) / (time_s[right] - time_s[left])
    filled = series.copy()
    filled[at] = series[left] + share * (series[right] - series[left])
    return filled


def segments(kept: np.ndarray, stretch: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(k,) int32 segment of each kept row, and its place in that segment.

    A segment ends at a left-out row, a jump in time and a change of activity. kept: (k,) row numbers, ascending.
    """
    breaks = np.ones(len(kept), dtype=bool)
    breaks[1:] = (np.diff(kept) > 1) | (np.diff(stretch) != 0) | (np.diff(label) != 0)
    first = np.flatnonzero(breaks)
    segment = np.cumsum(breaks) - 1
    return segment.astype(np.int32), np.arange(len(kept)) - first[segment]
