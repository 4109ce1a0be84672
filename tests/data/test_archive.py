"""Zip archives made to do harm, damaged ones, and one whose blocks are given back while it is unpacked."""

import errno
import stat
import struct
import warnings
import zipfile
from pathlib import Path

import pytest

from spkd.data import archive
from spkd.errors import SpkdError

LIMIT = 1 << 20


def make(folder, members, name="set.zip"):
    """A zip of {member name or ZipInfo: bytes}."""
    with warnings.catch_warnings(), zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as zipped:
        warnings.simplefilter("ignore")  # "Duplicate name"
        for member, content in members:
            zipped.writestr(member, content)
    return folder / name


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def left(folder):
    return sorted(p.name for p in folder.iterdir())


def link(name, kind=stat.S_IFLNK):
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o777) << 16
    return info


def test_the_wanted_members_of_one_folder_are_unpacked(tmp_path):
    zipped = make(tmp_path, [("val/", b""), ("val/a.jpg", b"A"), ("val/b/c.txt", b"C"), ("other/x", b"X")])
    archive.unpack(zipped, "val", tmp_path / "val2017", LIMIT, lambda name: not name.endswith(".txt"))
    assert tree(tmp_path / "val2017") == {"a.jpg": b"A"}
    assert left(tmp_path) == ["set.zip", "val2017"]


def test_an_unpacked_folder_is_not_unpacked_again(tmp_path):
    (tmp_path / "val").mkdir()
    for consume in (False, True):
        archive.unpack(tmp_path / "gone.zip", "val", tmp_path / "val", LIMIT, consume=consume)


@pytest.mark.parametrize(
    ("member", "why"),
    [
        ("val/../../evil", "leaves the folder"),
        ("/val/evil", "leaves the folder"),
        ("val\\..\\evil", "leaves the folder"),
        ("C:/val/evil", "leaves the folder"),
        (".", "leaves the folder"),
        (link("val/link"), "link or special"),
        (link("val/pipe", stat.S_IFIFO), "link or special"),
        ("val/A.jpg", "same name twice"),
        ("val/a.jpg", "same name twice"),
        ("val/a.jpg/inside", "inside the file"),
    ],
)
def test_a_member_that_would_harm_is_named_and_nothing_is_written(tmp_path, member, why):
    zipped = make(tmp_path, [("val/a.jpg", b"A"), (member, b"/etc/passwd")])
    with pytest.raises(SpkdError, match=why) as error:
        archive.unpack(zipped, "val", tmp_path / "val", LIMIT)
    assert f"set.zip: {getattr(member, 'filename', member)!r}: " in str(error.value)
    assert left(tmp_path) == ["set.zip"]


def test_a_bomb_that_declares_its_size_is_refused_before_it_unpacks(tmp_path):
    zipped = make(tmp_path, [("val/zeros", bytes(LIMIT + 1))])
    assert zipped.stat().st_size < 5000
    with pytest.raises(SpkdError, match=f"{LIMIT + 1} bytes unpacked, the limit is {LIMIT}"):
        archive.unpack(zipped, "val", tmp_path / "val", LIMIT)


def test_an_archive_of_exactly_the_limit_is_unpacked(tmp_path):
    archive.unpack(make(tmp_path, [("val/zeros", bytes(LIMIT))]), "val", tmp_path / "val", LIMIT)
    assert tree(tmp_path / "val") == {"zeros": bytes(LIMIT)}


def test_a_bomb_that_lies_about_its_size_is_stopped(tmp_path):
    zipped = make(tmp_path, [("val/zeros", bytes(4 * LIMIT))])
    true, lie = struct.pack("<I", 4 * LIMIT), struct.pack("<I", 10)
    zipped.write_bytes(zipped.read_bytes().replace(true, lie))
    with pytest.raises(SpkdError, match="whole zip archive"):
        archive.unpack(zipped, "val", tmp_path / "val", LIMIT)
    assert not (tmp_path / "val").exists()
    assert sum(len(c) for n, c in tree(tmp_path).items() if n != "set.zip") <= 10


def test_a_member_of_fewer_bytes_than_it_declares_is_damage(tmp_path):
    zipped = make(tmp_path, [("val/zeros", bytes(LIMIT - 1))])
    zipped.write_bytes(zipped.read_bytes().replace(struct.pack("<I", LIMIT - 1), struct.pack("<I", LIMIT)))
    with pytest.raises(SpkdError, match=f"'val/zeros' declares {LIMIT} bytes and holds {LIMIT - 1}"):
        archive.unpack(zipped, "val", tmp_path / "val", LIMIT)
    assert not (tmp_path / "val").exists()


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_archive_is_an_error_and_no_folder(tmp_path, damage):
    zipped = make(tmp_path, [("val/a.jpg", bytes(range(256)) * 40)])
    raw = bytearray(zipped.read_bytes())
    raw[60] ^= 0xFF
    zipped.write_bytes(raw[:100] if damage == "cut" else raw)
    with pytest.raises(SpkdError, match="whole zip archive.*fetch it again"):
        archive.unpack(zipped, "val", tmp_path / "val", LIMIT)
    assert not (tmp_path / "val").exists()


