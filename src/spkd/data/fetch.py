"""Downloads that end right: resumed where they stopped, checked against size and checksum, renamed when complete.

Contract: the target name exists only once every byte was received and checked. Bytes under way are in `<file>.part`,
with the server's validator in `<file>.part.json`; a process killed at any byte is continued by the next. Nothing that a
server says becomes a path.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from spkd import atomic
from spkd.errors import SpkdError
from spkd.meter import Meter

CHUNK = 1 << 18
TIMEOUT_S = (15.0, 60.0)
LONGEST_PAUSE_S = 60.0
SPARE_BYTES = 64 << 20


@dataclass(frozen=True)
class Remote:
    """One file on a server. file: its plain name on disk. size: [bytes]. digest: `md5:<hex>` or `sha256:<hex>`."""

    url: str
    file: str
    size: int | None = None
    digest: str | None = None

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise SpkdError(self.url, "an http:// or https:// address", repr(self.url), "correct the address")
        if not re.fullmatch(r"[\w+()-][\w.+() -]*", self.file):
            raise SpkdError(self.url, "a plain file name", repr(self.file), "give the entry a `file`")
        if self.digest is not None and not re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", self.digest):
            raise SpkdError(self.url, "md5 (32) or sha256 (64 hex digits)", repr(self.digest), "correct the checksum")

    @classmethod
    def of(cls, entry: Mapping[str, Any], url: str | None = None) -> "Remote":
        """A FETCH entry {url, file, size, md5 | sha256}; url: another place of the same file (a folder ends in /)."""
        file = entry.get("file") or urlsplit(entry["url"]).path.rpartition("/")[2]
        kind = next((k for k in ("sha256", "md5") if entry.get(k)), None)
        if url is not None and url.endswith("/"):
            url += file
        return cls(url or entry["url"], file, entry.get("size"), f"{kind}:{entry[kind]}" if kind else None)


def remotes(entries: Sequence[Mapping[str, Any]], url: str | None = None) -> list[Remote]:
    """FETCH entries as files; url: another place of them. Raises SpkdError where it is one file's, of several."""
    if url is not None and len(entries) > 1 and not url.endswith("/"):
        raise SpkdError("--url", "a folder (ending in /) that holds every file", url, "name the folder")
    return [Remote.of(entry, url) for entry in entries]


class _Dropped(Exception):
    """The connection or the server failed in a way that another try may mend."""


def download(remote: Remote, folder: Path, unpacked_bytes: int = 0, tries: int = 8, pause_s: float = 1.0) -> Path:
    """The complete, checked file below `folder`; at once where it is there already.

    unpacked_bytes: disk space that will be needed next to it. tries: failures in a row without a new byte.
    pause_s: first pause between them, doubled each time.
    Raises SpkdError on a wrong size, a wrong checksum, a full disk or a server that does not give the file.
    """
    target = folder / remote.file
    if target.is_file() and remote.size in (None, target.stat().st_size) and _ends_as_named(target):
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with _held(folder / f"{remote.file}.part") as part:
        if remote.size is not None:
            check_space(folder, remote.size - _length(part) + unpacked_bytes, remote.file)
        resumed = _length(part) > 0
        _receive_all(remote, part, tries, pause_s, unpacked_bytes)
        wrong = _wrong(remote, part)
        if wrong and resumed:  # the older half may be of another version: once more from the first byte
            part.truncate(0)
            _receive_all(remote, part, tries, pause_s, unpacked_bytes)
            wrong = _wrong(remote, part)
        note = folder / f"{remote.file}.part.json"
        if wrong:
            Path(part.name).unlink()
            note.unlink(missing_ok=True)
            raise SpkdError(
                remote.url, *wrong, "the received bytes were deleted: try again, or name a mirror with --url"
            )
        os.fsync(part.fileno())
        Path(part.name).replace(target)
        note.unlink(missing_ok=True)
    return target


