"""GENEActiv wrist recordings, 100 Hz, 3 axes: the lab's `.mat` windows, and device `.bin` and `.csv` files.

One contract: where two files contradict each other, or a setting does not fit the data, it is an error; a file that
cannot be read is dropped and counted, unless intervals name it. Everything lies in one folder or below it:

    ID-102_CLASS-13_Window-0001.mat   key xw, (samples, 3) in g: one segment; subject and class are in the name
    anything.bin, anything.csv        device files, with one or more CSV files of labelled intervals beside them:
    intervals.csv                     header subject,start,end,label[,file]: device clock, end excluded, class number

A device file belongs to the subject whose interval names it in the column `file` (by its name, or where two have one
name by its path from the folder, `left/wrist.bin`); else to the `Subject Code` of its header; else to the subject that
its name without suffix spells. A subject's data come as windows or from a device, never both, and no second of them
twice: an interval holds for one of two files of the same time (a `.bin` and its `.csv` export) only where `file` says
which. The lab publishes no names for its class numbers, so the classes are named by number.
"""

import hashlib
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from spkd.config import Section
from spkd.data.recordings import Recording, Recordings, Report
from spkd.data.split_settings import Scaling, SplitSettings
from spkd.datasets import _geneactiv_bin, _geneactiv_csv, _matlab, _wrist_device
from spkd.datasets._wrist_device import DeviceRecording, Interval, composed
from spkd.errors import SpkdError
from spkd.meter import each
from spkd.settings import Count

CHANNELS = ["x_g", "y_g", "z_g"]
RATE_HZ = 100.0
LICENCE = "not public: the lab's own recordings"
CITATION = (
    "Jeon, Choi, Shukla, Wang, Lee, Buman, Turaga: Topological Persistence Guided Knowledge Distillation for Wearable "
    "Sensor Data (TPKD), arXiv 2407.05315, 2024"
)
NAME = re.compile(r"ID-(?P<subject>\w+)_CLASS-(?P<class>\d+)_Window-(?P<number>\d+)\.(?i:mat)")


class Windows(Section):
    """Which classes, and how recordings are cut."""

    source: Literal["raw"]
    classes: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2)]
    length: Count
    step: Count
    other_rates: Literal["error", "linear"]


class Settings(Section):
    """`datasets.geneactiv` of params.yaml."""

    windows: Windows
    split: SplitSettings
    scaling: Scaling


def read(folder: Path, settings: Settings) -> Recordings:
    """Every subject's labelled signal in g: one Recording a subject of `.mat` windows, one a device file.

    folder: holds the lab's files. Raises SpkdError where a listed class has no sample
    (so also where nothing is there), a class is listed twice, windows would overlap, a subject comes both as windows
    and from a device, or as `_mat_windows` and `_device_files` say.
    """
    windows, report = settings.windows, Report()
    index = {number: k for k, number in enumerate(windows.classes)}
    if len(index) != len(windows.classes):
        where = "datasets.geneactiv.windows.classes"
        raise SpkdError(where, "each class once", windows.classes, "delete the repeated one")
    if windows.step < windows.length:
        expected = f"at least {windows.length}, the length: full windows that do not overlap"
        raise SpkdError("datasets.geneactiv.windows.step", expected, windows.step, f"set it to {windows.length}")
    mats = _mat_windows(folder, index, windows.length, report)
    devices = _device_files(folder, index, windows.other_rates, report)
    both = {item.subject for item in mats} & {item.subject for item in devices}
    if both:
        do = "keep one form: the same seconds would count twice"
        raise SpkdError(
            folder, "each subject as .mat windows or as device files", f"both for {', '.join(sorted(both))}", do
        )
    items = mats + devices
    labels = [item.label for item in items]
    seen = {windows.classes[k] for k in np.unique(np.concatenate(labels))} if labels else set()
    absent = [number for number in windows.classes if number not in seen]
    if absent:
        got = f"none of class {', '.join(map(str, absent))}; dropped: {report}"
        do = "put the recordings there or list the classes you have in datasets.geneactiv.windows.classes"
        raise SpkdError(folder, "samples of every listed class", got, do)
    origin = "simulated" if (folder / "SIMULATED").exists() else "the lab's recordings"
    classes = [f"class {number}" for number in windows.classes]
    return Recordings(items, CHANNELS, classes, RATE_HZ, origin, LICENCE, CITATION, report)


