"""GENEActiv `.bin` files: a text header, then pages of 300 samples as hexadecimal text.

One contract: a page is either decoded whole or counted in the report, and samples on both sides of a lost page are
never in one segment. A header without calibration is an error, for then no value means anything.
Source of the format: GENEActiv Instruction Manual, "Decoding .bin files".
"""

import itertools
import re
from dataclasses import dataclass, replace

import numpy as np

from spkd.data.recordings import Report
from spkd.datasets._wrist_device import GAP_TOLERANCE_S, DeviceRecording, clock_s, header_text
from spkd.errors import SpkdError

PAGE_SAMPLES = 300
SAMPLE_DIGITS = 12  # x, y, z: 12 bits each, two's complement; light: 10 bits; button: 1; unused: 1
PAGE_DIGITS = PAGE_SAMPLES * SAMPLE_DIGITS
PAGES_AT_ONCE = 4096  # bounds the memory of decoding: a week at 100 Hz is 200,000 pages
AFTER = 100  # pages among which the next whole one is looked for
MARK = re.compile(rb"^Recorded Data[ \t]*\r?\n", re.MULTILINE)
AGAIN = "export the file from the device again, or remove it"
PAGE = re.compile(
    rb"Device Unique Serial Code:[^\n]*\nSequence Number:\s*(?P<number>\d{1,9})\s*\nPage Time:(?P<time>[^\n]*)\n"
    rb"(?:(?:Unassigned|Temperature|Battery voltage|Device Status):[^\n]*\n)*"
    rb"Measurement Frequency:\s*(?P<rate>[\d.,]+)[^\n]*\n(?P<digits>[^\r\n]*)"
)
NUMBER = re.compile(r"(-?\d{1,9}(?:[.,]\d+)?)(?:\s*Hz|\s.*)?")
NIBBLE = np.full(256, 255, np.uint8)
NIBBLE[np.frombuffer(b"0123456789ABCDEF", np.uint8)] = np.arange(16)
NIBBLE[np.frombuffer(b"abcdef", np.uint8)] = np.arange(10, 16)


@dataclass(frozen=True)
class Header:
    """The part of the text header that decoding needs.

    gain, offset: (3,) of x, y, z: acceleration in g = (100 raw - offset) / gain. n_pages: what the header promises.
    """

    subject_code: str
    rate_hz: float
    gain: np.ndarray
    offset: np.ndarray
    n_pages: int


@dataclass(frozen=True)
class Page:
    """One page's place in the file. follows: whether it continues the page before it without a gap."""

    number: int
    time_s: float
    digits: slice
    follows: bool


def read_header(data: bytes, where: str) -> Header:
    """The header of a file. Raises SpkdError where a field is missing or no number, or a gain or rate not above 0."""
    if not data:
        raise SpkdError(where, "a GENEActiv file", "an empty one", AGAIN)
    first = MARK.search(data)
    text = header_text(data[: first.start() if first else len(data)])

    def field(name: str) -> str:
        match = re.search(rf"^{name}:(.*)$", text, re.MULTILINE)
        if match is None:
            raise SpkdError(where, f"a GENEActiv header with `{name}`", "none", AGAIN)
        return match[1].strip()

    def number(name: str) -> float:
        value = field(name)
        match = NUMBER.fullmatch(value)  # as a whole: of 25?41, a damaged byte, 25 would be a thousandth
        if match is None:
            raise SpkdError(where, f"a number after `{name}:`", repr(value[:80]), AGAIN)
        return float(match[1].replace(",", "."))

    gain = np.array([number(f"{axis} gain") for axis in "xyz"])
    offset = np.array([number(f"{axis} offset") for axis in "xyz"])
    rate_hz, n_pages = number("Measurement Frequency"), int(number("Number of Pages"))
    if rate_hz <= 0 or (gain <= 0).any():
        got = f"{rate_hz} Hz and gains {gain}"
        raise SpkdError(where, "a rate and gains above 0", got, AGAIN)
    return Header(field("Subject Code"), rate_hz, gain, offset, n_pages)


def decode(data: bytes, where: str, report: Report) -> DeviceRecording:
    """The recording in a `.bin` file. Light and button are not read.

    Counted in the report: damaged pages, pages out of order, pages missing inside (by sequence number) or at the end
    (by the header's count), files without a page. Raises SpkdError on an unusable header (read_header).
    """
    header = read_header(data, where)
    pages = _pages(data, header, where, report)
    if not pages:
        report.drop("device file without a whole data page", where)
    segment = np.cumsum([not page.follows for page in pages], dtype=np.int32) - np.int32(1)
    time_s = _times(np.array([page.time_s for page in pages]), segment, header.rate_hz)
    accel_g = np.empty((len(pages) * PAGE_SAMPLES, 3), np.float32)
    for k in range(0, len(pages), PAGES_AT_ONCE):
        block = pages[k : k + PAGES_AT_ONCE]
        accel_g[k * PAGE_SAMPLES : (k + len(block)) * PAGE_SAMPLES] = _accel_g(data, block, header)
    return DeviceRecording(header.subject_code, header.rate_hz, accel_g, time_s, np.repeat(segment, PAGE_SAMPLES))


