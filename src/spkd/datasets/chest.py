"""Chest accelerometer recordings of UCI 287: 15 people, 7 activities, 52 Hz, read from the zip as UCI serves it.

One contract: `read` gives one Recording a subject, in row order, in the raw counts. The counts are uncalibrated, so
subjects differ in offset and gain; nothing is corrected here. A bad row is an error that names file and line.
"""

import io
import re
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np

from spkd.config import Section
from spkd.data.archive import damage_named, require_memory
from spkd.data.recordings import UNLABELLED, Recording, Recordings, Report
from spkd.data.split_settings import Scaling, SplitSettings
from spkd.errors import SpkdError
from spkd.settings import Count

ARCHIVE = "activity+recognition+from+single+chest+mounted+accelerometer.zip"
# No size or checksum of UCI's own copy is known here; every member's CRC-32 is checked while it is read.
FETCH = [
    {
        "url": "https://archive.ics.uci.edu/static/public/287/"
        "activity+recognition+from+single+chest+mounted+accelerometer.zip"
    }
]
CLASSES = [
    "working at computer",
    "standing up, walking and stairs",
    "standing",
    "walking",
    "stairs",
    "walking and talking",
    "talking while standing",
]
CHANNELS = ["x_counts", "y_counts", "z_counts"]
RATE_HZ = 52.0
LICENCE = "none stated by the data set's README"
CITATION = (
    "Casale, Pujol, Radeva: Personalization and user verification in wearable systems using biometric walking "
    "patterns. Personal and Ubiquitous Computing 16(5), 563-580, 2012"
)
MEMBER = re.compile(r"(?:.*/)?(\d+)\.csv")


class Windows(Section):
    """Where the recordings come from and how they are cut."""

    source: Literal["raw", "uci"]
    length: Count
    step: Count


class Settings(Section):
    """`datasets.chest` of params.yaml."""

    windows: Windows
    split: SplitSettings
    scaling: Scaling


def read(folder: Path, settings: Settings) -> Recordings:
    """The recordings in the archive, subjects in numeric order.

    folder: holds the archive.
    Raises SpkdError where the archive is missing or damaged, holds no subject, or a row is not `seq,x,y,z,label`.
    """
    path = folder / ARCHIVE
    if not path.is_file():
        do = "put it there, or set datasets.chest.windows.source to uci"
        raise SpkdError(path, "the archive of UCI 287", "no such file", do)
    with damage_named(path), zipfile.ZipFile(path) as archive:
        members = _members(path, archive.namelist())
        for name in members.values():
            require_memory(f"{path}:{name}", archive.getinfo(name))
        items = [_recording(str(n), archive.read(members[n]), f"{path}:{members[n]}") for n in sorted(members)]
    if not items:
        raise SpkdError(path, "one <subject>.csv each", "none", "delete it and fetch it again")
    origin = "simulated" if (folder / "SIMULATED").exists() else "UCI 287"
    return Recordings(items, CHANNELS, CLASSES, RATE_HZ, origin, LICENCE, CITATION, Report())


def _members(path: Path, names: list[str]) -> dict[int, str]:
    """Subject -> its member of the archive. Raises SpkdError where a subject has two."""
    members: dict[int, str] = {}
    for match in filter(None, map(MEMBER.fullmatch, names)):
        other = members.setdefault(int(match[1]), match[0])
        if other != match[0]:
            raise SpkdError(path, f"one file of subject {match[1]}", f"{other} and {match[0]}", "remove one of them")
    return members


def _recording(subject: str, text: bytes, where: str) -> Recording:
    """One subject's file. `seq` must be a number and is not used: it has 5 digits, so it repeats from 100,000 on."""
    rows = _table(text)
    if rows is None:
        line, got = next((n, line) for n, line in enumerate(text.split(b"\n"), 1) if _table(line) is None)
        expected = f"seq,x,y,z,label with label 0 to {len(CLASSES)}"
        do = "fetch the archive again or correct that line"
        raise SpkdError(f"{where}:{line}", expected, repr(got.decode("utf-8", "replace")[:80]), do)
    label = np.where(rows[:, 4] == 0, UNLABELLED, rows[:, 4] - 1).astype(np.int16)
    return Recording(subject, where, rows[:, 1:4].copy(), label, np.zeros(len(rows), np.int32))


def _table(text: bytes) -> np.ndarray | None:
    """(lines, 5) float32 of lines that are five numbers each, the last one a known label; None of any others."""
    try:
        content = io.BytesIO(text.strip() or b"empty")
        rows: np.ndarray = np.loadtxt(content, delimiter=",", dtype=np.float32, comments=None, ndmin=2)
    except (ValueError, UnicodeDecodeError):
        return None
    n_lines = text.count(b"\n") + (not text.endswith(b"\n"))
    numbers = rows.shape == (n_lines, 5) and np.isfinite(rows).all()
    return rows if numbers and np.isin(rows[:, 4], range(len(CLASSES) + 1)).all() else None
