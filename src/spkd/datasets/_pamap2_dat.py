"""PAMAP2's files: found in the nested zip or in a folder, read one at a time, parsed to numbers that mean nothing yet.

The 1.3 GB are never unpacked: two files are in memory, the one in work and the next, and a file's CRC-32 is checked
before a row of it is parsed.
"""

import copy
import hashlib
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import polars as pl
from isal import isal_zlib

from spkd.data.archive import damage_named, require_memory
from spkd.errors import SpkdError

OUTER, INNER = "pamap2+physical+activity+monitoring.zip", "PAMAP2_Dataset.zip"
NAME = re.compile(r"(?:(?P<folder>.*)/)?subject(?P<subject>\d+)\.dat")
LIKE = re.compile(r"subject.*\.dat$", re.IGNORECASE)
N_COLUMNS = 54
ENCRYPTED, LOCAL_HEADER_BYTES = 1, 30  # of zip
AGAIN = 'delete it and fetch it again ("dvc repro")'
ISAL_ERROR = cast("type[Exception]", isal_zlib.error)  # which its stub calls an instance
# SHA-256 of the Protocol files, by subject. UCI publishes none: these stand in a public repository's LFS pointers
# (tusharmali/SHIELD_Health), so a difference is worth a note and no proof of damage.
RECORDED = {
    "101": "80b3fffd089c236ae88098df3b906b8d3c67a858023fe4f75045d78612147266",
    "102": "468f3c6ba3e6e961f383783665265afbcddbbd33a3a84bba0386b7d0d4e3c632",
    "103": "5be64631d085e3efc700728395516da3512ff9de17dab30d253508441a98d3f0",
    "104": "7eb272213cbfe11d9e466a2163b6c9c2ed8d2542fc6f08283fd1bf222cac8994",
    "105": "7837cfede57fe45ec20d553c6c2b0c498ab324daae23bfd202c0ffea9f71a7f6",
    "106": "0da1dda3fa56d75d6413fc9198949d3ebc2102d77574cb5fe0739674687609f2",
    "107": "a02195e9599eb249f79103912d27eb4f62d8a0f59e4763b0dd8250fee5f3f020",
    "108": "81ce6b21b9c1e01dc02099c4f9387699547b08b28b387d09a56e0cb0a8af22fc",
    "109": "5109d5cd8334769566b4ae602adf3e5f4bb7b9ee8ca678f0c481d333114b07c7",
}


@dataclass(frozen=True)
class DatFile:
    """One subject's file. where: its path, with the members' names inside archives. content: its bytes.

    as_recorded: whether these bytes are those that RECORDED has for the subject.
    """

    subject: str
    where: str
    content: bytes
    as_recorded: bool = False


class Part(io.RawIOBase):
    """Bytes start to start + size of an open file, as a file: zipfile's own seek reads all that it passes over."""

    def __init__(self, file: io.BufferedReader, start: int, size: int) -> None:
        self.file, self.start, self.size, self.at = file, start, size, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence])
        return self.at

    def readinto(self, buffer: Any) -> int:
        self.file.seek(self.start + self.at)
        n = self.file.readinto(memoryview(buffer)[: max(0, self.size - self.at)])
        self.at += n
        return n


def files(folder: Path) -> Iterator[DatFile]:
    """The Protocol files below a folder, in order of subject: from the zip as UCI nests it, or from .dat files.

    Files in a folder called Optional are no part of the protocol and are passed over.
    Raises SpkdError where there is none, both a zip and .dat files, a .dat file of another name, a subject twice, or a
    damaged archive.
    """
    zips = [path for path in (folder / OUTER, folder / INNER) if path.is_file()]
    loose = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if LIKE.match(path.name)}
    if odd := next((path for path in loose.values() if not NAME.fullmatch(path.name)), None):
        raise SpkdError(odd, "a name as subject101.dat", odd.name, "rename or remove it: it would be left out")
    if len(zips) + bool(loose) > 1:
        got = ", ".join([path.name for path in zips] + list(loose)[:1])
        raise SpkdError(folder, f"either {OUTER} or .dat files", got, "remove one of them")
    if zips:
        yield from _zipped(zips[0])
    wanted = _protocol(list(loose), folder)
    for subject, name in wanted:
        yield _dat_file(subject, str(loose[name]), loose[name].read_bytes())
    if not zips and not wanted:
        do = f"put {OUTER} (or the folder PAMAP2_Dataset) there, or set datasets.pamap2.windows.source to uci"
        raise SpkdError(folder, f"{OUTER} or subject*.dat", "neither", do)


def _protocol(names: list[str], where: object) -> list[tuple[str, str]]:
    """(subject, name) of the Protocol files among these names, in order of subject."""
    found: dict[str, str] = {}
    for name in names:
        match = NAME.fullmatch(name)
        if match is None or "Optional" in (match["folder"] or "").split("/"):
            continue
        if match["subject"] in found:
            got = f"{found[match['subject']]} and {name}"
            raise SpkdError(where, f"one file of subject {match['subject']}", got, "remove one of them")
        found[match["subject"]] = name
    return sorted(found.items())


def _dat_file(subject: str, where: str, content: bytes) -> DatFile:
    return DatFile(subject, where, content, hashlib.sha256(content).hexdigest() == RECORDED.get(subject))


