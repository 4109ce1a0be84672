"""A small folder in the exact formats of GENEActiv recordings: `.mat` windows, one `.bin`, one `.csv`, intervals.

One contract: the same seed gives the same bytes (with the same zlib). Values lie on the device's 12-bit steps of
1/256 g. The `.bin` lacks one page, as real files do now and then, so that the reader has something to count.
"""

import io
from pathlib import Path

import numpy as np
from scipy.io import savemat

from spkd import atomic
from spkd.simulate.motion import ACTIVITIES, WRIST, Movement, Person, habit, person, record

RATE_HZ = 100
STEPS_PER_G = 256
WINDOW = 500
WINDOWS_EACH = 4
SUBJECTS = (101, 102, 103, 105, 106, 108, 110, 111)
BIN_SUBJECT, CSV_SUBJECT = 201, 202
CSV_CLASSES = (1, 3, 6, 8, 12)
NAMES = (  # class k is NAMES[k - 1]: the lab publishes no names, so these are ours
    "lying",
    "sitting",
    "standing",
    "talking",
    "working at computer",
    "walking",
    "nordic walking",
    "running",
    "cycling",
    "ascending stairs",
    "descending stairs",
    "vacuum cleaning",
    "ironing",
    "rope jumping",
)
PAGE_SAMPLES = 300
PAGES_EACH = 4  # of the .bin, per class: 12 s, of which the first and last second are not labelled
LOST_PAGE = 18
CSV_S = 8  # of the .csv, per class; the first half second is not labelled
START = np.datetime64("2024-05-06T10:00:00.000", "ms")
GAIN, OFFSET = (25600, 25344, 25856), (0, 300, -500)
README = """Simulated recordings in the formats of GENEActiv wrist devices, 100 Hz.

Made by `spkd simulate --only geneactiv` (src/spkd/simulate/geneactiv.py); no person was measured. The file SIMULATED
marks everything made from them.

- `windows/ID-<subject>_CLASS-<class>_Window-<number>.mat`: windows of 500 samples, key `xw` (samples, 3), in g.
- `wrist_201.bin`: a device file of subject 201; one page is missing on purpose.
- `wrist_202.csv`: subject 202, as the GENEActiv software exports it.
- `intervals.csv`: subject, start, end (device clock, end excluded) and class number of what was done.

The lab publishes no names for its class numbers: what number 1 is there is not known here. In this simulation people
move like this under each number: {classes}.
"""


def write(folder: Path, seed: int) -> list[Path]:
    """Replace the folder (sample/geneactiv) by the simulated files; returns their paths."""
    contents = {f"windows/{name}": data for name, data in _windows(seed).items()}
    intervals = ["subject,start,end,label"]
    contents["wrist_201.bin"] = _bin_file(seed, intervals)
    contents["wrist_202.csv"] = _csv_file(seed, intervals)
    contents["intervals.csv"] = ("\n".join(intervals) + "\n").encode()
    classes = ", ".join(f"{k} {name}" for k, name in enumerate(NAMES, 1))
    contents["README.md"] = README.format(classes=classes).encode()
    contents["SIMULATED"] = b"spkd simulate --only geneactiv\n"
    with atomic.folder(folder) as new:
        (new / "windows").mkdir()
        for name, content in contents.items():
            (new / name).write_bytes(content)
    return [folder / name for name in contents]


def _someone(seed: int, subject: int) -> tuple[Person, list[Movement], np.random.Generator]:
    """A person and how this person does each class."""
    rng = np.random.default_rng((seed, 1, subject))
    return person(rng), [habit(ACTIVITIES[name][WRIST], rng) for name in NAMES], rng


def _windows(seed: int) -> dict[str, bytes]:
    """Name -> content of the `.mat` windows: each class in one bout, cut without overlap."""
    found = {}
    for subject in SUBJECTS:
        who, habits, rng = _someone(seed, subject)
        for k, movement in enumerate(habits, 1):
            accel_g = record(movement, who, WINDOW * WINDOWS_EACH, RATE_HZ, rng).accel_g
            steps = np.clip(np.rint(accel_g * STEPS_PER_G), -2048, 2047) / STEPS_PER_G
            for window, xw in enumerate(steps.reshape(WINDOWS_EACH, WINDOW, 3), 1):
                found[f"ID-{subject}_CLASS-{k}_Window-{window:04}.mat"] = _mat(xw)
    return found


def _mat(xw: np.ndarray) -> bytes:
    """A version 5 .mat file; its 116 bytes of free text, where scipy writes the time, are made the same for all."""
    file = io.BytesIO()
    savemat(file, {"xw": xw}, do_compression=True)
    return b"MATLAB 5.0 MAT-file, simulated".ljust(116) + file.getvalue()[116:]


def _clock(seconds: float) -> str:
    """The device's way to write START + seconds."""
    date, time = str(START + np.timedelta64(round(1000 * seconds), "ms")).split("T")
    return f"{date} {time.replace('.', ':')}"


