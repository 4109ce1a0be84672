"""A small archive in the exact format of UCI 287 (chest accelerometer, 52 Hz), with the quirks of the real one.

One contract: the same seed gives the same bytes (with the same zlib). The quirks: uncalibrated counts with an offset
and gain of each subject, `seq` with 5 significant digits (so scientific from 100,000 on), the real order of bouts, a
last row with label 0.
"""

import io
import zipfile
from pathlib import Path

import numpy as np

from spkd import atomic
from spkd.simulate.motion import ACTIVITIES, CHEST, Movement, Person, habit, person, record

ARCHIVE = "activity+recognition+from+single+chest+mounted+accelerometer.zip"
FOLDER = "Activity Recognition from Single Chest-Mounted Accelerometer"
RATE_HZ = 52
N_SUBJECTS = 6
COUNTS_PER_G = 330.0
SEQ_START = {2: 99_000}  # a real file is long enough to pass 100,000; this one starts late, to show the same quirk
BOUTS = [  # label, what the chest does in turn, seconds of each: the order of bouts in the real files
    (1, ["working at computer"], 50),
    (2, ["sitting", "standing", "walking", "ascending stairs"], 10),
    (3, ["standing"], 12),
    (4, ["walking"], 45),
    (3, ["standing"], 12),
    (5, ["ascending stairs", "descending stairs"], 18),
    (3, ["standing"], 10),
    (6, ["walking", "talking", "walking"], 12),
    (7, ["talking"], 50),
]
README = """Simulated recordings in the format of UCI 287, Activity Recognition from Single Chest-Mounted Accelerometer.

Made by `spkd simulate --only chest` (src/spkd/simulate/chest.py); no person was measured. The archive has the real
one's name, folders and columns (seq, x, y, z, label; 52 Hz; counts), so that the reader cannot tell them apart; the
file SIMULATED beside it marks everything made from it. The real archive:
`dvc exp run -S datasets.chest.windows.source=uci windows@chest views@chest-persistence`.
"""


def write(folder: Path, seed: int) -> list[Path]:
    """Replace the folder (sample/chest) by the archive, its README and the marker; returns their paths."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for subject in range(1, N_SUBJECTS + 1):
            text = _table(subject, np.random.default_rng((seed, 287, subject)))
            _add(archive, f"{FOLDER}/{subject}.csv", text)
        _add(archive, f"{FOLDER}/README", README)
    contents = {ARCHIVE: packed.getvalue(), "README.md": README.encode(), "SIMULATED": b"spkd simulate --only chest\n"}
    with atomic.folder(folder) as new:
        for name, content in contents.items():
            (new / name).write_bytes(content)
    return [folder / name for name in contents]


def _add(archive: zipfile.ZipFile, name: str, text: str) -> None:
    entry = zipfile.ZipInfo(name)  # dated 1980-01-01, not now
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    archive.writestr(entry, text, compresslevel=9)


def _table(subject: int, rng: np.random.Generator) -> str:
    """One subject's csv."""
    who = person(rng)
    habits = {name: habit(parts[CHEST], rng, spread_deg=8.0) for name, parts in ACTIVITIES.items()}
    offset, gain = rng.normal(2020, 60, size=3), COUNTS_PER_G * rng.uniform(0.85, 1.15)
    accel_g, label = _day(who, habits, rng)
    counts = np.clip(np.rint(offset + gain * accel_g), 0, 4095).astype(int)
    first = SEQ_START.get(subject, 0)
    rows = [f"{_seq(first + k)},{x},{y},{z},{c}\n" for k, ((x, y, z), c) in enumerate(zip(counts, label, strict=True))]
    return "".join(rows)


def _day(who: Person, habits: dict[str, Movement], rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """(n, 3) g, with the body's axis on y as in the real files, and the n labels; the last is 0."""
    parts, label = [], []
    for number, movements, each_s in BOUTS:
        for name in movements:
            n = int(each_s * RATE_HZ * rng.uniform(0.9, 1.1))
            parts.append(record(habits[name], who, n, RATE_HZ, rng).accel_g[:, [1, 0, 2]])
            label += [number] * n
    return np.concatenate(parts), [*label[:-1], 0]


def _seq(n: int) -> str:
    """A row number as the real files write it: 99999, then 1e+05, 1e+05, ... 1.0001e+05."""
    if n < 100_000:
        return str(n)
    mantissa, exponent = f"{n:.4e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{exponent}"
