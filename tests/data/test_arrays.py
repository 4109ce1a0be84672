import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest

from spkd.data import arrays
from spkd.errors import SpkdError

CONTENT = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "empty": np.empty((0, 2), dtype=np.int64)}


def saved(tmp_path: Path) -> Path:
    arrays.save(tmp_path / "set", CONTENT, {"digest": "x"})
    return tmp_path / "set"


def test_what_was_saved_is_loaded_bit_for_bit(tmp_path):
    loaded, manifest = arrays.load(saved(tmp_path), "dvc repro")
    assert manifest["digest"] == "x"
    for name, array in CONTENT.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


def test_loaded_arrays_are_mapped_and_cannot_be_written(tmp_path):
    loaded, _ = arrays.load(saved(tmp_path), "dvc repro")
    assert isinstance(loaded["a"], np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        loaded["a"][0, 0] = 1


def test_arrays_mapped_to_be_written_leave_their_files_as_they_are(tmp_path):
    folder = saved(tmp_path)
    loaded, _ = arrays.load(folder, "dvc repro", mode="c")
    assert isinstance(loaded["a"], np.memmap)
    loaded["a"][:] = 1
    np.testing.assert_array_equal(arrays.load(folder, "dvc repro")[0]["a"], CONTENT["a"])


def test_a_folder_is_on_the_disk_before_it_takes_its_place_and_its_name_afterwards(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(arrays.atomic, "flush", lambda path: flushed.append((path, (tmp_path / "set").exists())))
    saved(tmp_path)
    *files, (part, _), (parent, named) = flushed
    assert sorted(path.name for path, _ in files) == ["a.npy", "empty.npy", "manifest.json"]
    assert {path.parent for path, _ in files} == {part}
    assert not any(there for _, there in flushed[:-1])
    assert (parent, named) == (tmp_path, True)


def test_arrays_filled_in_place_are_those_of_save(tmp_path):
    with arrays.filling(tmp_path / "set", {"a": ("<f4", (2, 3))}, {"digest": "x"}) as content:
        content["a"][:] = CONTENT["a"]
        assert not (tmp_path / "set").exists()
    loaded, manifest = arrays.load(tmp_path / "set", "dvc repro")
    np.testing.assert_array_equal(loaded["a"], CONTENT["a"])
    arrays.save(tmp_path / "twin", {"a": CONTENT["a"]}, {"digest": "x"})
    assert arrays.load(tmp_path / "twin", "dvc repro")[1] == manifest


def test_a_filling_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), arrays.filling(tmp_path / "set", {"a": ("<f4", (2,))}, {}):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_the_old_content_and_no_litter(tmp_path):
    folder = saved(tmp_path)
    with pytest.raises(ValueError, match="allow_pickle"):
        arrays.save(folder, {"a": np.zeros(3), "b": np.array([object()])}, {"digest": "y"})
    assert arrays.load(folder, "dvc repro")[1]["digest"] == "x"
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_second_save_replaces_every_file_of_the_first(tmp_path):
    folder = saved(tmp_path)
    arrays.save(folder, {"b": np.zeros(3)}, arrays.load(folder, "dvc repro")[1])
    assert sorted(p.name for p in folder.iterdir()) == ["b.npy", "manifest.json"]
    assert list(arrays.load(folder, "dvc repro")[0]) == ["b"]


def test_a_manifest_that_is_not_plain_json_is_refused(tmp_path):
    for value in (np.float32(1), float("nan"), {1, 2}):
        with pytest.raises(SpkdError, match="plain JSON"):
            arrays.save(tmp_path / "set", CONTENT, {"value": value})
    assert not (tmp_path / "set").exists()


def as_npy(save, *arrays, **named):
    """What numpy writes, as bytes."""
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npy", None),
        ("a.npy", b""),
        ("a.npy", lambda whole: whole[:-4]),
        ("a.npy", lambda whole: whole.replace(b"}", b" ")),
        ("a.npy", lambda whole: whole.replace(b"(", b"(" + b"9" * 20, 1)),
        ("a.npy", as_npy(np.save, CONTENT["a"].astype(np.float64))),
        ("a.npy", as_npy(np.savez, a=CONTENT["a"])),
        ("manifest.json", None),
        ("manifest.json", b"{"),
        ("manifest.json", b"\xff\xfe{}"),
        ("manifest.json", b"{}"),
        ("manifest.json", b"[]"),
        ("manifest.json", b"[" * 100_000),
        ("manifest.json", b'{"format": 0, "files": {}}'),
        ("manifest.json", b'{"format": 1, "files": ["a"]}'),
    ],
)
def test_a_damaged_folder_is_refused_with_the_command_that_makes_it_again(tmp_path, name, content):
    path = saved(tmp_path) / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content(path.read_bytes()) if callable(content) else content)
    with pytest.raises(SpkdError, match="dvc repro windows@x"):
        arrays.load(tmp_path / "set", "dvc repro windows@x")


def test_an_array_file_that_is_gone_is_told_once_and_plainly(tmp_path):
    arrays.save(tmp_path / "a", {"x": np.zeros(3, np.float32)}, {})
    (tmp_path / "a" / "x.npy").unlink()
    with pytest.raises(SpkdError) as refused:
        arrays.load(tmp_path / "a", "dvc repro a")
    assert str(refused.value) == (
        f"{tmp_path}/a/x.npy: expected an array ['float32', [3]], got no such file; run \"dvc repro a\""
    )


def test_a_full_disk_is_found_before_the_block_and_named(tmp_path, monkeypatch):
    asked = []

    def full(handle, offset, n_bytes):
        asked.append((offset, n_bytes))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left") as error:  # noqa: SIM117 - the block must not begin
        with arrays.filling(tmp_path / "set", {"a": ("<f4", (1000, 3))}, {}):
            raise AssertionError
    assert asked == [(0, 12_128)] and error.value.filename == str(tmp_path / "set")
    assert not list(tmp_path.iterdir())


def test_the_room_of_a_file_to_be_filled_is_taken_from_the_disk(tmp_path):
    with arrays.filling(tmp_path / "set", {"a": ("<f4", (1000, 1000)), "none": ("<f4", (0, 3))}, {}):
        path = next(tmp_path.glob(".set.*/a.npy"))
        assert 512 * path.stat().st_blocks >= 4_000_000
