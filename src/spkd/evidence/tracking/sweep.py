"""Puts right what dead processes left: runs that look RUNNING for ever, and facts that never arrived."""

import fnmatch
import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from filelock import Timeout
from mlflow import MlflowClient
from mlflow.entities import Run

from spkd import atomic
from spkd.errors import SpkdError
from spkd.evidence import outbox as outboxes
from spkd.evidence.outbox import Delivery, Outbox
from spkd.evidence.tracking import store
from spkd.evidence.tracking.delivery import finish

ENTRY_POINT = "mlflow.project.entryPoint"
LEAVE_NOTHING = ("teacher", "scratch", "student")  # kinds of runs whose folder serves nobody once they have ended well


def sweep(folder: Path, but: Path | None = None) -> list[Path]:
    """Mark the runs of dead processes below a folder KILLED and deliver what they left; returns their folders.

    Folders that a process was killed deleting are deleted. but: the folder that the caller is about to go on in: where
    it holds a finished run of this store, that one's rest is left to it.
    """
    swept = []
    for box in outboxes.find(folder):
        try:
            with box.lock(wait_s=0):
                if not (box.folder == but and _is_for_here(box)) and _bury(box):
                    swept.append(box.folder)
        except (Timeout, FileNotFoundError, PermissionError):
            continue  # another command is at it, or was and removed the folder, or only its own user may
    for place, names, _ in os.walk(folder):
        for name in fnmatch.filter(names, f".*.{atomic.GONE}"):
            shutil.rmtree(Path(place, name), ignore_errors=True)
    return swept


def _is_for_here(box: Outbox) -> bool:
    return box.late and box.delivery.uri == store.absolute(store.uri())


def _bury(box: Outbox) -> bool:
    """Whether there was anything to do for the outbox of a dead process."""
    opened, ended = box.opened(), box.ending()
    if opened is None or outboxes.is_alive(opened["process"]):
        return False
    if ended is not None and not box.pending():
        _let_go(box, opened)
        return False
    if ended is None:
        _end(box, opened)
    try:
        finish(box)
        _let_go(box, opened)
    except Exception as error:  # whatever a store raises must not stop the command that sweeps
        print(f"spkd: {box.folder} is not uploaded ({store.reason(error)}): spkd upload {box.folder}", file=sys.stderr)
    return True


def _let_go(box: Outbox, opened: dict[str, Any]) -> None:
    """Delete the folder of a finished training that nobody deleted: its upload came late, or its process was killed."""
    if opened["tags"].get("kind") in LEAVE_NOTHING and box.finished:
        forget(box.folder)


def _end(box: Outbox, opened: dict[str, Any]) -> None:
    why = f"process {opened['process']['pid']} of {opened['process']['host']} died without a word"
    *_, (_, last) = box.read()
    box.append("tags", values={"ended": why}, time_ms=last["time_ms"])
    box.append("end", status="KILLED", time_ms=last["time_ms"])
    box.close()


def forget(folder: Path) -> None:
    """Delete a finished run's folder once everything in it has reached MLflow; say how to upload it otherwise."""
    if Outbox(folder).pending():
        print(f"kept {folder} until its rest is uploaded: spkd upload {folder}", flush=True)
    else:
        atomic.remove(folder)


def upload(folder: Path) -> int:
    """Deliver the rest of a run's local copy, or of all runs below a folder; returns how many events were sent.

    To the store that the run was opened in; where MLFLOW_TRACKING_URI names another one, all of it to a new run there.
    Raises SpkdError where there is no local copy, its run still runs, or the server does not answer.
    """
    boxes = [box for box in outboxes.find(folder) if box.opened()]
    if not boxes:
        raise SpkdError(folder, "the folder of a run", "no outbox/events.jsonl", "pass the folder that the run named")
    total = 0
    for box in boxes:
        with box.lock():
            opened = box.opened() or {}
            if box.ending() is None and outboxes.is_alive(opened["process"]):
                raise SpkdError(box.folder, "an ended run", "one that still runs", "wait: it uploads by itself")
            if box.ending() is None:
                _end(box, opened)
            if os.environ.get("MLFLOW_TRACKING_URI") and store.absolute(store.uri()) != box.delivery.uri:
                _point_elsewhere(box, opened)
            total += finish(box)
            _let_go(box, opened)
    return total


def _point_elsewhere(box: Outbox, opened: dict[str, Any]) -> None:
    uri = store.absolute(store.uri())
    made = store.client(uri)
    experiment_id = store.experiment_id(made, uri, opened["experiment"])
    tags = {"uploaded_from": f"{store.shown(box.delivery.uri)} {box.delivery.run_id}"}
    box.delivery = Delivery(uri, made.create_run(experiment_id, run_name=opened["name"], tags=tags).info.run_id)


def clean_up(minutes: float, project: Path) -> list[str]:
    """Ids of runs that were RUNNING with nobody behind them, and now are FAILED or KILLED.

    Those are runs that `mlflow run` of the project in this folder opened more than `minutes` ago and that never reached
    this program (its environment could not be built, say), and runs of this program on this host whose process and
    local copy are gone. Runs of other projects and folders on the same server are left as they are.
    """
    made = store.client()
    marked = []
    before_ms = int((time.time() - 60 * minutes) * 1000)
    ids = [e.experiment_id for e in made.search_experiments()]
    query = f"attributes.status = 'RUNNING' AND attributes.start_time < {before_ms}"
    for run in made.search_runs(ids, query) if ids else []:
        if _mark(made, run, project):
            marked.append(str(run.info.run_id))
    return marked


def _is_of(project: Path, source: str) -> bool:
    """Whether MLflow's name of a source, /path or file:///repository#folder, is the project's folder."""
    return bool(source) and os.path.realpath(source.removeprefix("file://").replace("#", "/")) == os.path.realpath(
        project
    )


def _mark(made: MlflowClient, run: Run, project: Path) -> bool:
    tags, run_id = run.data.tags, run.info.run_id
    if "process" not in tags:
        if ENTRY_POINT not in tags or not _is_of(project, tags.get("mlflow.source.name", "")):
            return False
        made.set_tag(run_id, "failure", "never started: `mlflow run` did not build the environment or was stopped")
        made.set_terminated(run_id, "FAILED")
        return True
    if is_alive(tags):
        return False
    host, pid, _ = tags["process"].rsplit(":", 2)
    box = Outbox(Path(tags["outbox"]))
    if box.exists():
        return False
    made.set_tag(run_id, "ended", f"process {pid} of {host} died and left no local copy")
    made.set_terminated(run_id, "KILLED")
    return True


def is_alive(tags: Mapping[str, str]) -> bool:
    """Whether the process that a run's tags name still runs; one of another host counts as running."""
    if "process" not in tags:
        return False
    host, pid, started_s = tags["process"].rsplit(":", 2)
    known = {"host": host, "pid": int(pid), "started_s": float(started_s)}
    return outboxes.is_alive({**known, "since_boot": tags.get("process.since_boot")})


def adopt(run_ids: Iterable[str], parent: str) -> None:
    """Nest runs under another parent: a command that goes on after it was stopped has its runs under one parent."""
    with store.asking(f"runs below {parent}") as made:
        for run_id in run_ids:
            made.set_tag(run_id, "mlflow.parentRunId", parent)
