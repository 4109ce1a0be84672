"""How each kind of fact is told to MLflow, so that telling it twice changes nothing.

Contract: raises what the store raised where it could not be asked; what it refused for good is left out, counted in the
delivery and written down in the run.
"""

import json
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, LoggedModelStatus, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking.multimedia import compress_image_size
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_IMAGES

from spkd.evidence.outbox import Delivery, Outbox
from spkd.evidence.tracking.store import is_refusal, reason

MAX_METRICS, MAX_OTHERS = 1000, 100


def send_small(made: MlflowClient, state: Delivery, group: list[dict[str, Any]]) -> None:
    """Params, metrics and tags of many events, by few calls."""
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


def send_one(made: MlflowClient, outbox: Outbox, state: Delivery, event: dict[str, Any]) -> None:
    """One event of any other kind, with the file behind it."""
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
