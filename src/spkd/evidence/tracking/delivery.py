"""Delivers an outbox to MLflow: in batches, in order, and so that delivering twice changes nothing.

Contract: `deliver` stops at the first fact that the store could not be asked about (and raises that error); what the
store refused for good is left out, counted and written down in the run. The `Sender` does this from a thread, so that
training never waits for a network.
"""

import json
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.tracking.multimedia import compress_image_size
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_IMAGES

from spkd.errors import SpkdError
from spkd.evidence.outbox import Delivery, Outbox
from spkd.evidence.tracking.store import client, database, is_refusal, reason, shown

BATCH_EVENTS = 200
MAX_METRICS, MAX_OTHERS = 1000, 100
PAUSE_S, LONGEST_WAIT_S = 1.0, 30.0
SMALL = ("params", "metrics", "tags")


def deliver(outbox: Outbox, made: MlflowClient) -> int:
    """Send everything that has not arrived; returns how many events were sent. Raises what the store raised."""
    state, total = outbox.delivery, 0
    for end, group in _groups(outbox, state.sent):
        if group[0]["kind"] in SMALL:
            _send_small(made, state, group)
        else:
            _send_one(made, outbox, state, group[0])
        state.sent, total = end, total + len(group)
        outbox.delivery = state
    return total


def _groups(outbox: Outbox, start: int) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """(offset behind, events): runs of small facts together, every other event alone."""
    group: list[dict[str, Any]] = []
    end = start
    for after, event in outbox.read(start):
        if group and (event["kind"] not in SMALL or len(group) == BATCH_EVENTS):
            yield end, group
            group = []
        end = after
        if event["kind"] in SMALL:
            group.append(event)
        else:
            yield end, [event]
    if group:
        yield end, group


def _send_small(made: MlflowClient, state: Delivery, group: list[dict[str, Any]]) -> None:
    metrics, params, tags = [], {}, {}
    for event in group:
        if event["kind"] == "metrics":
            metrics += [Metric(k, v, event["time_ms"], event["step"]) for k, v in event["values"].items()]
        elif event["kind"] == "params":
            params.update({k: Param(k, v) for k, v in event["values"].items()})
        else:
            tags.update({k: RunTag(k, v) for k, v in event["values"].items()})
    facts: dict[str, list[Any]] = {"metrics": metrics, "params": list(params.values()), "tags": list(tags.values())}
    for kind, entities in facts.items():
        size = MAX_METRICS if kind == "metrics" else MAX_OTHERS
        for first in range(0, len(entities), size):
            _send_batch(made, state, kind, entities[first : first + size])


def _send_batch(made: MlflowClient, state: Delivery, kind: str, entities: list[Any]) -> None:
    """One call for all; where the store refuses, one call each, so that only the refused fact is missing."""
    try:
        facts: dict[str, Any] = {kind: entities}
        made.log_batch(state.run_id, **facts)
    except MlflowException as error:
        if not is_refusal(error):
            raise
        if len(entities) > 1:
            for entity in entities:
                _send_batch(made, state, kind, [entity])
        else:
            _refused(made, state, f"{kind} {entities[0].key}: {reason(error)}")


def _refused(made: MlflowClient, state: Delivery, message: str) -> None:
    _left_out(made, state, message, "the tracking server refused")


def _left_out(made: MlflowClient, state: Delivery, message: str, why: str = "not delivered:") -> None:
    print(f"spkd: {why} {message}", file=sys.stderr)
    state.refused.append(message)
    made.set_tag(state.run_id, "tracking.refused", "; ".join(state.refused)[:5000])


def _send_one(made: MlflowClient, outbox: Outbox, state: Delivery, event: dict[str, Any]) -> None:
    if not outbox.holds(event):
        what = event.get("artifact") or event.get("key") or event.get("name")
        _left_out(made, state, f"{event['kind']} {what}: its local copy is gone or empty, as after a power cut")
        return
    senders = {"file": _file, "image": _image, "dataset": _dataset, "model": _model, "open": _open, "end": _end}
    try:
        senders[event["kind"]](made, outbox, state, event)
    except MlflowException as error:
        if not is_refusal(error):
            raise
        _refused(made, state, f"{event['kind']}: {reason(error)}")


