"""Simulated PAMAP2 recordings in the exact format of the UCI archive: short bouts, few digits, the real one's quirks.

Quirks kept: the nested zip, 54 columns, transient rows between bouts, stairs in two bouts, a heart rate at about 9 Hz,
radio drop-outs of one IMU at a time (NaN), invalid orientation columns, and a file of optional activities.
"""

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from spkd import atomic
from spkd.simulate import motion
from spkd.simulate.motion import ACTIVITIES, Movement, Person

OUTER, INNER = "pamap2+physical+activity+monitoring.zip", "PAMAP2_Dataset.zip"
RATE_HZ = 100.0
G_M_S2 = 9.81
HABIT_DEG = 8.0
PLACES = (motion.WRIST, motion.CHEST, motion.ANKLE)
SUBJECTS = (101, 102, 103, 104, 105, 106)
BOUT_S, STAIRS_S, TRANSIENT_S = 11.0, 5.5, 0.4
FIRST_ROW_S = 8.38
KNOTS = 12  # of a temperature's way through the protocol
HEART_EVERY_ROWS = 11
ZIP_LEVEL = 7  # 9 saves 1 % and takes three times as long
ZIP_DATE = (2012, 8, 6, 0, 0, 0)
PROTOCOL = (
    *((1, "lying", 72), (2, "sitting", 78), (3, "standing", 84), (17, "ironing", 90), (16, "vacuum cleaning", 104)),
    *((12, "ascending stairs", 124), (13, "descending stairs", 120)) * 2,
    *((4, "walking", 110), (7, "nordic walking", 122), (6, "cycling", 118), (5, "running", 152)),
    (24, "rope jumping", 160),
)
OPTIONAL = ((9, "sitting", 74), (10, "working at computer", 78))
TRANSIENT = (0, "talking", 90)
README = """# Simulated PAMAP2 recordings

Made by `spkd simulate`: no person wore these sensors. The file has the format of the UCI archive (PAMAP2, UCI 231):
{n} subjects, all 12 protocol activities, bouts of {bout} s, and readings rounded to 0.1 m/s2, 0.1 rad/s and 1 uT.
It shows that everything runs; no accuracy on it says anything about people. The reader marks its windows
`origin: simulated` because of the file SIMULATED beside it.
"""


def write(folder: Path, seed: int) -> list[Path]:
    """Replace the folder by the archive, README.md and the marker SIMULATED: the same bytes for the same seed."""
    members = {f"PAMAP2_Dataset/Protocol/subject{s}.dat": subject(s, seed, PROTOCOL) for s in SUBJECTS}
    members[f"PAMAP2_Dataset/Optional/subject{SUBJECTS[0]}.dat"] = subject(SUBJECTS[0], seed, OPTIONAL, BOUT_S / 11)
    contents = {
        OUTER: _zip({INNER: _zip(members, zipfile.ZIP_DEFLATED)}, zipfile.ZIP_STORED),
        "README.md": README.format(n=len(SUBJECTS), bout=f"{BOUT_S:g}").encode(),
        "SIMULATED": b"made by spkd simulate\n",
    }
    with atomic.folder(folder) as new:
        for name, content in contents.items():
            (new / name).write_bytes(content)
    return [folder / name for name in contents]


def _zip(members: dict[str, bytes], compression: int) -> bytes:
    """A zip with fixed dates, modes and level, so that equal members give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, ZIP_DATE)
            info.external_attr = 0o644 << 16
            archive.writestr(info, content, compression, compresslevel=ZIP_LEVEL)
    return buffer.getvalue()


def subject(number: int, seed: int, protocol: tuple[tuple[int, str, int], ...], bout_s: float = BOUT_S) -> bytes:
    """The .dat file of one subject: the protocol's bouts with transient rows around them."""
    rng = np.random.Generator(np.random.PCG64([seed, number]))
    who = replace(motion.person(rng), noise_g=0.002)
    people = {p: replace(who, mount_deg=motion.person(rng).mount_deg, phase=motion.person(rng).phase) for p in PLACES}
    habits = {
        name: {p: motion.habit(m, rng, HABIT_DEG) for p, m in parts.items()} for name, parts in ACTIVITIES.items()
    }
    activity, heart, imus = [], [], []
    for number_of, name, beats in _with_transients(protocol):
        seconds = TRANSIENT_S if number_of == 0 else STAIRS_S if "stairs" in name else bout_s
        n = round(seconds * RATE_HZ)
        activity.append(np.full(n, number_of))
        heart.append(np.full(n, float(beats)))
        imus.append(_bout(habits[name], people, n, rng))
    readings = _dropouts(np.concatenate(imus), rng)
    return _text(np.concatenate(activity), _heart_rate(np.concatenate(heart), rng), readings)