def _bin_file(seed: int, intervals: list[str]) -> bytes:
    """The device file of BIN_SUBJECT; appends its labelled intervals."""
    who, habits, rng = _someone(seed, BIN_SUBJECT)
    each_s = PAGES_EACH * PAGE_SAMPLES / RATE_HZ
    parts = [record(movement, who, PAGES_EACH * PAGE_SAMPLES, RATE_HZ, rng).accel_g for movement in habits]
    for k in range(len(habits)):
        start, end = _clock(k * each_s + 1), _clock((k + 1) * each_s - 1)
        intervals.append(f"{BIN_SUBJECT},{start},{end},{k + 1}")
    raw = np.rint((np.concatenate(parts) * GAIN + OFFSET) / 100)
    pages = (np.clip(raw, -2048, 2047).astype(int) & 4095).reshape(-1, PAGE_SAMPLES, 3)
    text = [_bin_header(len(pages))]
    text += [_page(number, page) for number, page in enumerate(pages) if number != LOST_PAGE]
    return "".join(text).replace("\n", "\r\n").encode()


def _page(number: int, raw: np.ndarray) -> str:
    """One page: light and button are 0."""
    digits = "".join(f"{x:03X}{y:03X}{z:03X}000" for x, y, z in raw.tolist())
    return (
        f"Recorded Data\nDevice Unique Serial Code:000201\nSequence Number:{number}\n"
        f"Page Time:{_clock(number * PAGE_SAMPLES / RATE_HZ)}\nUnassigned:\nTemperature:28.1\n"
        f"Battery voltage:4.1642\nDevice Status:Recording\nMeasurement Frequency:{RATE_HZ}.0\n{digits}\n"
    )


def _bin_header(n_pages: int) -> str:
    """The 59 lines before the first page."""
    calibration = "".join(f"{a} gain:{g}\n{a} offset:{o}\n" for a, g, o in zip("xyz", GAIN, OFFSET, strict=True))
    return (
        "Device Identity\nDevice Unique Serial Code:000201\nDevice Type:GENEActiv\nDevice Model:1.1\n"
        "Device Firmware Version:Ver4.08a date14Jul14\nCalibration Date:2024-01-01 00:00:00:000\n\n"
        "Device Capabilities\nAccelerometer Range:-8 to 8\nAccelerometer Resolution:0.0039\nAccelerometer Units:g\n"
        "Light Meter Range:0 to 5000\nLight Meter Resolution:5\nLight Meter Units:lux\n"
        "Temperature Sensor Range:0 to 70\nTemperature Sensor Resolution:0.1\nTemperature Sensor Units:deg. C\n\n"
        f"Configuration Info\nMeasurement Frequency:{RATE_HZ} Hz\nMeasurement Period:1 Hours\n"
        f"Start Time:{_clock(0)}\nTime Zone:GMT +00:00\n\n"
        "Trial Info\nStudy Centre:simulated\nStudy Code:\nInvestigator ID:\nExercise Type:\nConfig Operator ID:\n"
        "Config Time:2024-05-06 09:00:00:000\nConfig Notes:\nExtract Operator ID:\n"
        "Extract Time:2024-05-07 09:00:00:000\nExtract Notes:\n\n"
        f"Subject Info\nDevice Location Code:left wrist\nSubject Code:{BIN_SUBJECT}\nDate of Birth:1900-01-01\nSex:\n"
        "Height:\nWeight:\nHandedness Code:\nSubject Notes:\n\n"
        f"Calibration Data\n{calibration}Volts:300\nLux:800\n\n"
        f"Memory Status\nNumber of Pages:{n_pages}\n\n"
    )


def _csv_file(seed: int, intervals: list[str]) -> bytes:
    """The software's export for CSV_SUBJECT; appends its labelled intervals."""
    who, habits, rng = _someone(seed, CSV_SUBJECT)
    n_each = CSV_S * RATE_HZ
    rows = []
    for k, number in enumerate(CSV_CLASSES):
        accel_g = np.rint(record(habits[number - 1], who, n_each, RATE_HZ, rng).accel_g * STEPS_PER_G) / STEPS_PER_G
        times = [_clock((k * n_each + j) / RATE_HZ) for j in range(n_each)]
        rows += [f"{t},{x:.4f},{y:.4f},{z:.4f},0,0,28.1" for t, (x, y, z) in zip(times, accel_g, strict=True)]
        intervals.append(f"{CSV_SUBJECT},{_clock(k * CSV_S + 0.5)},{_clock((k + 1) * CSV_S)},{number}")
    return ("\n".join([*_csv_header(), *rows]) + "\n").encode()


def _csv_header() -> list[str]:
    """The 100 lines before the first row."""
    lines = [""] * 100
    lines[0:6] = [
        "Device Type,GENEActiv",
        "Device Model,1.1",
        "Device Unique Serial Code,000202",
        "Device Firmware Version,Ver4.08a date14Jul14",
        "Calibration Date,2024-01-01 00:00:00:000",
        "Application name & version,spkd simulate",
    ]
    lines[10:15] = [
        f"Measurement Frequency,{RATE_HZ} Hz",
        f"Start Time,{_clock(0)}",
        "Last measurement,",
        "Device Location Code,left wrist",
        "Time Zone,GMT +00:00",
    ]
    lines[20:22] = [f"Subject Code,{CSV_SUBJECT}", "Date of Birth,1900-01-01"]
    sensors = ("MEMS accelerometer x-axis", "MEMS accelerometer y-axis", "MEMS accelerometer z-axis")
    for k, sensor in enumerate(sensors):
        lines[50 + 5 * k : 54 + 5 * k] = [f"Sensor type,{sensor}", "Range,-8 to 8", "Resolution,0.0039", "Units,g"]
    return lines