def check_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Raises SpkdError where the disk of `folder` cannot take `needed_bytes` more."""
    free = shutil.disk_usage(folder).free
    if needed_bytes + SPARE_BYTES > free:
        raise SpkdError(
            f"{folder}: {what}",
            f"{(needed_bytes + SPARE_BYTES) / 1e9:.2f} GB of free disk space",
            f"{free / 1e9:.2f} GB",
            "free some space, or put that folder on another disk",
        )


@contextmanager
def _held(path: Path) -> Iterator[BinaryIO]:
    """The partial file, open and locked, so that a second process is told; a kill frees the lock."""
    with path.open("a+b") as part:
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpkdError(path, "one download at a time", "another process holds it", "wait for it to end") from None
        if not path.exists() or not os.path.samestat(path.stat(), os.fstat(part.fileno())):
            raise SpkdError(path, "one download at a time", "another process just finished it", "start again")
        yield part


def _length(part: BinaryIO) -> int:
    part.flush()
    return os.fstat(part.fileno()).st_size


def _receive_all(remote: Remote, part: BinaryIO, tries: int, pause_s: float, unpacked_bytes: int) -> None:
    """Ask until every byte is there. Raises SpkdError after `tries` failures in a row without a new byte."""
    most, failures = _length(part), 0
    while remote.size is None or _length(part) != remote.size:
        try:
            _receive(remote, part, unpacked_bytes)
            return
        except (requests.ConnectionError, requests.Timeout, HTTPError, _Dropped) as why:
            failures = 1 if _length(part) > most else failures + 1
            most = max(most, _length(part))
            if failures >= tries:
                got = f"{failures} failures in a row; the last: {' '.join(str(why).split())[:200]}"
                do = f"start again later: {_length(part)} bytes are kept, the rest is added if the server can"
                raise SpkdError(remote.url, f"{remote.size or 'all'} bytes", got, do) from None
        except (
            requests.RequestException
        ) as why:  # a redirect to another scheme, a circle of redirects, a broken address
            got = " ".join(str(why).split())[:200]
            raise SpkdError(remote.url, "an http address of the file", got, "correct the address") from None
        time.sleep(min(LONGEST_PAUSE_S, pause_s * 2 ** (failures - 1)))


def _receive(remote: Remote, part: BinaryIO, unpacked_bytes: int) -> None:
    """One request: append what is missing, or start over where the server cannot continue or has another file now."""
    note = Path(f"{part.name}.json")
    known = _read_note(note)
    validator = known.get("validator") if known.get("url") == remote.url else None
    if validator is None and remote.digest is None:
        part.truncate(0)  # nothing could tell a mixture of two versions
    have = _length(part)
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator:
            headers["If-Range"] = validator
    with requests.get(remote.url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
        total = _accept(remote, response, part, have, validator)
        have = _length(part)
        if remote.size is None and total is not None:
            check_space(Path(part.name).parent, total - have + unpacked_bytes, remote.file)
        atomic.write_text(note, json.dumps({"url": remote.url, "validator": _validator(response)}))
        with Meter(remote.file, total, have) as meter:
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                part.write(chunk)
                meter.add(len(chunk))
                if total is not None and meter.done > total:
                    part.truncate(0)
                    raise _Dropped(f"more than the {total} bytes announced")
    if total is not None and _length(part) < total:
        raise _Dropped(f"closed after {_length(part)} of {total} bytes")


def _accept(
    remote: Remote, response: requests.Response, part: BinaryIO, have: int, validator: str | None
) -> int | None:
    """Total size of the file [bytes], once the answer fits what is on disk; `part` is emptied where it starts over."""
    if response.status_code in (408, 425, 429) or response.status_code >= 500:
        raise _Dropped(f"HTTP {response.status_code} {response.reason}")
    if response.status_code == 206:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        changed = validator is not None and _validator(response) not in (None, validator)
        if not span or int(span[1]) != have or changed:
            part.truncate(0)
            raise _Dropped("the file on the server changed, or another range came")
        total: int | None = int(span[2])
    elif response.status_code == 416 and have:
        part.truncate(0)
        raise _Dropped("the server has fewer bytes than were received before")
    elif response.status_code == 200:
        part.truncate(0)
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else remote.size
        if total is None and response.headers.get("Transfer-Encoding") != "chunked":
            raise SpkdError(remote.url, "a server that states the length", "none", "name a mirror with --url")
    else:
        got = f"HTTP {response.status_code} {response.reason}"
        raise SpkdError(remote.url, "the file", got, "check the address, or name a mirror with --url")
    if remote.size is not None and total is not None and total != remote.size:
        got = f"an offer of {total} bytes of {response.headers.get('Content-Type', 'unknown type')}"
        do = "the file was replaced or a proxy answers instead: name a mirror with --url, or correct the published size"
        raise SpkdError(remote.url, f"{remote.size} bytes", got, do)
    return total


def _validator(response: requests.Response) -> str | None:
    """What identifies this version of the file in If-Range: a strong ETag, else the date."""
    etag = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")


def _read_note(note: Path) -> dict[str, Any]:
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _ends_as_named(path: Path, name: str = "") -> bool:
    """False where a file called .zip has no archive's directory at its end: where nothing is published, all we know."""
    return not (name or path.name).endswith(".zip") or zipfile.is_zipfile(path)


def _wrong(remote: Remote, part: BinaryIO) -> tuple[str, str] | None:
    """(expected, got) where size or checksum of the received bytes is not the published one."""
    length = _length(part)
    if remote.size is not None and length != remote.size:
        return f"{remote.size} bytes", f"{length} bytes"
    if not _ends_as_named(Path(part.name), remote.file):
        part.seek(0)
        return "a zip archive", f"{length} bytes that start {part.read(60)!r}"
    if remote.digest is None:
        return None
    kind, expected = remote.digest.split(":")
    part.seek(0)
    hasher = hashlib.new(kind, usedforsecurity=False)
    with Meter(f"{remote.file}: {kind}", length) as meter:
        while chunk := part.read(1 << 22):
            hasher.update(chunk)
            meter.add(len(chunk))
    if hasher.hexdigest() == expected:
        return None
    part.seek(0)
    page = b"<html" in part.read(1024).lower()
    return f"{kind} {expected}", f"{hasher.hexdigest()}{', a web page' if page else ''}"
