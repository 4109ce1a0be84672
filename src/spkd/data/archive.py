"""Unpacks zip archives that nobody vouches for: no member leaves the folder, nothing grows past its limits.

Contract: the target folder appears complete or not at all. With `consume`, disk space of members that are safe on disk
is given back to the file system while unpacking, so a 19 GB archive never needs 38 GB. What a killed process unpacked
is kept and checked.
"""

import ctypes
import errno
import lzma
import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import psutil

from spkd import atomic
from spkd.errors import SpkdError
from spkd.meter import Meter

CHUNK = 1 << 20
FREE_EVERY_BYTES = 256 << 20
# RuntimeError: of a password, and of what zipfile does not know. UnicodeDecodeError: of a name.
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, UnicodeDecodeError, RuntimeError)
PUNCH_HOLE = 3  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, linux/falloc.h


def unpack(
    archive: Path,
    member_folder: str,
    to: Path,
    max_bytes: int,
    wanted: Callable[[str], bool] = lambda name: True,
    consume: bool = False,
) -> None:
    """Unpack the archive's top folder `member_folder` to `to`; at once where that is there already.

    max_bytes: limit of the unpacked sum, declared and real [bytes]. wanted: picks members by their name in the archive.
    consume: free the archive's blocks as they are used, and delete it at the end.
    Raises SpkdError that names the member: damage, a path that leaves the folder, a link, a duplicate, a bomb.
    """
    if not to.is_dir():
        building = to.parent / f".{to.name}.unpacking"
        with damage_named(archive), zipfile.ZipFile(archive) as zipped:
            members = [m for m in check(archive, zipped.infolist(), max_bytes) if wanted(m.filename)]
            members = [m for m in members if PurePosixPath(m.filename).parts[0] == member_folder and not m.is_dir()]
            if not members:
                raise SpkdError(archive, f"a folder {member_folder}/", "none", "check that it is the right archive")
            _unpack_members(zipped, members, building, archive if consume else None)
        atomic.swap(building / member_folder, to)
        shutil.rmtree(building)
    if consume:
        archive.unlink(missing_ok=True)


@contextmanager
def damage_named(where: object) -> Iterator[None]:
    """What zipfile raises for damage becomes an SpkdError that names the archive or member; a full disk's stays."""
    try:
        yield
    except (*DAMAGE, OSError) as error:
        # Without a number: of bz2. EINVAL: of a place before the file's first byte, where bytes are missing inside.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise SpkdError(where, "a whole zip archive", error, "delete it and fetch it again") from None


def require_memory(where: object, member: zipfile.ZipInfo) -> None:
    """Raise SpkdError where a member that is read as a whole is larger than the free memory: a bomb is."""
    free = int(psutil.virtual_memory().available)
    if member.file_size > free:
        expected, got = f"at most {free} bytes, the free memory", f"{member.file_size} bytes unpacked"
        raise SpkdError(where, expected, got, "do not use this archive, or free memory")


def check(archive: Path, members: list[zipfile.ZipInfo], max_bytes: int) -> list[zipfile.ZipInfo]:
    """The members, once every one of them may be written below one folder. Raises SpkdError that names the bad one."""

    def refuse(name: str, why: str) -> SpkdError:
        return SpkdError(f"{archive}: {name!r}", "members that stay in their folder", why, "do not use this archive")

    seen: dict[str, bool] = {}
    for member in members:
        name, path = member.filename, PurePosixPath(member.filename)
        mode = member.external_attr >> 16
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or not path.parts or "\0" in name:
            raise refuse(name, "a path that leaves the folder")
        if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise refuse(name, "a link or special file")
        if member.flag_bits & 1:
            raise refuse(name, "an encrypted member")
        key = str(path).casefold()
        if key in seen:
            raise refuse(name, "the same name twice")
        seen[key] = member.is_dir()
    for key in seen:
        inside = next((str(p) for p in PurePosixPath(key).parents if seen.get(str(p)) is False), None)
        if inside is not None:
            raise refuse(key, f"a member inside the file {inside!r}")
    declared = sum(m.file_size for m in members)
    if declared > max_bytes:
        raise refuse(f"{len(members)} members", f"{declared} bytes unpacked, the limit is {max_bytes}")
    return members


def _unpack_members(zipped: zipfile.ZipFile, members: list[zipfile.ZipInfo], to: Path, consumed: Path | None) -> None:
    """Write the members below `to`, without those that an earlier process finished; free blocks of `consumed`."""
    used: list[zipfile.ZipInfo] = []
    with Meter(f"unpack {Path(zipped.filename or '').name}", sum(m.file_size for m in members)) as meter:
        for member in members:
            file = to / member.filename
            if not (file.is_file() and file.stat().st_size == member.file_size and _crc(file) == member.CRC):
                _unpack_one(zipped, member, file)
            meter.add(member.file_size)
            used.append(member)
            if consumed and sum(m.compress_size for m in used) >= FREE_EVERY_BYTES:
                _free(consumed, used)
                used = []


def _unpack_one(zipped: zipfile.ZipFile, member: zipfile.ZipInfo, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    written, building = 0, to.with_name(f"{to.name}.part")
    with zipped.open(member) as source, building.open("wb") as file:
        while chunk := source.read(CHUNK):
            written += file.write(chunk)
    if written != member.file_size:
        raise zipfile.BadZipFile(f"{member.filename!r} declares {member.file_size} bytes and holds {written}")
    building.replace(to)


def _crc(file: Path) -> int:
    crc = 0
    with file.open("rb") as source:
        while chunk := source.read(CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc


def _free(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    """Give the members' data blocks back to the file system, after their copies reached the disk."""
    os.sync()
    with archive.open("r+b") as file:
        for member in members:
            if not punch(file.fileno(), member.header_offset, member.compress_size):
                return


def punch(file: int, offset: int, length: int) -> bool:
    """Deallocate a range of an open file; False where the system or the file system cannot."""
    fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate64", None)
    if fallocate is None or length <= 0:
        return fallocate is not None
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return bool(fallocate(file, PUNCH_HOLE, offset, length) == 0)


def can_consume(folder: Path) -> bool:
    """Whether the file system of `folder` gives back blocks from the middle of a file."""
    probe = folder / f".punch.{os.getpid()}"
    with probe.open("wb") as file:
        file.write(bytes(1 << 16))
        file.flush()
        able = punch(file.fileno(), 0, 1 << 16)
    probe.unlink()
    return able