def _file(made: MlflowClient, outbox: Outbox, state: Delivery, event: dict[str, Any]) -> None:
    with _named(outbox, event["kept"], Path(event["artifact"]).name) as path:
        folder = Path(event["artifact"]).parent.as_posix()
        made.log_artifact(state.run_id, str(path), None if folder == "." else folder)
    if event.get("table"):
        tag = made.get_run(state.run_id).data.tags.get("mlflow.loggedArtifacts", "[]")
        entry = {"path": event["artifact"], "type": "table"}
        listed = json.loads(tag)
        if entry not in listed:
            made.set_tag(state.run_id, "mlflow.loggedArtifacts", json.dumps([*listed, entry]))


@contextmanager
def _named(outbox: Outbox, kept: str, name: str) -> Iterator[Path]:
    """The kept file under the name that it shall have in the store."""
    stage = outbox.root / "stage" / kept
    stage.mkdir(parents=True, exist_ok=True)
    path = stage / name
    path.unlink(missing_ok=True)
    path.hardlink_to(outbox.path_of(kept))
    yield path
    path.unlink()
    stage.rmdir()


def _image(made: MlflowClient, outbox: Outbox, state: Delivery, event: dict[str, Any]) -> None:
    """What log_image writes, but under names that are the same each time: a delivery cut off between is made whole."""
    from PIL import Image

    place = f"{event['key'].replace('/', '~')}+step+{event['step']}+timestamp+{event['time_ms']}"
    name = f"{place}+{uuid.uuid5(uuid.NAMESPACE_OID, event['kept'])}"
    pixels = Image.fromarray(np.load(outbox.path_of(event["kept"]), allow_pickle=False))
    with tempfile.TemporaryDirectory() as folder:
        for image, file in ((pixels, f"{name}.png"), (compress_image_size(pixels), f"{name}+compressed.webp")):
            image.save(Path(folder, file))
            made.log_artifact(state.run_id, str(Path(folder, file)), "images")
    made.set_tag(state.run_id, MLFLOW_LOGGED_IMAGES, True)


def _dataset(made: MlflowClient, outbox: Outbox, state: Delivery, event: dict[str, Any]) -> None:
    source = json.dumps({"uri": event["source"]})
    data = Dataset(event["name"], event["digest"], "local", source, None, json.dumps(event["profile"]))
    inputs = [DatasetInput(data, [InputTag("mlflow.data.context", "training")])]
    try:
        made.log_inputs(state.run_id, inputs)
    except MlflowException as error:
        if not is_refusal(error):
            raise
        # Two runs that name a new data set at the same moment both enter it, and MLflow refuses one: now it is there.
        made.log_inputs(state.run_id, inputs)


def _model(made: MlflowClient, outbox: Outbox, state: Delivery, event: dict[str, Any]) -> None:
    folder = outbox.path_of(event["kept"])
    made.log_artifact(state.run_id, str(folder / event["file"]), "model")
    model_id = _logged_model(made, state.run_id, folder, event)
    if event["registered_name"]:
        _register(made, state.run_id, model_id, event)


def _logged_model(made: MlflowClient, run_id: str, folder: Path, event: dict[str, Any]) -> str:
    """The id of the run's logged model of that name, made unless an earlier delivery made it."""
    experiment = made.get_run(run_id).info.experiment_id
    query = f"source_run_id = '{run_id}' AND name = '{event['name']}'"
    found = made.search_logged_models([experiment], query)
    model = found[0] if found else made.create_logged_model(
        experiment, event["name"], run_id, tags=event["tags"], model_type="weights"
    )  # fmt: skip
    if model.status != LoggedModelStatus.READY:
        made.log_model_artifacts(model.model_id, str(folder))
        made.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        made.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return str(model.model_id)


