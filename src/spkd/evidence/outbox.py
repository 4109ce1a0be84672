"""The local copy of a run: every fact is written here first, and delivered to MLflow from here.

Contract: `<folder>/outbox/events.jsonl` is append-only, one JSON object a line, each line written by one system call,
so that `kill -9` can tear the last line only. `delivery.json` says how far it was delivered, and to which run of which
server; `files/` holds what is too large for a line. Knows nothing of MLflow.
"""

import errno
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock

from spkd import atomic
from spkd.errors import SpkdError

NAME = "outbox"
START_TOLERANCE_S = 2.0
BOOT = Path("/proc/sys/kernel/random/boot_id")
NPY = b"\x93NUMPY"  # an image is kept as an .npy file, which begins so


@dataclass
class Delivery:
    """How far the outbox was delivered. uri, run_id: to where. sent: bytes of events.jsonl that arrived there.

    refused: messages of facts that the server would not take, ever (a changed parameter, say).
    """

    uri: str = ""
    run_id: str = ""
    sent: int = 0
    refused: list[str] = field(default_factory=list)


def this_process() -> dict[str, Any]:
    """What identifies this process later: host, pid and its start, by the clock [s since 1970] and since boot."""
    me = psutil.Process()
    found = {"host": socket.gethostname(), "pid": me.pid, "started_s": me.create_time()}
    return {**found, "since_boot": _since_boot(me)}


def _since_boot(process: psutil.Process) -> str:
    """Which boot a process is of, and its seconds since: what no change of the clock moves."""
    boot = BOOT.read_text(encoding="ascii").strip() if BOOT.is_file() else ""
    return f"{boot} {process.create_time() - psutil.boot_time():.2f}"