def _natural(text: str) -> list[tuple[int, str]]:
    """A sort key that puts subject 9 before subject 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text) if part]


def _files(folder: Path, suffix: str) -> list[Path]:
    """The files below a folder whose names end so, in capitals too, as cameras and old Windows programs write them.

    Not those that macOS puts beside each file on another system's disk, as ._wrist.bin.
    """
    found = (path for path in folder.rglob("*") if path.suffix.lower() == suffix and not path.name.startswith("._"))
    return sorted(path for path in found if not path.is_dir())


def _mat_windows(folder: Path, index: dict[int, int], length: int, report: Report) -> list[Recording]:
    """One Recording a subject, one segment a window, in the order of class and window number.

    Raises SpkdError where a window is not `length` long, two files claim the same subject, class and number, or the
    same content stands under two subjects or classes. Counted: other names, other classes, unreadable files, repeats.
    """
    found: dict[str, list[tuple[int, int, np.ndarray]]] = defaultdict(list)
    by_name: dict[tuple[str, int, int], Path] = {}
    by_content: dict[bytes, tuple[Path, tuple[str, int]]] = {}
    for path in each("geneactiv: .mat windows", _files(folder, ".mat")):
        match = NAME.fullmatch(composed(path.name))
        if match is None:
            report.drop(".mat file not named ID-<subject>_CLASS-<class>_Window-<number>.mat", str(path))
            continue
        subject, number, window = match["subject"], int(match["class"]), int(match["number"])
        xw = _xw(path, length, report) if number in index else None
        if number not in index:
            report.drop("window of a class that is not in `classes`", str(path))
        if xw is None:
            continue
        key = hashlib.blake2b(xw.tobytes(), digest_size=16).digest()
        first, meaning = by_content.setdefault(key, (path, (subject, number)))
        if meaning != (subject, number):
            do = "delete the wrong one: it would stand on both sides of a split, or carry two labels"
            raise SpkdError(path, "content of its own", f"the content of {first}", do)
        if first != path:
            report.drop("duplicate window: same content in two .mat files", f"{path} = {first}")
            continue
        other = by_name.setdefault((subject, number, window), path)
        if other != path:
            raise SpkdError(
                path, "one file a subject, class and window number", f"also {other}", "delete the wrong one"
            )
        found[subject].append((number, window, xw))
    return [_joined(subject, found[subject], index) for subject in sorted(found, key=_natural)]


def _joined(subject: str, windows: list[tuple[int, int, np.ndarray]], index: dict[int, int]) -> Recording:
    """All windows of one subject end to end, each its own segment."""
    ordered = sorted(windows, key=lambda window: window[:2])
    length = len(ordered[0][2])
    label = np.repeat(np.array([index[number] for number, _, _ in ordered], np.int16), length)
    segment = np.repeat(np.arange(len(ordered), dtype=np.int32), length)
    return Recording(
        subject, f"{len(ordered)} .mat windows", np.concatenate([xw for _, _, xw in ordered]), label, segment
    )


def _xw(path: Path, length: int, report: Report) -> np.ndarray | None:
    """(length, 3) float32 in g of one window file, or None where it was dropped and counted.

    Raises SpkdError where the window is sound but not `length` long: then the setting is wrong, not the file.
    """
    try:
        xw = _matlab.load(path, "xw")
    except Exception:  # of a damaged file scipy raises nearly any kind
        report.drop(".mat file that cannot be read", str(path))
        return None
    if xw is None:
        report.drop(".mat file without the key xw", str(path))
    elif not isinstance(xw, np.ndarray) or xw.dtype.kind not in "fiu" or xw.ndim != 2 or xw.shape[1] != len(CHANNELS):
        report.drop(f".mat file whose xw is not numbers (samples, {len(CHANNELS)})", str(path))
    elif not (np.abs(xw) <= np.finfo(np.float32).max).all():
        report.drop(".mat file with NaN or infinity", str(path))
    elif len(xw) != length:
        do = f"set datasets.geneactiv.windows.length to {len(xw)} (and step), or remove the file"
        raise SpkdError(path, f"xw of ({length}, 3)", xw.shape, do)
    else:
        return np.ascontiguousarray(xw, np.float32)
    return None


def _device_files(folder: Path, index: dict[int, int], other_rates: str, report: Report) -> list[Recording]:
    """One Recording a device file that has labelled intervals; files and intervals without the other are counted.

    Raises SpkdError on a bad or contradictory interval, an unreadable file that intervals name, a rate that is not
    100 Hz where `other_rates` is error, or an interval that would label the same time in two files.
    """
    tables = _files(folder, ".csv")
    intervals_files = [path for path in tables if _wrist_device.is_intervals_file(path)]
    devices = sorted([*_files(folder, ".bin"), *(path for path in tables if path not in intervals_files)])
    read = [row for path in intervals_files for row in _wrist_device.read_intervals(path)]
    intervals = _settled(folder, devices, read)
    _wrist_device.check_overlaps(intervals)
    items: list[Recording] = []
    used: set[Interval] = set()
    sampled: set[Interval] = set()
    counted: dict[Interval, dict[Path, tuple[float, float]]] = defaultdict(dict)
    for path in each("geneactiv: device files", devices):
        try:
            recording = _decoded(path, report)
        except SpkdError as error:
            code = _wrist_device.spelt_code(path)
            # A csv without a header may be a file of intervals with another first line.
            if (code is None and path.suffix.lower() == ".csv") or _intervals_of(path, code or "", intervals):
                raise
            report.drop("device file that cannot be read, and that no interval names", str(error))
            continue
        rows = _intervals_of(path, recording.subject_code, intervals)
        used.update(rows)
        if not rows:
            report.drop("device file without labelled intervals", str(path))
            continue
        recording = _at_100_hz(recording, path, other_rates, report)
        spans = _wrist_device.spans_s(recording, rows)
        sampled.update(spans)
        shared = {row: span for row, span in spans.items() if row.label in index}
        _count_once(path, shared, counted)
        item = _wrist_device.labelled(recording, rows, index, rows[0].subject, str(path), report)
        items.extend([item] if len(item.label) else [])
    for row in intervals:
        if row not in used:
            report.drop("interval without a device file", row.where)
        elif row.label not in index:
            report.drop("interval of a class that is not in `classes`", row.where)
        elif row not in sampled:
            report.drop("interval without a sample in the recording", row.where)
    return sorted(items, key=lambda item: (_natural(item.subject), item.name))


def _decoded(path: Path, report: Report) -> DeviceRecording:
    if path.suffix.lower() == ".csv":
        return _geneactiv_csv.decode(path)
    return _geneactiv_bin.decode(path.read_bytes(), str(path), report)


def _at_100_hz(recording: DeviceRecording, path: Path, other_rates: str, report: Report) -> DeviceRecording:
    """The recording at the data set's rate; its gaps and what was done to it are noted."""
    report.note("gaps", int((np.diff(recording.segment) != 0).sum()))
    if recording.rate_hz == RATE_HZ:
        return recording
    if other_rates == "error":
        do = "set datasets.geneactiv.windows.other_rates to linear to resample it, or remove the file"
        raise SpkdError(path, f"{RATE_HZ:g} Hz", f"{recording.rate_hz:g} Hz", do)
    report.notes.setdefault("resampled to 100 Hz, from", {})[str(path)] = recording.rate_hz
    return _wrist_device.resampled(recording, RATE_HZ)


