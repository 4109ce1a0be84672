"""A folder or file is the old one or the new one, also when the writer fails, is killed, or cannot swap in one call."""

import errno
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import spkd
from spkd import atomic
from spkd.training import checkpoint

SRC = str(Path(spkd.__file__).parents[1])


def write(to, text):
    with atomic.folder(to) as new:
        (new / "a.txt").write_text(text)


def left(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("how", ["one call", "of no use", "not there"])
def test_a_folder_is_replaced_as_a_whole(tmp_path, monkeypatch, how):
    if how != "one call":
        library = SimpleNamespace(**{"renameat2": lambda *call: -1} if how == "of no use" else {})
        monkeypatch.setattr(atomic.ctypes, "CDLL", lambda name, **words: library)
    to = tmp_path / "out"
    write(to, "old")
    (to / "stale.cache").write_text("x")
    write(to, "new")
    assert left(to) == ["a.txt"]
    assert (to / "a.txt").read_text() == "new"
    assert left(tmp_path) == ["out"]


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path):
    write(tmp_path / "out", "old")
    with pytest.raises(RuntimeError), atomic.folder(tmp_path / "out") as new:
        (new / "a.txt").write_text("half")
        raise RuntimeError
    assert (tmp_path / "out" / "a.txt").read_text() == "old"
    assert left(tmp_path) == ["out"]


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    code = (
        "import os, signal; from pathlib import Path; from spkd import atomic\n"
        "with atomic.folder(Path('out')) as new: (new / 'a').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": SRC})
    assert ended.returncode == -signal.SIGKILL
    assert len(left(tmp_path)) == 1
    assert not (tmp_path / "out").exists()
    write(tmp_path / "out", "new")
    assert left(tmp_path) == ["out"]


def test_a_kill_between_two_renames_gives_the_old_folder_back(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    write(tmp_path / f".out.{socket.gethostname()}.{gone.pid}.old", "old")
    atomic.sweep(tmp_path / "out")
    assert (tmp_path / "out" / "a.txt").read_text() == "old"


@pytest.mark.parametrize(("name", "stays"), [
    (".out.{here}.{alive}.new", True), (".out.{here}.{dead}.new", False), (".out.elsewhere.{dead}.new", True),
    (".out.{here}.{here}.{dead}.new", True), (".out.{here}.{dead}.txt", True), (".out.{here}.{own}.new", False),
    (".out.{here}.none.new", True),
])  # fmt: skip
def test_of_dead_writers_of_this_host_alone_the_folders_are_removed(tmp_path, name, stays):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folder = tmp_path / name.format(here=socket.gethostname(), alive=os.getppid(), dead=gone.pid, own=os.getpid())
    folder.mkdir()
    atomic.sweep(tmp_path / "out")
    assert folder.exists() is stays
    assert not (tmp_path / "out").exists()  # nobody finished it


def test_the_folder_of_another_users_writer_stays(tmp_path, monkeypatch):
    def refuse(pid, number):
        raise PermissionError

    folder = tmp_path / f".out.{socket.gethostname()}.{os.getppid()}.new"
    folder.mkdir()
    monkeypatch.setattr(os, "kill", refuse)
    atomic.sweep(tmp_path / "out")
    assert folder.exists()


def test_a_file_is_replaced_as_a_whole_and_others_may_read_it(tmp_path):
    to = tmp_path / "deep" / "a.png"
    for text, before in (("old", None), ("new", "old")):
        with atomic.file(to) as new:
            new.write_text(text)
            assert (to.read_text() if to.exists() else None) == before
    assert to.read_text() == "new" and stat.S_IMODE(to.stat().st_mode) == 0o666 & ~atomic.UMASK
    assert left(to.parent) == ["a.png"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    (tmp_path / "a").write_text("old")
    with pytest.raises(type(error)), atomic.file(tmp_path / "a") as new:
        new.write_text("half")
        raise error
    assert (tmp_path / "a").read_text() == "old"
    assert left(tmp_path) == ["a"]


def test_a_text_file_is_written_whole_or_not_at_all(tmp_path):
    atomic.write_text(tmp_path / "deep" / "a.json", "old\n")
    assert (tmp_path / "deep" / "a.json").read_bytes() == b"old\n"
    with pytest.raises(UnicodeEncodeError):
        atomic.write_text(tmp_path / "deep" / "a.json", "new \ud800")
    assert (tmp_path / "deep" / "a.json").read_text() == "old\n"
    assert left(tmp_path / "deep") == ["a.json"]


@pytest.mark.parametrize(
    "save",
    [lambda to: atomic.write_text(to, "text"), lambda to: checkpoint.save(to, {"a": torch.zeros(3)}, {"step": 1})],
    ids=["text", "checkpoint"],
)
def test_what_is_written_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch, save):
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: calls.append("fsync") or fsync(handle))
    monkeypatch.setattr(os, "replace", lambda old, new: calls.append(Path(new).name) or replace(old, new))
    save(tmp_path / "a")
    assert calls == ["fsync", "a"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_full_disk_is_told_with_the_name_of_what_was_to_be_written(tmp_path, kind):
    write, full_disk = getattr(atomic, kind), Path("/dev/full")
    with pytest.raises(OSError, match="No space left on device") as full, write(tmp_path / "a"):  # noqa: SIM117
        with full_disk.open("wb", buffering=0) as file:
            file.write(b"x")
    assert full.value.filename == str(tmp_path / "a")
    for error in (ConnectionError("of a network, which has no file"), OSError(errno.ENETUNREACH, "no way there")):
        with pytest.raises(OSError) as other, getattr(atomic, kind)(tmp_path / "a"):
            raise error
        assert other.value.filename is None
    with pytest.raises(OSError) as named, getattr(atomic, kind)(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device", "/elsewhere/b")
    assert named.value.filename == "/elsewhere/b"


def test_a_removed_folder_is_gone_whole_wherever_the_process_dies_and_so_is_that_of_an_earlier_one(
    tmp_path, monkeypatch
):
    folder = tmp_path / "run"

    def filled():
        (folder / "outbox").mkdir(parents=True)
        (folder / "outbox" / "events.jsonl").touch()

    def killed(path, ignore_errors):
        if path.exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "getpid", lambda: 7)  # a container gives the same few numbers again and again
    filled()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(atomic.shutil, "rmtree", killed)
        atomic.remove(folder)
    assert not folder.exists() and [path.suffix for path in tmp_path.iterdir()] == [f".{atomic.GONE}"]
    filled()
    atomic.remove(folder)
    assert list(tmp_path.iterdir()) == []
