"""A run in one zip file: packed from a folder of plain files, and checked member by member before it is believed.

Contract: no member leaves its folder, none is of a type that could run (no pickle), every one has the length and hash
that the index gives, the whole stays within limits; otherwise nothing of it is left on disk. The same folder gives the
same bytes.
"""

import hashlib
import json
import lzma
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

from spkd import atomic
from spkd.errors import SpkdError

INDEX, FORMAT = "index.json", 1
SUFFIXES = (".json", ".lock", ".md", ".npz", ".patch", ".safetensors", ".txt", ".yaml", ".csv")
LARGEST_INDEX_BYTES, LARGEST_BYTES, MOST_MEMBERS = 4 << 20, 8 << 30, 10_000
CHUNK = 1 << 20
# ValueError: a name that is no text.
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, NotImplementedError, OSError)
LONG_AGO = (1980, 1, 1, 0, 0, 0)


def pack(folder: Path, out: Path) -> None:
    """Write every file below folder to the zip `out`, which appears whole or not at all.

    Raises SpkdError where a file is of a type that a bundle may not hold.
    """
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    for name in names:
        _check_name(out, name)
    members = {name: {"bytes": (folder / name).stat().st_size, "sha256": _sha256(folder / name)} for name in names}
    with atomic.file(out) as new, zipfile.ZipFile(new, "w") as zipped:
        index = {"format": FORMAT, "members": members}
        zipped.writestr(_info(INDEX, 1), json.dumps(index, indent=1, sort_keys=True), zipfile.ZIP_DEFLATED)
        for name in names:
            info = _info(name, int(members[name]["bytes"]))  # type: ignore[call-overload]
            info.compress_type = zipfile.ZIP_STORED if name.endswith((".npz", ".safetensors")) else zipfile.ZIP_DEFLATED
            with (folder / name).open("rb") as source, zipped.open(info, "w") as target:
                shutil.copyfileobj(source, target, CHUNK)


def _info(name: str, size: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, LONG_AGO)
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    info.file_size = size
    return info


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(archive: Path, folder: Path) -> None:
    """Write the checked members to folder, which appears whole or not at all.

    Raises SpkdError that names the member: damage, a changed byte, a path that leaves the folder, a foreign file type.
    """
    try:
        with zipfile.ZipFile(archive) as zipped, atomic.folder(folder) as new:
            for name, fact in _index(archive, zipped).items():
                _extract(archive, zipped, name, fact, new / name)
    except DAMAGE as error:
        raise SpkdError(archive, "a whole bundle", error, "export it again, or copy it again") from None


def _index(archive: Path, zipped: zipfile.ZipFile) -> dict[str, dict[str, Any]]:
    """{member: {bytes, sha256}} once names, number and declared sizes of all members are acceptable."""
    infos = zipped.infolist()
    names = [info.filename for info in infos]
    if INDEX not in names:  # a .npz is a zip as well: of a bundle that ends behind one, the members would be its arrays
        got = f"one without {INDEX}: no bundle, or damaged or cut short ({archive.stat().st_size:,} bytes)"
        raise SpkdError(archive, "a whole bundle of `spkd export`", got, "copy it again")
    if len(infos) > MOST_MEMBERS or sum(info.file_size for info in infos) > LARGEST_BYTES:
        raise _refused(archive, f"{len(infos)} members", "more than a bundle may hold")
    for info in infos:
        _check_name(archive, info.filename)
        mode = stat.S_IFMT(info.external_attr >> 16)
        if mode not in (0, stat.S_IFREG) or info.is_dir() or info.flag_bits & 1:
            raise _refused(archive, info.filename, "not a plain file")
    if len({name.casefold() for name in names}) != len(names):
        raise _refused(archive, "members", "one name twice")
    if zipped.getinfo(INDEX).file_size > LARGEST_INDEX_BYTES:
        raise _refused(archive, INDEX, "too large")
    try:
        index = json.loads(zipped.read(INDEX))
        members = {str(k): {"bytes": int(v["bytes"]), "sha256": str(v["sha256"])} for k, v in index["members"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise _refused(archive, INDEX, "not the index of a bundle") from None
    if index.get("format") != FORMAT:
        raise _refused(archive, INDEX, f"format {index.get('format')}, this version reads {FORMAT}")
    if sorted(members) != sorted(name for name in names if name != INDEX):
        raise _refused(archive, INDEX, "does not list exactly the members")
    return members


def _check_name(archive: Path, name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or set(name) & set("\\:\0") or path.as_posix() != name:
        raise _refused(archive, name, "a path that leaves its folder")
    if path.suffix not in SUFFIXES:
        raise _refused(archive, name, "a type of file that a bundle does not hold")


def _extract(archive: Path, zipped: zipfile.ZipFile, name: str, fact: dict[str, Any], to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    digest, written = hashlib.sha256(), 0
    with zipped.open(name) as source, to.open("wb") as file:
        while chunk := source.read(CHUNK):
            written += len(chunk)
            if written > fact["bytes"]:
                break
            digest.update(chunk)
            file.write(chunk)
    if written != fact["bytes"] or digest.hexdigest() != fact["sha256"]:
        raise _refused(archive, name, "not the bytes that the index promises")


def _refused(archive: Path, name: str, why: str) -> SpkdError:
    return SpkdError(
        f"{archive}: {name!r}", "an untouched bundle of `spkd export`", why, "do not use it; export it again"
    )
