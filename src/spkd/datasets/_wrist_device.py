"""One wrist device's recording, whatever file it came in: time, acceleration, segments; cut to labelled intervals.

One contract: what leaves here has a label on every sample and a new segment at every gap and every label change.
Times are the device's own clock in seconds since 1970; nothing here knows about time zones or file formats.
"""

import csv
import itertools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spkd.data.recordings import UNLABELLED, Recording, Report
from spkd.errors import SpkdError

GAP_TOLERANCE_S = 0.6  # GENEActiv writes page times to half a second, so neighbours differ by up to 0.5 s from nominal
CLOCK = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:[.:](\d{1,3}))?")
COLUMNS = ("subject", "start", "end", "label")
HEADER_BYTES = 8192  # more than the hundred lines of a header take


@dataclass(frozen=True)
class DeviceRecording:
    """What a device wrote.

    subject_code: from its header, "" where blank. rate_hz: nominal.
    accel_g: (samples, 3) float32. time_s: (samples,) float64. segment: (samples,) int32, a new number after every gap.
    """

    subject_code: str
    rate_hz: float
    accel_g: np.ndarray
    time_s: np.ndarray
    segment: np.ndarray


@dataclass(frozen=True)
class Interval:
    """One row of the intervals file: the class number that holds from start_s (included) to end_s (excluded).

    file: the device file it speaks of (as written, until the reader knows its path), "" for every file of the subject.
    where: file and line, for messages.
    """

    subject: str
    start_s: float
    end_s: float
    label: int
    file: str
    where: str


def composed(name: str) -> str:
    """The name with its letters whole: macOS spells accents, and the letters of a Hangul syllable, one by one."""
    return unicodedata.normalize("NFC", name)


def header_text(data: bytes) -> str:
    """What the bytes of a header say, in UTF-8, or in Latin-1 where they are none."""
    try:
        return composed(data.decode("utf-8"))
    except UnicodeDecodeError:
        return data.decode("latin-1")


def clock_s(text: str) -> float:
    """Seconds since 1970 of `2012-05-23 16:47:50:000` (also `.000`, or none). Raises ValueError on anything else."""
    match = CLOCK.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a time: {text!r}")
    moment = np.datetime64(f"{match[1]}T{match[2]}", "s").astype(np.int64)
    return float(moment) + int((match[3] or "0").ljust(3, "0")) / 1000


def is_intervals_file(path: Path) -> bool:
    """Whether a CSV file starts with the header of an intervals file, in any column order."""
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        return set(COLUMNS) <= {word.strip() for word in lines.readline().split(",")}


def read_intervals(path: Path) -> list[Interval]:
    """The rows of `subject,start,end,label[,file]`. Raises SpkdError that names the line of a bad one."""
    found = []
    with path.open(encoding="utf-8-sig", newline="") as lines:
        for number, row in _numbered(path, csv.DictReader(lines, skipinitialspace=True, strict=True)):
            try:
                subject, file = (composed((row.get(name) or "").strip()) for name in ("subject", "file"))
                start, end = clock_s(row["start"]), clock_s(row["end"])
                label = int(row["label"].replace("_", "?"))  # int() would take 1_0 for 10
                interval = Interval(subject, start, end, label, file, f"{path}:{number}")
            except (ValueError, TypeError, AttributeError):
                expected = "subject,start,end,label with times as 2012-05-23 16:47:50 and a class number"
                raise SpkdError(f"{path}:{number}", expected, list(row.values()), "correct that line") from None
            if not interval.subject or end <= start:
                got = f"subject {interval.subject!r}, {row['start']} to {row['end']}"
                raise SpkdError(f"{path}:{number}", "a subject and an end after the start", got, "correct that line")
            found.append(interval)
    return found


def _numbered(path: Path, rows: "csv.DictReader[str]") -> Iterator[tuple[int, dict[str, str]]]:
    """(line, row), column names without spaces around; what csv and the decoding raise becomes an SpkdError."""
    try:
        rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
        for name in COLUMNS:
            if rows.fieldnames.count(name) > 1:
                raise SpkdError(path, "each column once", f"{name!r} twice", "delete or rename one of them")
        for row in rows:  # csv passes over empty lines
            yield rows.line_num, row
    except UnicodeDecodeError:
        do = 'save it as "CSV UTF-8" (spreadsheets offer it beside plain CSV)'
        raise SpkdError(path, "intervals in UTF-8", "another encoding", do) from None
    except csv.Error as error:
        raise SpkdError(path, "rows of a CSV file", error, "save it as CSV again") from None


