"""Against a real `mlflow server` that is killed and started again."""

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR
from requests import Session

from spkd.errors import SpkdError
from spkd.evidence import tracking
from spkd.evidence.outbox import Delivery, Outbox
from spkd.evidence.tracking import delivery, facts, store


@pytest.fixture
def remote(server, here, monkeypatch):
    """The working folder, with the server as the tracking URI."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    return here


def everything(run):
    """One fact of each kind."""
    run.params({"train": {"epochs": 5}})
    run.metrics({"loss": 1.0}, 0)
    run.tags({"kind": "teacher"})
    run.image("maps/a", np.zeros((4, 4, 3), np.uint8), 0)
    run.table("per_class", {"class": ["lie"]})
    run.dataset("pamap2", "d" * 36, "data/windows/pamap2", {"n": 1})
    weights = run.folder / "weights.safetensors"
    weights.write_bytes(b"weights")
    run.model(weights, "net/a:b", "pamap2-net", {"sha256": "f00"})
    run.note("# a run")


def counted(run_id):
    """How many facts of each kind the store holds of a run."""
    made = store.client()
    run = made.get_run(run_id)
    return {
        "loss": len(made.get_metric_history(run_id, "loss")),
        "images": len(made.list_artifacts(run_id, "images")),
        "inputs": len(run.inputs.dataset_inputs),
        "outputs": len(run.outputs.model_outputs),
        "models": len(made.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")),
        "versions": len(made.search_model_versions(f"run_id = '{run_id}'")),
        "params": run.data.params,
        "status": run.info.status,
    }


ONCE = {
    "loss": 1, "images": 2, "inputs": 1, "outputs": 1, "models": 1, "versions": 1,
    "params": {"cfg/train.epochs": "5"}, "status": "FINISHED",
}  # fmt: skip


def test_a_server_holds_the_same_as_a_file_and_a_second_delivery_changes_nothing(remote):
    with tracking.open_run("run", remote / "runs" / "run", "test") as run:
        everything(run)
    assert counted(run.id) == ONCE
    assert tracking.artifact(run.id, "model/weights.safetensors").read_bytes() == b"weights"
    assert tracking.registered("pamap2-net") == run.id
    for box in (Outbox(run.folder),):
        box.delivery = Delivery(box.delivery.uri, run.id)
        assert box.pending() > 8
        assert tracking.upload(run.folder) > 8
    assert counted(run.id) == ONCE


def test_a_server_that_vanishes_costs_no_fact_and_no_waiting(remote, server, capsys, monkeypatch):
    run = tracking.open_run("vanished", remote / "runs" / "vanished", "test")
    run.metrics({"loss": 1.0}, 0)
    until = time.monotonic() + 20
    while Outbox(run.folder).pending() and time.monotonic() < until:
        time.sleep(0.05)
    server.kill()
    asking, send = [], Session.send
    with monkeypatch.context() as patched:
        patched.setattr(Session, "send", lambda *a, **k: asking.append(threading.current_thread()) or send(*a, **k))
        for step in range(1, 200):
            run.metrics({"loss": 1.0 / step}, step)
        run.text("kept", "note.txt")
        assert Outbox(run.folder).pending() == 200
        until = time.monotonic() + 20
        while not asking and time.monotonic() < until:
            time.sleep(0.05)
    assert asking and threading.main_thread() not in asking  # training never waits for a server
    with pytest.raises(SpkdError, match="a tracking server"):
        tracking.find()
    run.close(patience_s=3.0)
    said = capsys.readouterr().err
    assert said.count(f"spkd upload {run.folder}") == 2 and "Connection refused" in said
    with pytest.raises(SpkdError, match="a tracking server"):
        tracking.upload(run.folder)
    server.start()
    assert tracking.get(run.id).status == "RUNNING"
    assert tracking.upload(run.folder) > 0
    assert [step for step, _ in tracking.history(run.id, "loss")] == list(range(200))
    assert tracking.artifact(run.id, "note.txt").read_text() == "kept"
    assert tracking.get(run.id).status == "FINISHED"
    assert tracking.upload(run.folder) == 0


def test_a_delivery_cut_off_at_any_event_and_done_again_leaves_every_fact_once(here):
    with tracking.open_run("run", here / "runs" / "run", "test") as run:
        everything(run)
    box = Outbox(run.folder)
    made = store.client()
    ends = [end for end, _ in box.read()]
    for sent in [0, *ends]:
        box.delivery = Delivery(box.delivery.uri, run.id, sent)
        delivery.deliver(box, made)
        assert counted(run.id) == ONCE, f"after byte {sent}"
    listed = json.loads(made.get_run(run.id).data.tags["mlflow.loggedArtifacts"])
    assert listed == [{"path": "per_class.json", "type": "table"}]


@pytest.mark.parametrize("file", [".png", ".webp"])
def test_an_image_that_a_kill_cut_off_at_a_file_is_made_whole_by_the_next_delivery(here, monkeypatch, file):
    with tracking.open_run("run", here / "runs" / "run", "test") as run:
        run.image("maps/a", np.zeros((4, 4, 3), np.uint8), 0)
    box, made = Outbox(run.folder), store.client()
    images = Path(tracking.artifact(run.id, "images"))
    whole = {path.name: path.read_bytes() for path in images.iterdir()}
    box.delivery = Delivery(box.delivery.uri, run.id)
    (cut,) = (name for name in whole if name.endswith(file))
    (images / cut).write_bytes(b"half")
    if file == ".png":  # is written first
        next(images.glob("*.webp")).unlink()
    delivery.deliver(box, made)
    assert {path.name: path.read_bytes() for path in images.iterdir()} == whole


def test_files_that_a_power_cut_took_are_left_out_by_name_and_hold_up_nothing(here, capsys):
    box = Outbox(here / "runs" / "run")
    with tracking.open_run("run", box.folder, "test") as run:
        everything(run)
        run.image("maps/b", np.zeros((4, 4), np.uint8), 0)
    kept = [event["kept"] for _, event in box.read() if event["kind"] == "image"]
    (model,) = (event["kept"] for _, event in box.read() if event["kind"] == "model")
    (table,) = (event["kept"] for _, event in box.read() if event.get("table"))
    box.path_of(kept[0]).write_bytes(b"")
    box.path_of(kept[1]).write_bytes(bytes(200))
    (box.path_of(model) / "weights.safetensors").write_bytes(b"")
    box.path_of(table).unlink()
    made = store.client()
    other = made.create_run(made.get_run(run.id).info.experiment_id).info.run_id
    box.delivery = Delivery(box.delivery.uri, other)
    delivery.deliver(box, made)
    assert box.pending() == 0
    named = [*("image maps~a", "image maps~b", "file per_class.json", "model net")]
    said = [line for line in capsys.readouterr().err.splitlines() if "gone or empty, as after a power cut" in line]
    assert [any(name.replace("~", "/") in line for line in said) for name in named] == [True] * 4 and len(said) == 4
    found = counted(other)
    assert {name: found[name] for name in ("loss", "images", "inputs", "models", "status")} == {
        "loss": 1, "images": 0, "inputs": 1, "models": 0, "status": "FINISHED"
    }  # fmt: skip
    assert "model net" in made.get_run(other).data.tags["tracking.refused"]


def test_a_model_whose_files_did_not_arrive_is_finished_by_the_next_delivery(here, monkeypatch):
    send, calls = MlflowClient.log_model_artifacts, []

    def troubled(client, *words):
        calls.append(words)
        if len(calls) == 1:
            raise MlflowException("no answer", INTERNAL_ERROR)
        send(client, *words)

    monkeypatch.setattr(MlflowClient, "log_model_artifacts", troubled)
    with tracking.open_run("run", here / "runs" / "run", "test") as run:
        everything(run)
    assert len(calls) == 2 and counted(run.id) == ONCE
    (model,) = store.client().search_logged_models([run.experiment_id])
    assert model.status == "READY"


def test_what_is_written_while_the_last_delivery_ends_arrives_too(here, monkeypatch):
    deliver, calls = delivery.deliver, []

    def slow(outbox, made):
        calls.append(deliver(outbox, made))
        if len(calls) == 1:
            outbox.append("tags", values={"late": "yes"})
            sender._stop.set()

    monkeypatch.setattr(delivery, "deliver", slow)
    box, made = Outbox(here / "runs" / "run"), store.client()
    box.append("tags", values={"early": "yes"})
    box.delivery = Delivery(store.uri(), made.create_run("0").info.run_id)
    sender = delivery.Sender(box, made)
    sender._done.wait(20)
    assert sender.close(5) and box.pending() == 0


def test_senders_side_by_side_look_as_often_together_as_one_alone(here, monkeypatch):
    class Hurry(threading.Event):
        """Remembers how long it was asked to wait, and waits a moment."""

        asked = None

        def wait(self, timeout=None):
            self.asked = timeout
            return super().wait(0.001)

    def pauses(senders, expected):
        """Between two looks of each, as soon as they are what is expected, or after ten seconds."""
        until = time.monotonic() + 10
        while {s._hurry.asked for s in senders} != {expected} and time.monotonic() < until:
            time.sleep(0.001)
        return [s._hurry.asked for s in senders]

    monkeypatch.setattr(delivery, "deliver", lambda outbox, made: 0)
    monkeypatch.setattr(delivery.Sender, "open_ones", set())
    senders = [delivery.Sender(Outbox(here / f"{k}"), None) for k in range(3)]
    for sender in senders:
        first, sender._hurry = sender._hurry, Hurry()
        first.set()
    assert pauses(senders, 3 * delivery.PAUSE_S) == [3 * delivery.PAUSE_S] * 3
    senders.pop().close(5)
    assert pauses(senders, 2 * delivery.PAUSE_S) == [2 * delivery.PAUSE_S] * 2
    for sender in senders:
        sender.close(5)
    assert delivery.Sender.open_ones == set()


def test_more_refusals_than_a_tag_holds_stop_no_delivery(here):
    made = store.client()
    state = Delivery(store.uri(), made.create_run("0").info.run_id, 0, ["x" * 9000])
    facts._refused(made, state, "one more")
    assert len(made.get_run(state.run_id).data.tags["tracking.refused"]) == 5000


def test_small_facts_travel_in_batches(here):
    box = Outbox(here / "run")
    for step in range(450):
        box.append("metrics", values={"a": 1.0, "b": 2.0}, step=step)
    box.append("file", artifact="a.txt", kept="a")
    box.append("tags", values={"x": "y"})
    box.close()
    groups = [[event["kind"] for event in group] for _, group in delivery._groups(box, 0)]
    assert [(len(g), g[-1]) for g in groups] == [
        (200, "metrics"), (200, "metrics"), (50, "metrics"), (1, "file"), (1, "tags")
    ]  # fmt: skip


def test_more_facts_than_one_call_takes_all_arrive(here, monkeypatch):
    monkeypatch.setattr(facts, "MAX_METRICS", 3)
    monkeypatch.setattr(facts, "MAX_OTHERS", 2)
    send, sizes = MlflowClient.log_batch, {"metrics": [], "params": [], "tags": []}

    def counted(client, run_id, **facts):
        for kind, entities in facts.items():
            sizes[kind].append(len(entities))
        send(client, run_id, **facts)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    made = store.client()
    box = Outbox(here / "run")
    metrics = {f"m{k}": float(k) for k in range(10)}
    params, tags = {f"p{k}": str(k) for k in range(7)}, {f"t{k}": str(k) for k in range(5)}
    box.append("metrics", values=metrics, step=0)
    box.append("params", values=params)
    box.append("tags", values=tags)
    box.close()
    box.delivery = Delivery(store.uri(), made.create_run("0").info.run_id)
    assert delivery.deliver(box, made) == 3
    found = made.get_run(box.delivery.run_id).data
    assert (found.metrics, found.params) == (metrics, params)
    assert {key: text for key, text in found.tags.items() if not key.startswith("mlflow.")} == tags
    assert sizes == {"metrics": [3, 3, 3, 1], "params": [2, 2, 2, 1], "tags": [2, 2, 1]}


def test_no_server_at_the_start_is_an_error_with_the_remedy(here, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(SpkdError, match="unset MLFLOW_TRACKING_URI"):
        tracking.open_run("run", here / "runs" / "run", "test")


@pytest.mark.parametrize("own", [True, False])
def test_a_full_disk_of_the_local_copy_is_not_said_to_be_the_stores(here, monkeypatch, capsys, own):
    """A copy into the store's folder names both files; the disk of the second one is full."""
    folder = here / "runs" / "run"

    def full(outbox, made):
        names = (str(folder / "outbox/delivery.json"),) if own else (str(folder / "kept"), None, str(here / "mlruns/a"))
        raise OSError(28, "No space left on device", *names)

    monkeypatch.setattr(delivery, "deliver", full)
    sender = delivery.Sender(Outbox(folder), store.client())
    sender.close(patience_s=0.2)
    said = capsys.readouterr().err
    assert ("tracking at" in said) is not own
    assert (f"the run's local copy fails ({folder}/outbox/delivery.json: No space left" in said) is own


def test_an_outage_is_said_once_and_the_next_one_again(here, monkeypatch, capsys):
    answers = iter([*["gone"] * 3, "there", *["gone"] * 3])
    told = threading.Event()

    def deliver(outbox, made):
        answer = next(answers, None)
        if answer is None:
            told.set()
        if answer == "gone":
            raise ConnectionError("no answer")

    monkeypatch.setattr(delivery, "deliver", deliver)
    monkeypatch.setattr(delivery, "PAUSE_S", 0.001)
    sender = delivery.Sender(Outbox(here / "runs" / "run"), store.client())
    assert told.wait(20) and sender.close(patience_s=20)
    assert capsys.readouterr().err.count("fails (no answer)") == 2
