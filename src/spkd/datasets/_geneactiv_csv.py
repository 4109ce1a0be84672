"""GENEActiv `.csv` files: the 100 header lines of the GENEActiv software, then `time,x,y,z,lux,button,temperature`.

One contract: every data row is read or is an error that names its line. Values are already in g.
"""

import io
import re
from pathlib import Path

import numpy as np

from spkd.datasets._wrist_device import GAP_TOLERANCE_S, DeviceRecording, header_text
from spkd.errors import SpkdError

HEADER_LINES = 100
N_COLUMNS = 7
PAGE_SAMPLES = 300  # of the .bin file that the software exported
RATE_TOLERANCE = 0.1  # of a step: milliseconds leave up to a twentieth at 100 Hz
STAMP = len("2012-05-23 16:47:50:000")
DIGITS = [k for k, character in enumerate("2012-05-23 16:47:50:000") if character.isdigit()]
ROW = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[:.]\d{3}(?:,-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?){6}\r?")
BLOCK_BYTES = 1 << 25  # bounds the memory of parsing: a week at 100 Hz is 4 GB of text


def decode(path: Path) -> DeviceRecording:
    """The recording in a `.csv` file. Raises SpkdError where the header lacks the rate, or on a bad row."""
    with path.open("rb") as file:
        header = [header_text(file.readline()).strip() for _ in range(HEADER_LINES)]
        fields = {name: rest.partition(",")[0] for name, _, rest in (line.partition(",") for line in header)}
        rate = re.match(r"\d+(?:\.\d+)?", fields.get("Measurement Frequency", "").strip())
        if rate is None or float(rate[0]) <= 0:
            expected = f"{HEADER_LINES} header lines with `Measurement Frequency,<rate> Hz`"
            do = "export the csv from the GENEActiv software; a file of intervals starts subject,start,end,label"
            raise SpkdError(path, expected, f"a file that starts {header[0][:80]!r}", do)
        blocks, line, rest = [], HEADER_LINES + 1, b""
        while chunk := file.read(BLOCK_BYTES):
            whole, newline, rest = (rest + chunk).rpartition(b"\n")
            if newline:
                blocks.append(_rows(whole + newline, path, line))
                line += len(blocks[-1][0])
        if rest:
            blocks.append(_rows(rest + b"\n", path, line))
    time_s = np.concatenate([np.empty(0), *[time for time, _ in blocks]])
    accel_g = np.concatenate([np.empty((0, 3), np.float32), *[accel for _, accel in blocks]])
    step_s, rate_hz = np.diff(time_s), float(rate[0])
    back = np.flatnonzero(step_s <= 0)
    if len(back):
        do = "export the csv again, or delete the rows that repeat: a sample's label follows its time"
        row = int(back[0]) + 1
        got = f"a step back by {-step_s[row - 1]:g} s" if step_s[row - 1] else "the same time"
        raise SpkdError(f"{path}:{HEADER_LINES + 1 + row}", "a time after the last row's", got, do)
    if len(step_s) and abs(np.median(step_s) * rate_hz - 1) > RATE_TOLERANCE:
        got, do = f"a row every {np.median(step_s):g} s", "export the csv at the device's rate, every sample a row"
        raise SpkdError(path, f"{rate_hz:g} Hz, as its header says", got, do)
    # Times are worked out from those of pages, which are written to half a second; within a page rows are a step apart.
    inside = np.arange(1, len(time_s)) % PAGE_SAMPLES != 0
    gap = np.abs(step_s - 1 / rate_hz) > np.where(inside, 0.5 / rate_hz, GAP_TOLERANCE_S)
    segment = np.concatenate([[0], np.cumsum(gap)])[: len(time_s)].astype(np.int32)
    return DeviceRecording(fields.get("Subject Code", "").strip(), rate_hz, accel_g, time_s, segment)


def _rows(text: bytes, path: Path, first_line: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows,) seconds and (rows, 3) g of whole lines; first_line: the number of the first one in the file."""
    data = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    starts = np.concatenate([[0], ends[:-1] + 1])
    commas = np.flatnonzero(data == ord(","))
    try:
        if len(commas) != len(ends) * (N_COLUMNS - 1):
            raise ValueError("too few or too many columns")
        if (commas[:: N_COLUMNS - 1] != starts + STAMP).any() or (commas[N_COLUMNS - 2 :: N_COLUMNS - 1] > ends).any():
            raise ValueError("columns or a time of another length")
        stamps = data[starts[:, None] + np.arange(STAMP)]
        if (stamps[:, DIGITS] - np.uint8(ord("0")) > 9).any():
            raise ValueError("a time that is not all digits")
        stamps[:, 10], stamps[:, 19] = ord("T"), ord(".")
        time = stamps.view(f"S{STAMP}").ravel().astype("datetime64[ms]").astype(np.int64) / 1000
        accel = np.loadtxt(io.BytesIO(text), np.float32, comments=None, delimiter=",", usecols=(1, 2, 3), ndmin=2)
        if len(accel) != len(time) or not np.isfinite(accel).all():
            raise ValueError("not a number")
    except ValueError as error:
        lines = enumerate(text.split(b"\n")[:-1], first_line)
        number, got = next(((n, row) for n, row in lines if not _is_row(row)), (first_line, str(error).encode()))
        expected = "time,x,y,z,lux,button,temperature"
        raise SpkdError(
            f"{path}:{number}", expected, repr(got.decode("latin-1")[:80]), "export the csv again"
        ) from None
    return time, accel


def _is_row(line: bytes) -> bool:
    """Whether a line has the columns of a row and a time that exists."""
    if ROW.fullmatch(line) is None:
        return False
    try:
        np.datetime64(line[: STAMP - len(":000")].decode())
    except ValueError:
        return False
    return True