def check_overlaps(intervals: list[Interval]) -> None:
    """Raise SpkdError where two intervals of one subject (and file, if both name one) overlap with different labels."""
    by_subject: dict[str, list[Interval]] = defaultdict(list)
    for interval in intervals:
        by_subject[interval.subject].append(interval)
    for rows in by_subject.values():
        for first, second in itertools.combinations(sorted(rows, key=lambda row: row.start_s), 2):
            one_file = not first.file or not second.file or first.file == second.file
            if one_file and second.start_s < first.end_s and first.label != second.label:
                expected = f"one label at a time for subject {first.subject}"
                got = f"class {second.label} here and class {first.label} at {first.where}"
                raise SpkdError(second.where, expected, got, "correct one of them")


def resampled(recording: DeviceRecording, rate_hz: float) -> DeviceRecording:
    """The recording at another rate, by linear interpolation inside each segment; nothing crosses a gap.

    Sample k of a segment is taken to be k / rate after its first: page times are too coarse to interpolate with.
    """
    if recording.rate_hz == rate_hz:
        return recording
    accel_g, time_s, segment = [np.empty((0, 3))], [np.empty(0)], [np.empty(0, np.int32)]
    edges = np.flatnonzero(np.diff(recording.segment, prepend=-1, append=-1)).tolist()
    for number, (first, end) in enumerate(itertools.pairwise(edges)):
        rows = slice(first, end)
        at = np.arange(int((end - first - 1) * rate_hz / recording.rate_hz + 1e-6) + 1) * (recording.rate_hz / rate_hz)
        index = np.arange(end - first)
        accel_g.append(np.stack([np.interp(at, index, recording.accel_g[rows, axis]) for axis in range(3)], axis=1))
        time_s.append(np.interp(at, index, recording.time_s[rows]))
        segment.append(np.full(len(at), number, np.int32))
    return DeviceRecording(
        recording.subject_code,
        rate_hz,
        np.concatenate(accel_g).astype(np.float32),
        np.concatenate(time_s),
        np.concatenate(segment),
    )


def spans_s(recording: DeviceRecording, intervals: list[Interval]) -> dict[Interval, tuple[float, float]]:
    """Times of the first and the last sample inside each interval; one without a sample is left out."""
    time_s = np.maximum.accumulate(recording.time_s)
    found = {}
    for interval in intervals:
        start, stop = np.searchsorted(time_s, [interval.start_s, interval.end_s])
        if start < stop:
            found[interval] = (float(time_s[start]), float(time_s[stop - 1]))
    return found


def labelled(
    recording: DeviceRecording,
    intervals: list[Interval],
    index: dict[int, int],
    subject: str,
    name: str,
    report: Report,
) -> Recording:
    """The labelled stretches of a recording, each in its own segment, so that windows start where an interval starts.

    index: class number -> class index. Intervals of other classes, and those outside the recording, label nothing: a
    subject may have several recordings, so whoever has them all counts these.
    """
    label = np.full(len(recording.time_s), UNLABELLED, np.int16)
    time_s = np.maximum.accumulate(recording.time_s)
    for interval in intervals:
        rows = slice(*np.searchsorted(time_s, [interval.start_s, interval.end_s]))
        if interval.label in index:
            label[rows] = index[interval.label]
    del time_s  # as large as the signal, of a week of samples
    new, was, keep = np.ones(len(label), bool), recording.segment, label != UNLABELLED
    new[1:] = (label[1:] != label[:-1]) | (was[1:] != was[:-1])  # of an unlabelled sample, too
    report.drop("unlabelled device sample", name, int(np.count_nonzero(~keep)))
    segment = np.cumsum(new[keep], dtype=np.int32)
    segment -= 1
    accel_g = recording.accel_g if keep.all() else recording.accel_g[keep]  # no second copy of a whole week
    return Recording(subject, name, accel_g, label[keep], segment)


def spelt_code(path: Path) -> str | None:
    """The subject code of a header, of which the rest may not be readable; None where there is none."""
    with path.open("rb") as file:
        found = re.search(rb"^Subject Code[:,]([^\r\n,]*)", file.read(HEADER_BYTES), re.MULTILINE)
    return header_text(found[1]).strip() if found else None