@pytest.mark.parametrize(
    ("kind", "damaged"),
    [
        (zipfile.ZIP_STORED, lambda raw: raw[:9] + raw[200:]),  # the index then says that members begin before the file
        (zipfile.ZIP_BZIP2, lambda raw: raw[:60] + b"?" + raw[61:]),
        (zipfile.ZIP_LZMA, lambda raw: raw[:60] + b"?" + raw[61:]),
        (zipfile.ZIP_STORED, lambda raw: raw.replace("한".encode(), b"\xff\xff\xff")),
    ],
    ids=["bytes missing inside", "bzip2", "lzma", "a name that is no text"],
)
def test_whatever_zipfile_raises_for_damage_is_an_error_that_names_the_archive(tmp_path, kind, damaged):
    zipped = tmp_path / "set.zip"
    with zipfile.ZipFile(zipped, "w", kind) as out:
        out.writestr("val/한.jpg", bytes(range(256)) * 40)
    zipped.write_bytes(damaged(zipped.read_bytes()))
    with pytest.raises(SpkdError, match=r"set\.zip: expected a whole zip archive"):
        archive.unpack(zipped, "val", tmp_path / "val", 1 << 20)


def test_a_full_disk_is_no_damage_of_the_archive(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archive, "_unpack_one", full)
    with pytest.raises(OSError, match="No space left"):
        archive.unpack(make(tmp_path, [("val/a", b"x")]), "val", tmp_path / "val", LIMIT)


def test_an_archive_without_the_folder_is_refused(tmp_path):
    with pytest.raises(SpkdError, match="a folder val/"):
        archive.unpack(make(tmp_path, [("x/a", b"")]), "val", tmp_path / "val", LIMIT)


def test_what_a_killed_process_unpacked_is_kept_if_it_is_whole(tmp_path, monkeypatch):
    zipped = make(tmp_path, [("val/a", b"A" * 9), ("val/b", b"B" * 9), ("val/c", b"C" * 9)])
    building = tmp_path / ".val.unpacking" / "val"
    building.mkdir(parents=True)
    (building / "a").write_bytes(b"A" * 9)
    (building / "b").write_bytes(b"?" * 9)
    unpacked, one = [], archive._unpack_one
    monkeypatch.setattr(archive, "CHUNK", 4)
    monkeypatch.setattr(archive, "_unpack_one", lambda z, m, to: (unpacked.append(m.filename), one(z, m, to)))
    archive.unpack(zipped, "val", tmp_path / "val", LIMIT)
    assert unpacked == ["val/b", "val/c"]
    assert tree(tmp_path / "val") == {"a": b"A" * 9, "b": b"B" * 9, "c": b"C" * 9}


def test_consumed_archives_give_their_blocks_back_while_unpacking(tmp_path, monkeypatch):
    if not archive.can_consume(tmp_path):
        pytest.skip("this file system cannot punch holes: the archive stays whole until the end")
    members = [(f"val/{i}", bytes([i]) * 300_000) for i in range(4)]
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_STORED) as zipped:
        for name, content in members:
            zipped.writestr(name, content)
    zip_file, blocks, one = tmp_path / "set.zip", [], archive._unpack_one
    monkeypatch.setattr(archive, "FREE_EVERY_BYTES", 1)

    def watch(zipped, member, to):
        blocks.append(zip_file.stat().st_blocks * 512)
        one(zipped, member, to)

    monkeypatch.setattr(archive, "_unpack_one", watch)
    archive.unpack(zip_file, "val", tmp_path / "val", 2 * LIMIT, consume=True)
    assert tree(tmp_path / "val") == {Path(n).name: c for n, c in members}
    assert [round(b / 300_000) for b in blocks] == [4, 3, 2, 1]
    assert left(tmp_path) == ["val"]


def test_an_empty_member_does_not_end_the_giving_back(tmp_path):
    with (tmp_path / "whole").open("w+b") as file:
        assert archive.punch(file.fileno(), 0, 0)


def test_no_block_is_given_back_before_its_copy_is_on_the_disk(tmp_path, monkeypatch):
    zipped, calls = make(tmp_path, [(f"val/{i}", b"x" * 9) for i in range(3)]), []
    monkeypatch.setattr(archive, "FREE_EVERY_BYTES", 1)
    monkeypatch.setattr(archive.os, "sync", lambda: calls.append("sync"))
    monkeypatch.setattr(archive, "punch", lambda file, offset, length: bool(calls.append("punch")) or True)
    archive.unpack(zipped, "val", tmp_path / "val", LIMIT, consume=True)
    assert calls == ["sync", "punch"] * 3


def test_an_interrupted_consuming_run_ends_right(tmp_path, monkeypatch):
    members = [(f"val/{i}", bytes([i]) * 300_000) for i in range(4)]
    zipped = make(tmp_path, members)
    monkeypatch.setattr(archive, "FREE_EVERY_BYTES", 1)
    one = archive._unpack_one

    def stop_at_2(z, member, to):
        if member.filename == "val/2":
            raise KeyboardInterrupt
        one(z, member, to)

    monkeypatch.setattr(archive, "_unpack_one", stop_at_2)
    with pytest.raises(KeyboardInterrupt):
        archive.unpack(zipped, "val", tmp_path / "val", 2 * LIMIT, consume=True)
    assert not (tmp_path / "val").exists()
    monkeypatch.setattr(archive, "_unpack_one", one)
    archive.unpack(zipped, "val", tmp_path / "val", 2 * LIMIT, consume=True)
    assert tree(tmp_path / "val") == {Path(n).name: c for n, c in members}
