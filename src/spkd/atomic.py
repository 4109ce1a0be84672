"""Files and folders that are either the old one or the new one, whenever the process dies.

Contract: a sibling with a temporary name is filled, then takes the target's place in one step; it is gone where the
writer fails. Folders that a killed process left behind are removed by the next write to the same folder.
"""

import ctypes
import errno
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

UMASK = os.umask(0o077)  # it can be read by setting it only
os.umask(UMASK)
GONE = "gone"
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
FAILED_WRITES = (None, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)  # None: of numpy


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A write in the block that fails for want of space is an OSError that says which file it was for.

    The system names what it opens. safetensors and torch raise errors of their own: the one tells the system's number,
    the other the file that it is written in.
    """
    try:
        yield
    except OSError as error:
        if type(error) is OSError and error.errno in FAILED_WRITES and error.filename is None:
            error.filename = str(path)
        raise
    except Exception as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None and "inline_container" not in str(error):
            raise
        code = int(number[1]) if number else errno.ENOSPC
        raise OSError(code, os.strerror(code), str(path)) from error


@contextmanager
def file(to: Path, sync: bool = True) -> Iterator[Path]:
    """An empty sibling to write; it replaces `to` if the block ends well, and is removed if it does not.

    sync: the file outlives a power cut, too, for which the disk is waited for.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=to.parent, prefix=f".{to.name}.", suffix=".new")
    os.close(handle)
    new = Path(name)
    try:
        with naming(to):
            yield new
        new.chmod(0o666 & ~UMASK)  # as of a file that is opened to be written
        if sync:
            flush(new)
        new.replace(to)
    finally:
        new.unlink(missing_ok=True)


def write_text(to: Path, text: str, sync: bool = True) -> None:
    """Write a whole file or nothing; sync: as of `file`."""
    with file(to, sync) as new:
        new.write_text(text, encoding="utf-8", newline="\n")


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def reserve(handle: int, n_bytes: int) -> None:
    """Take the disk's room for a file that is to be mapped; raises OSError where there is not so much.

    A page that is written to later, and finds the disk full, would end the process by SIGBUS.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, n_bytes)


@contextmanager
def folder(to: Path) -> Iterator[Path]:
    """An empty sibling to fill; it replaces `to` as a whole if the block ends well, and is removed if it does not."""
    to.parent.mkdir(parents=True, exist_ok=True)
    sweep(to)
    new = _beside(to, "new")
    new.mkdir()
    try:
        with naming(to):
            yield new
        swap(new, to)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def swap(new: Path, to: Path) -> None:
    """Put the folder `new` in the place of `to` (which may be absent) and remove what was there before."""
    if to.exists() and not _exchange(new, to):
        old = _beside(to, "old")
        to.rename(old)
        new.rename(to)
        shutil.rmtree(old)
    elif not to.exists():
        new.rename(to)
    shutil.rmtree(new, ignore_errors=True)


def remove(folder: Path) -> None:
    """Delete a folder, at once for whoever looks for it; a kill leaves one that ends in GONE."""
    gone = _beside(folder, GONE)
    shutil.rmtree(gone, ignore_errors=True)  # of a process of this number that was killed here
    folder.replace(gone)
    shutil.rmtree(gone, ignore_errors=True)


def sweep(to: Path) -> None:
    """Remove what killed writers left; put the old folder back where the kill fell between two renames.

    What another host of a shared disk left, or is writing, stays: nobody here knows which.
    """
    for path in sorted(to.parent.glob(f".{to.name}.{socket.gethostname()}.*.*")):
        pid, kind = path.name.split(".")[-2:]
        if path != _beside(to, kind, pid) or kind not in ("new", "old") or not pid.isdigit():
            continue
        if int(pid) != os.getpid() and psutil.pid_exists(int(pid)):
            continue
        if kind == "old" and not to.exists():
            path.rename(to)
        else:
            shutil.rmtree(path)


def _beside(to: Path, kind: str, pid: str = "") -> Path:
    return to.parent / f".{to.name}.{socket.gethostname()}.{pid or os.getpid()}.{kind}"


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one system call; False where the system or the file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    return bool(renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0)