def _register(made: MlflowClient, run_id: str, model_id: str, event: dict[str, Any]) -> None:
    name = event["registered_name"]
    try:
        made.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    versions = made.search_model_versions(f"name = '{name}' AND run_id = '{run_id}'")
    if not versions:
        made.create_model_version(
            name, f"models:/{model_id}", run_id, tags=event["tags"], model_id=model_id, await_creation_for=0
        )


def _open(made: MlflowClient, outbox: Outbox, state: Delivery, event: dict[str, Any]) -> None:
    """Also after an earlier end: what was said about that end is not true any more."""
    made.update_run(state.run_id, status="RUNNING", name=event["name"])
    for key in {"failure", "ended"} & set(made.get_run(state.run_id).data.tags):
        made.delete_tag(state.run_id, key)
    for key, value in event["tags"].items():
        made.set_tag(state.run_id, key, value)


def _end(made: MlflowClient, outbox: Outbox, state: Delivery, event: dict[str, Any]) -> None:
    made.set_terminated(state.run_id, event["status"], event["time_ms"])


class Sender:
    """Delivers one outbox from a thread until closed. Retries wait longer and longer.

    It looks every PAUSE_S, each of n in a process every n PAUSE_S: runs side by side cost the processor what one costs.
    """

    open_ones: ClassVar[set["Sender"]] = set()

    def __init__(self, outbox: Outbox, made: MlflowClient) -> None:
        self.outbox, self.made = outbox, made
        self.failing_since: float | None = None
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._done = threading.Event()
        self._given_up = False
        self.open_ones.add(self)
        self._thread = threading.Thread(target=self._work, name="spkd-sender", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        wait_s = PAUSE_S
        while not self._given_up:
            self._hurry.wait(wait_s)
            stopping = self._stop.is_set()
            self._hurry.clear()
            try:
                deliver(self.outbox, self.made)
                self.failing_since, wait_s = None, PAUSE_S * max(1, len(self.open_ones))
                if stopping:
                    break
            except Exception as error:  # whatever a store raises must not end the thread
                self._report(error)
                wait_s = 1.0 if stopping else min(2 * wait_s, LONGEST_WAIT_S)
        self._done.set()

    def _report(self, error: Exception) -> None:
        if self.failing_since is not None:
            return
        self.failing_since = time.monotonic()
        place = getattr(error, "filename2", None) or getattr(error, "filename", None)  # of a copy: where it goes
        if isinstance(error, OSError) and str(place).startswith(str(self.outbox.folder)):
            what = (
                f"the run's local copy fails ({place}: {error.strerror or error}); see to space and permissions there"
            )
        else:
            what = (
                f"tracking at {shown(self.outbox.delivery.uri)} fails ({reason(error)}); the run goes on and keeps a "
                f"local copy; if it stays away: spkd upload {self.outbox.folder}"
            )
        print(f"spkd: {what}", file=sys.stderr)

    def close(self, patience_s: float) -> bool:
        """Deliver the rest; True if all arrived. Gives up when nothing was delivered for patience_s."""
        self.open_ones.discard(self)
        self._stop.set()
        self._hurry.set()
        sent, since = self.outbox.delivery.sent, time.monotonic()
        while not self._done.wait(0.1):
            now = self.outbox.delivery.sent
            if now != sent:
                sent, since = now, time.monotonic()
            if time.monotonic() - since > patience_s:
                self._given_up = True
                return False
        return True


def finish(outbox: Outbox) -> int:
    """Deliver what an ended or dead process left; returns how many events. Raises SpkdError if the store is away."""
    uri = outbox.delivery.uri
    path = database(uri)
    if path is not None and not path.is_file():
        do = "restore it, set MLFLOW_TRACKING_URI to upload elsewhere, or delete the folder"
        raise SpkdError(outbox.folder, f"the run's store {path}", "no such file", do)
    return deliver(outbox, client(uri))
