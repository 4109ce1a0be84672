"""The one door to MLflow: open a run, log to it, find it again.

Contract: every fact goes to the run's outbox on disk first and reaches MLflow from a thread; training waits for no
network, and a vanished server loses nothing (`spkd upload <folder>`). A run that raises is FAILED with the reason, one
that is stopped is KILLED, one whose process died is marked by the next `sweep`.
"""

import getpass
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from spkd.errors import SpkdError
from spkd.evidence import outbox as outboxes
from spkd.evidence.outbox import Delivery, Outbox
from spkd.evidence.tracking import store
from spkd.evidence.tracking.delivery import Sender
from spkd.evidence.tracking.reading import RunInfo, artifact, find, finished, get, history, inputs, listing, registered
from spkd.evidence.tracking.run import TAG_LENGTH, Run, logged, texts
from spkd.evidence.tracking.store import Away, told
from spkd.evidence.tracking.sweep import adopt, clean_up, forget, is_alive, sweep, upload

__all__ = [
    "Away",
    "Run",
    "RunInfo",
    "abandon",
    "adopt",
    "artifact",
    "clean_up",
    "find",
    "finished",
    "forget",
    "get",
    "history",
    "inputs",
    "is_alive",
    "listing",
    "logged",
    "open_run",
    "registered",
    "reserve",
    "retag",
    "sweep",
    "told",
    "upload",
]


def open_run(
    name: str,
    folder: Path,
    experiment: str,
    parent: Run | str | None = None,
    tags: Mapping[str, Any] | None = None,
    fresh: bool = False,
) -> "Run":
    """A run that logs to MLflow; use it as a context manager.

    folder: where the local copy lives. One that holds a run that is unfinished, or did not arrive as a whole, is
    continued, unless fresh; facts that it logged already (same metric and step) are not logged twice. Under `mlflow
    run` the run that MLflow opened is adopted, with its experiment. parent: nests this run under that one, in the
    parent's experiment.
    Raises SpkdError where the server does not answer or takes no run, another process writes to the folder, or the run
    to adopt has ended.
    """
    box = Outbox(folder)
    uri = store.absolute(store.uri())
    made = store.client(uri)
    with box.lock():
        _claim(box, fresh)
        adopted = os.environ.pop("MLFLOW_RUN_ID", None)
        if parent is None and adopted:
            run_id = _open_one(made, adopted)
        elif box.delivery.uri == uri and _is_there(made, box.delivery.run_id):
            run_id = box.delivery.run_id
        else:
            run_id = _create(made, uri, name, experiment, parent.id if isinstance(parent, Run) else parent)
        _point(box, made, uri, run_id)
        process = outboxes.this_process()
        words = texts({**_writer(process, box.folder), **(tags or {})}, TAG_LENGTH)
        place = {"uri": uri, "run_id": run_id}
        box.append("open", name=name, experiment=experiment, process=process, tags=words, **place)
        if (paused_s := box.paused_s()) > 0:
            box.append("tags", values={"paused_s": f"{paused_s:.1f}"})
    experiment_id = str(made.get_run(run_id).info.experiment_id)
    store.show_training_runs(made, experiment_id)
    return Run(box, run_id, experiment_id, Sender(box, made))


def _writer(process: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """The tags by which a later command finds out whether anybody still writes to a run, and where."""
    who = f"{process['host']}:{process['pid']}:{process['started_s']:.2f}"
    return {"process": who, "process.since_boot": process["since_boot"], "outbox": str(folder.absolute())}


def _point(box: Outbox, made: MlflowClient, uri: str, run_id: str) -> None:
    """Deliver to this run from now on: all events from the first where it is another run than before."""
    known = box.delivery
    if (run_id, uri) == (known.run_id, known.uri):
        return
    box.delivery = Delivery(uri, run_id)
    if known.uri == uri and _is_there(made, known.run_id):
        made.set_tag(known.run_id, "continued_by", run_id)
        if made.get_run(known.run_id).info.status == "RUNNING":  # its process was killed at its very end
            made.set_terminated(known.run_id, "KILLED")


def _claim(box: Outbox, fresh: bool) -> None:
    """Make sure that the outbox may be written: nobody else's, and no finished run's that arrived.

    One whose process died before all of it arrived may go on, at its end.
    """
    opened = box.opened()
    if opened is None:
        box.clear()
        return
    alive = outboxes.is_alive(opened["process"])
    if box.ending() is None and alive:
        who = f"process {opened['process']['pid']} on {opened['process']['host']}, still running"
        raise SpkdError(box.folder, "a folder that no run writes to", who, "wait for it or choose another run.folder")
    if fresh or box.finished:
        unsent = box.pending() if box.delivery.run_id else 0
        if unsent and (fresh or alive):
            raise SpkdError(box.folder, "an uploaded run", f"{unsent} events to upload", f"spkd upload {box.folder}")
        if unsent:
            print(f"{box.folder}: trained before, but not all of it arrived in MLflow: goes on there", flush=True)
        else:
            box.clear()


def _is_there(made: MlflowClient, run_id: str) -> bool:
    if not run_id:
        return False
    try:
        return bool(made.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException:
        return False


def _open_one(made: MlflowClient, run_id: str) -> str:
    """The id of a run to adopt. Raises SpkdError where it has ended: what it holds would be mixed with other facts."""
    try:
        info = made.get_run(run_id).info
        got = info.status if info.lifecycle_stage == "active" else "a deleted one"
    except MlflowException as error:
        got = store.reason(error)
    if got != "RUNNING":
        do = "unset MLFLOW_RUN_ID: `mlflow run` sets it for the run that it opens"
        raise SpkdError(f"MLFLOW_RUN_ID {run_id} in {told()}", "a run that was just opened", got, do)
    return run_id


def _create(made: MlflowClient, uri: str, name: str, experiment: str, parent: str | None) -> str:
    tags = {"mlflow.source.name": "spkd", "mlflow.source.type": "LOCAL", "mlflow.user": _user()}
    try:
        if parent:
            tags["mlflow.parentRunId"] = parent
            experiment_id = made.get_run(parent).info.experiment_id
        else:
            experiment_id = store.experiment_id(made, uri, experiment)
        return str(made.create_run(experiment_id, tags=tags, run_name=name).info.run_id)
    except MlflowException as error:
        do = "see to space, permissions and the server there"
        raise Away(store.shown(uri), "a store that takes a new run", store.reason(error), do) from None


def _user() -> str:
    """Who runs this; in a container the number of a user may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def reserve(name: str, parent: Run, tags: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """(id, environment) of a new nested run that another process will write to when it gets this environment.

    Until then it is a run of this process: `clean_up` ends it where this one died first.
    """
    uri = store.absolute(store.uri())
    made = store.client(uri)
    run_id = _create(made, uri, name, "", parent.id)
    retag(run_id, {**_writer(outboxes.this_process(), parent.folder / "reserved"), **tags})
    return run_id, {"MLFLOW_RUN_ID": run_id, "MLFLOW_TRACKING_URI": uri}


def retag(run_id: str, tags: Mapping[str, Any]) -> None:
    """Change the tags of a run that no process writes to."""
    made = store.client()
    for key, text in texts(tags, TAG_LENGTH).items():
        made.set_tag(run_id, key, text)


def abandon(run_id: str, why: str) -> None:
    """Mark a reserved run FAILED whose process ended without saying so."""
    made = store.client()
    if made.get_run(run_id).info.status == "RUNNING":
        retag(run_id, {"failure": why})
        made.set_terminated(run_id, "FAILED")