def _with_transients(protocol: tuple[tuple[int, str, int], ...]) -> list[tuple[int, str, int]]:
    return [TRANSIENT, *(part for bout in protocol for part in (bout, TRANSIENT))]


def _bout(habits: dict[str, Movement], people: dict[str, Person], n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 3 x 17) readings of the three IMUs in the archive's units and column order; the limbs share one gait."""
    step_hz = max(habit.step_hz for habit in habits.values())
    gait = motion.steps(step_hz, people[motion.CHEST], n, RATE_HZ, rng)
    columns = []
    for place in PLACES:
        read = motion.record(habits[place], people[place], n, RATE_HZ, rng, gait)
        acceleration = read.accel_g * G_M_S2
        low_range = np.clip(acceleration, -6.0 * G_M_S2, 6.0 * G_M_S2)
        orientation = np.tile([1.0, 0.0, 0.0, 0.0], (n, 1))
        columns += [np.zeros((n, 1)), acceleration, low_range, read.gyro_rad_s, read.magnetic_ut, orientation]
    return np.concatenate(columns, axis=1)


def _heart_rate(target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(rows,) heart rate that follows its target with a time constant of 5 s, read every 11th row, NaN between."""
    share = 1.0 / (5.0 * RATE_HZ)
    rate, beats = np.empty(len(target)), float(target[0])
    for i, goal in enumerate(target):
        beats += share * (goal - beats)
        rate[i] = beats
    offset = int(rng.integers(HEART_EVERY_ROWS))
    rest = rng.normal(0.0, 6.0)
    read = np.full(len(target), np.nan)
    read[offset::HEART_EVERY_ROWS] = np.round(rate[offset::HEART_EVERY_ROWS] + rest)
    return read


def _dropouts(readings: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The readings with temperatures and drop-outs of single IMUs: several of up to 0.24 s, and one of 0.8 s."""
    broken = readings.copy()
    n, width = len(readings), readings.shape[1] // len(PLACES)
    for place in range(len(PLACES)):
        columns = slice(place * width, (place + 1) * width)
        # Every person and sensor warms and cools in another way: else the temperature, a clock, would be the label.
        drift = np.interp(np.linspace(0.0, KNOTS - 1.0, n), np.arange(KNOTS), rng.normal(0.0, 0.7, KNOTS).cumsum())
        warm = 30.0 + 1.5 * place + rng.normal(0.0, 1.5) + drift
        broken[:, columns.start] = np.round(warm * 16.0) / 16.0
        lengths = [*rng.integers(1, 25, size=6), *([80] if place == 0 else [])]
        for length in lengths:
            start = int(rng.integers(n - length))
            broken[start : start + length, columns] = np.nan
    return broken


def _text(activity: np.ndarray, heart: np.ndarray, readings: np.ndarray) -> bytes:
    """Rows of 54 space-separated values: as many digits as the sample needs, NaN where nothing was read."""
    decimals = [2, 0, 0, *[4, *[1] * 9, *[0] * 3, *[0] * 4] * len(PLACES)]
    time = FIRST_ROW_S + np.arange(len(activity)) / RATE_HZ
    table = np.column_stack([time, activity, heart, readings])
    columns = [_words(column, n) for column, n in zip(table.T, decimals, strict=True)]
    return "".join(" ".join(row) + "\n" for row in zip(*columns, strict=True)).encode("ascii")


def _words(column: np.ndarray, decimals: int) -> list[str]:
    """The column's values as text; each distinct value is formatted once. Minus zero becomes zero."""
    values, place = np.unique(np.round(column, decimals) + 0.0, return_inverse=True)
    words = np.array(["NaN" if np.isnan(v) else f"{v:.{decimals}f}" for v in values], dtype=object)
    written: list[str] = words[place].tolist()
    return written