def _zipped(path: Path) -> Iterator[DatFile]:
    with damage_named(path), path.open("rb") as file, zipfile.ZipFile(file) as outer:
        inner = [name for name in outer.namelist() if name.rpartition("/")[2] == INNER]
        if not inner:
            yield from _members(outer, str(path))
            return
        with _nested(outer, inner[0], file) as stream, zipfile.ZipFile(stream) as archive:
            yield from _members(archive, f"{path}:{inner[0]}")


def _nested(outer: zipfile.ZipFile, name: str, file: io.BufferedReader) -> IO[bytes] | io.BufferedReader:
    """The archive within the archive in `file`: a part of the file where it is stored as it is."""
    member = outer.getinfo(name)
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & ENCRYPTED:
        return outer.open(member)
    file.seek(member.header_offset)
    size_of_name, size_of_extra = struct.unpack("<26x2H", file.read(LOCAL_HEADER_BYTES))
    start = member.header_offset + LOCAL_HEADER_BYTES + size_of_name + size_of_extra
    return io.BufferedReader(Part(file, start, member.file_size))


def _members(archive: zipfile.ZipFile, where: str) -> Iterator[DatFile]:
    wanted = _protocol(archive.namelist(), where)
    if not wanted:
        raise SpkdError(where, "Protocol/subject101.dat and so on", "none", AGAIN)

    def read(subject: str, name: str) -> DatFile:
        with damage_named(f"{where}:{name}"):
            require_memory(f"{where}:{name}", archive.getinfo(name))
            return _dat_file(subject, f"{where}:{name}", inflated(archive, name))

    # The next file is inflated while the caller parses this one.
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(read, *wanted[0])
        for following in wanted[1:]:
            file = coming.result()
            coming = ahead.submit(read, *following)
            yield file
        yield coming.result()


def inflated(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member's bytes, by ISA-L in under half of zlib's time; zipfile finds them. Raises what `damage_named` names."""
    member = archive.getinfo(name)
    if member.compress_type != zipfile.ZIP_DEFLATED:
        return archive.read(member)
    as_it_lies = copy.copy(member)
    as_it_lies.compress_type, as_it_lies.file_size = zipfile.ZIP_STORED, member.compress_size
    del as_it_lies.CRC  # is that of the inflated bytes
    deflate = isal_zlib.decompressobj(-zlib.MAX_WBITS)
    with archive.open(as_it_lies) as stream:
        try:
            content: bytes = deflate.decompress(stream.read(), member.file_size + 1)
        except ISAL_ERROR as error:
            raise zipfile.BadZipFile(f"{name!r}: {error}") from None
    if not deflate.eof or len(content) != member.file_size or isal_zlib.crc32(content) != member.CRC:
        raise zipfile.BadZipFile(f"{name!r} is not what its size and CRC-32 say")
    return content


def parse(file: DatFile, wanted: Sequence[int] = range(N_COLUMNS - 2)) -> tuple[np.ndarray, np.ndarray]:
    """(rows, 2) float64 timestamp and activity id, and (rows, len(wanted)) float32 readings; NaN stays NaN.

    wanted: of the readings, from 0; the others are checked to be numbers. The arrays' columns are contiguous.
    Raises SpkdError that names the file and the row (from 1) which is not 54 numbers.
    """
    names = [f"column {i}" for i in range(1, N_COLUMNS + 1)]
    schema = {name: pl.Float64 if i < 2 else pl.Float32 for i, name in enumerate(names)}
    try:
        frame = pl.read_csv(file.content, separator=" ", has_header=False, quote_char=None, schema=schema)
        regular = not any(frame.null_count().row(0)) and frame.height > 0
    except pl.exceptions.PolarsError:
        regular = False
    if not regular:
        head, readings = _parse_slowly(file)
        return head, np.asfortranarray(readings[:, wanted])
    return frame[names[:2]].to_numpy(), frame[[names[2 + i] for i in wanted]].to_numpy()


def _parse_slowly(file: DatFile) -> tuple[np.ndarray, np.ndarray]:
    """The same field by field, for files spaced in another way; raises SpkdError at the first bad row."""
    do = f"correct that row, or {AGAIN.replace('it', 'the file', 1)}"
    if not file.content.strip():
        raise SpkdError(file.where, f"rows of {N_COLUMNS} numbers", "an empty file", AGAIN)
    lines = file.content.rstrip().split(b"\n")
    table = np.empty((len(lines), N_COLUMNS))
    for row, line in enumerate(lines):
        fields, where = line.split(), f"{file.where}: row {row + 1}"
        if len(fields) != N_COLUMNS:
            raise SpkdError(where, f"{N_COLUMNS} numbers", len(fields), do)
        numbers: list[float] = []
        for column, field in enumerate(fields, 1):
            try:
                numbers.append(float(field.replace(b"_", b"?")))  # Python, and nobody else, reads 1_8 as 18
            except ValueError:
                got = f"{field.decode('utf-8', 'replace')!r} in column {column}"
                raise SpkdError(where, "a number or NaN", got, do) from None
        table[row] = numbers
    return table[:, :2], table[:, 2:].astype(np.float32)