def _pages(data: bytes, header: Header, where: str, report: Report) -> list[Page]:
    """The whole pages in file order; everything else is counted."""
    found: list[Page] = []
    damaged = 0  # pages since the last whole one that could not be read
    marks = list(MARK.finditer(data))
    ends = [*(mark.start() for mark in marks[1:]), len(data)]
    pages = [_page(data, mark.end(), end, header) for mark, end in zip(marks, ends, strict=False)]
    page_s = PAGE_SAMPLES / header.rate_hz
    for k, page in enumerate(pages):
        place = f"{where}: page {k}"
        last = found[-1] if found else None
        if isinstance(page, str):
            wrong = f"damaged page: {page}"
        elif last and page.time_s <= last.time_s:
            wrong = "page not later than the one before it"
        elif _is_ahead(
            page, last, next((p for p in pages[k + 1 : k + 1 + AFTER] if isinstance(p, Page)), None), page_s
        ):
            wrong = "damaged page: page time"
        else:
            wrong = ""
        if wrong or isinstance(page, str):
            report.drop(wrong, place)
            damaged += 1
            continue
        skipped = page.number - (last.number if last else -1) - 1
        report.drop("missing page (sequence number)", place, max(0, skipped - damaged))
        late_s = page.time_s - last.time_s - page_s if last else 0.0
        follows = last is not None and skipped == 0 and abs(late_s) <= GAP_TOLERANCE_S
        found.append(replace(page, follows=follows))
        damaged = 0
    last_number = found[-1].number if found else -1
    report.drop(
        "page that the header promises, not in the file", where, max(0, header.n_pages - last_number - 1 - damaged)
    )
    return found


def _is_ahead(page: Page, last: Page | None, after: Page | None, page_s: float) -> bool:
    """Whether a page's clock alone is ahead: the next page, of a later number, lies before it, and behind the last one.

    Else everything up to that time would be left out as not later.
    """
    if after is None or after.number <= page.number or after.time_s > page.time_s:
        return False
    if last is None:
        return True
    expected_s = last.time_s + (page.number - last.number) * page_s
    return after.time_s > last.time_s and page.time_s > expected_s + GAP_TOLERANCE_S


def _page(data: bytes, start: int, end: int, header: Header) -> Page | str:
    """The page in data[start:end], or what is wrong with it."""
    match = PAGE.match(data, start, end)
    if match is None:
        return "page header"
    try:
        time_s = clock_s(match["time"].decode("latin-1"))
    except ValueError:
        return "page time"
    try:
        rate_hz = float(match["rate"].replace(b",", b"."))
    except ValueError:
        return "page rate"
    if abs(rate_hz - header.rate_hz) > 0.05:
        return f"{rate_hz:g} Hz where the header says {header.rate_hz:g} Hz"
    digits = slice(*match.span("digits"))
    if digits.stop - digits.start != PAGE_DIGITS:
        return f"not {PAGE_DIGITS} digits"
    if (NIBBLE[np.frombuffer(data, np.uint8, PAGE_DIGITS, digits.start)] > 15).any():
        return "not hexadecimal"
    if data[digits.stop : end].strip():
        return "text after its digits"
    return Page(int(match["number"]), time_s, digits, follows=False)


def _accel_g(data: bytes, pages: list[Page], header: Header) -> np.ndarray:
    """(300 pages, 3) float32 acceleration of some pages."""
    joined = b"".join([data[page.digits] for page in pages])
    nibble = NIBBLE[np.frombuffer(joined, np.uint8)].reshape(-1, SAMPLE_DIGITS)[:, :9].astype(np.int16)
    high, middle, low = nibble[:, 0::3], nibble[:, 1::3], nibble[:, 2::3]
    raw = ((high << 12) | (middle << 8) | (low << 4)) >> 4  # the last shift carries the sign down
    accel_g: np.ndarray = ((raw * 100.0 - header.offset) / header.gain).astype(np.float32)
    return accel_g


def _times(page_s: np.ndarray, segment: np.ndarray, rate_hz: float) -> np.ndarray:
    """(300 pages,) seconds of every sample: between the page times of a segment, the last page at the nominal rate."""
    times = np.empty(len(page_s) * PAGE_SAMPLES)
    edges = np.flatnonzero(np.diff(segment, prepend=-1, append=-1))
    for first, end in itertools.pairwise(edges.tolist()):
        anchors = np.append(page_s[first:end], page_s[end - 1] + PAGE_SAMPLES / rate_hz)
        rows = np.arange((end - first) * PAGE_SAMPLES, dtype=np.float64)
        times[first * PAGE_SAMPLES : end * PAGE_SAMPLES] = np.interp(
            rows, np.arange(len(anchors)) * PAGE_SAMPLES, anchors
        )
    return times