def is_alive(process: dict[str, Any]) -> bool:
    """Whether a process recorded by this_process still runs; a process of another host counts as running.

    A pid that was given to another program since (different start time) and a zombie count as dead.
    """
    if process["host"] != socket.gethostname():
        return True
    try:
        found = psutil.Process(process["pid"])
        same = abs(found.create_time() - process["started_s"]) < START_TOLERANCE_S
        same = same or process.get("since_boot") == _since_boot(found)  # where the clock was set meanwhile
        return bool(same and found.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Outbox:
    """One run's events on disk, in order.

    folder: the run's folder (checkpoints live beside the outbox). Opening never changes anything; `append` first cuts
    off a line torn by a crash.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.root = self.folder / NAME
        self.events_path = self.root / "events.jsonl"
        self._handle: int | None = None

    def lock(self, wait_s: float = -1) -> FileLock:
        """Held by whoever claims, buries or uploads the outbox of a process that is not running; -1 waits for ever."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / f"{NAME}.lock", timeout=wait_s)

    def exists(self) -> bool:
        """Whether at least one whole event is there."""
        return self.events_path.is_file() and next(self.read(), None) is not None

    def append(self, kind: str, **fact: Any) -> None:
        """Add one event; it is on the way to the disk, beyond this process, when this returns.

        Raises OSError that names the file where the disk is full; what was written before stays whole.
        """
        if self._handle is None:
            self._handle = self._open()
        fact = {"kind": kind, "time_ms": time.time_ns() // 1_000_000, **fact}
        line = json.dumps(fact, ensure_ascii=False).encode() + b"\n"
        with atomic.naming(self.events_path):
            written = os.write(self._handle, line)
            if written < len(line):  # a disk that filled up: the next event must not continue this line
                os.ftruncate(self._handle, os.fstat(self._handle).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _open(self) -> int:
        (self.root / "files").mkdir(parents=True, exist_ok=True)
        handle = os.open(self.events_path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)  # less the umask
        text = self.events_path.read_bytes()
        if not text.endswith(b"\n"):
            os.ftruncate(handle, text.rfind(b"\n") + 1)
        state = self._recorded()
        if state.sent > os.fstat(handle).st_size:  # before the file grows beyond it again
            self.delivery = replace(state, sent=0)
        return handle

    def read(self, start: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """(byte offset behind the event, event) of every whole event from a byte offset on, without a torn last line.

        Raises SpkdError where a whole line is not an event: the file was edited or damaged.
        """
        if not self.events_path.is_file():
            return
        with self.events_path.open("rb") as file:
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                start += len(line)
                try:
                    yield start, json.loads(line)
                except ValueError:
                    where = f"{self.events_path}: byte {start - len(line)}"
                    raise SpkdError(where, "one JSON object a line", repr(line[:40]), "remove that line") from None

    def keep_file(self, source: Path, name: str) -> str:
        """Copy a file into the outbox under a name of its own; returns that name, for `path_of`."""
        kept = self._new_name(name)
        with atomic.file(self.path_of(kept), sync=False) as new:
            shutil.copyfile(source, new)
        return kept

    def keep_bytes(self, data: bytes, name: str) -> str:
        """Write bytes into the outbox under a name of their own; returns that name, for `path_of`."""
        kept = self._new_name(name)
        with atomic.file(self.path_of(kept), sync=False) as new:
            new.write_bytes(data)
        return kept

    def keep_folder(self, name: str) -> str:
        """A new empty folder in the outbox to be filled before its event is appended; its name for `path_of`."""
        kept = self._new_name(name)
        self.path_of(kept).mkdir(parents=True)
        return kept

    def _new_name(self, name: str) -> str:
        return f"{time.time_ns()}-{Path(name).name}"

    def path_of(self, kept: str) -> Path:
        """Where a kept file lies."""
        return self.root / "files" / kept

    def holds(self, event: dict[str, Any]) -> bool:
        """Whether the file behind an event is there: a power cut may take it, or its content, and not the event."""
        if "kept" not in event:
            return True
        path = self.path_of(event["kept"]) / str(event.get("file", ""))
        if event["kind"] != "image":
            return path.is_file() and (event["kind"] == "file" or path.stat().st_size > 0)  # a text may be empty
        return path.is_file() and path.read_bytes()[: len(NPY)] == NPY

    def opened(self) -> dict[str, Any] | None:
        """The latest `open` event."""
        found = None
        for _, event in self.read():
            if event["kind"] == "open":
                found = event
        return found

    def ending(self) -> dict[str, Any] | None:
        """The `end` event, where nothing was opened after it."""
        found = None
        for _, event in self.read():
            if event["kind"] == "end":
                found = event
            elif event["kind"] == "open":
                found = None
        return found

    @property
    def finished(self) -> bool:
        """Whether the run ended well, and was not opened again after that."""
        return (self.ending() or {}).get("status") == "FINISHED"

    @property
    def late(self) -> bool:
        """Whether the run ended well, and not all of it arrived in MLflow."""
        return self.finished and self.pending() > 0

    def paused_s(self) -> float:
        """How long nobody was at MLflow's run: from the last event before each continuation to that [s]."""
        paused_ms, run_id, before_ms = 0, None, 0
        for _, event in self.read():
            if event["kind"] == "open":
                same, run_id = event.get("run_id", "") == run_id, event.get("run_id", "")
                paused_ms = paused_ms + max(0, event["time_ms"] - before_ms) if same else 0
            before_ms = event["time_ms"]
        return paused_ms / 1000

    @property
    def delivery(self) -> Delivery:
        """How far the events arrived; at nothing where none was recorded, or a power cut took events that had arrived.

        They are then delivered once more from the first, which changes nothing.
        """
        state = self._recorded()
        there = self.events_path.stat().st_size if self.events_path.is_file() else 0
        return replace(state, sent=0) if state.sent > there else state

    @delivery.setter
    def delivery(self, value: Delivery) -> None:
        # Not synced: what a power cut takes is delivered once more, which changes nothing.
        atomic.write_text(self.root / "delivery.json", json.dumps(asdict(value), indent=1), sync=False)

    def _recorded(self) -> Delivery:
        path = self.root / "delivery.json"
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if not text:  # nothing was recorded, or a power cut took it: of an opened run all is delivered once more
            opened = self.opened() or {}
            return Delivery(opened.get("uri", ""), opened.get("run_id", ""))
        return Delivery(**json.loads(text))

    def pending(self) -> int:
        """How many whole events have not arrived."""
        return sum(1 for _ in self.read(self.delivery.sent))

    def sync(self) -> None:
        """Make what was appended survive a power cut."""
        if self._handle is not None:
            os.fsync(self._handle)

    def close(self) -> None:
        """Release the file; a later append opens it again."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def clear(self) -> None:
        """Remove the outbox, at once for every reader."""
        self.close()
        if self.root.exists():
            atomic.remove(self.root)


def find(folder: Path) -> list[Outbox]:
    """Every outbox at or below a folder, sorted by path. What another command deletes meanwhile is passed over."""
    found = [Path(place) for place, _, files in os.walk(folder) if "events.jsonl" in files]
    return [Outbox(path.parent) for path in sorted(found) if path.name == NAME]