def _settled(folder: Path, devices: list[Path], intervals: list[Interval]) -> list[Interval]:
    """The intervals with the whole path of a device file as their `file`; a name that none has stays as it is.

    Raises SpkdError where a name fits several files.
    """
    settled = []
    for row in intervals:
        name = row.file.replace("\\", "/")  # as Windows writes a path
        whole = composed(str(folder / name)) if "/" in name else ""
        fits = [path for path in devices if name and composed(str(path) if whole else path.name) == (whole or name)]
        if len(fits) > 1:
            got = f"{name}, which fits {', '.join(map(str, fits))}"
            do = f"write its path from {folder}, as ./{fits[0].relative_to(folder).as_posix()}"
            raise SpkdError(row.where, "the name of one device file in the column `file`", got, do)
        settled.append(replace(row, file=str(fits[0])) if fits else row)
    return settled


def _intervals_of(path: Path, subject_code: str, intervals: list[Interval]) -> list[Interval]:
    """The intervals of one device file, all of one subject; see the module's docstring for whose file it is.

    Raises SpkdError where intervals of two subjects name the file, or of another one than its header does.
    """
    naming = {row.subject for row in intervals if row.file == str(path)}
    if len(naming) > 1:
        got = f"intervals of {', '.join(sorted(naming))}"
        raise SpkdError(path, "one subject a device file", got, "correct the column `file` of the intervals")
    free = {row.subject for row in intervals if not row.file}
    subject = next(iter(naming), None) or next((s for s in (subject_code, composed(path.stem)) if s in free), None)
    if naming and subject_code != subject and subject_code in {row.subject for row in intervals}:
        expected, got = f"a file of subject {subject}, whose intervals name it", f"Subject Code {subject_code}"
        raise SpkdError(path, expected, got, "correct the column `file` of the intervals, or the file's header")
    return [row for row in intervals if row.subject == subject and row.file in ("", str(path))]


def _count_once(
    path: Path, spans: dict[Interval, tuple[float, float]], counted: dict[Interval, dict[Path, tuple[float, float]]]
) -> None:
    """Note from when to when [s] intervals label this file. counted: interval -> the same of the files before it.

    Raises SpkdError where one interval labels the same time in two files.
    """
    for row, (start, end) in spans.items():
        for other, (first, last) in counted[row].items():
            if start <= last and first <= end:
                expected, got = f"one file of subject {row.subject} at a time", f"times that are in {other} too"
                do = "the same seconds would count twice; remove one, or name the file in the column `file`"
                raise SpkdError(path, expected, f"{got} ({row.where})", do)
        counted[row][path] = (start, end)
