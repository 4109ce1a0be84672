import json
import logging
import os
import re
import shutil
import signal
import sqlite3
from contextlib import closing
from urllib.parse import quote

import numpy as np
import pytest
from alembic.ddl.sqlite import SQLiteImpl
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR, RESOURCE_ALREADY_EXISTS

from spkd.errors import SpkdError
from spkd.evidence import selection, tracking
from spkd.evidence.charts import plots
from spkd.evidence.outbox import Delivery, Outbox
from spkd.evidence.tracking import reading, store

OPEN = """
import sys, time
from pathlib import Path
from spkd.evidence import tracking
"""


def client():
    return store.client()


def open_run(here, name="run", **more):
    return tracking.open_run(name, here / "runs" / name, "test", **more)


def the_run(name="run"):
    (found,) = tracking.find(f"attributes.run_name = '{name}'")
    return found


def test_a_run_holds_what_was_logged_under_allowed_names(here):
    with open_run(here, tags={"kind": "teacher"}) as run:
        run.params({"train": {"epochs": 5, "lr": 0.05}, "distill": {"teachers": ["gaf:wrn16-3"], "init": None}})
        run.metrics({"train/loss": 0.5, "loss/sp/t(1)": float("nan")}, step=0)
        run.metrics({"train/loss": 0.25}, step=1)
        run.tags({"fold": 3, "headline": "validation"})
    info = the_run()
    assert info.id == run.id and info.status == "FINISHED" and info.ended_ms >= info.started_ms > 0
    assert info.params == {
        "cfg/train.epochs": "5", "cfg/train.lr": "0.05",
        "cfg/distill.teachers": "['gaf:wrn16-3']", "cfg/distill.init": "null",
    }  # fmt: skip
    assert tracking.history(run.id, "train/loss") == [(0, 0.5), (1, 0.25)]
    assert np.isnan(info.metrics["loss/sp/t_1_"])
    assert info.tags["kind"] == "teacher" and info.tags["fold"] == "3"
    assert json.loads(tracking.artifact(run.id, "settings.json").read_text())["train"]["epochs"] == 5


def test_an_infinite_number_comes_back_as_one_and_is_left_out_of_a_chart(here):
    with open_run(here) as run:
        for step, value in enumerate([1.0, float("inf"), float("-inf"), 2.0, float("inf")]):
            run.metrics({"train/loss": value}, step)
    points = tracking.history(run.id, "train/loss")
    assert points == [(0, 1.0), (1, float("inf")), (2, float("-inf")), (3, 2.0), (4, float("inf"))]
    assert the_run().metrics["train/loss"] == tracking.get(run.id).metrics["train/loss"] == float("inf")
    assert plots.lines("loss", "epoch", [plots.Series(0, "a", "A", "#112233", "", points)]) is not None


def test_artifacts_lie_in_mlruns_beside_the_database(here):
    with open_run(here) as run:
        run.text("hello", "notes/a.txt")
    path = tracking.artifact(run.id, "notes/a.txt")
    assert path.read_text() == "hello" and (here / "mlruns") in path.parents
    copy = tracking.artifact(run.id, "notes/a.txt", here / "copy")
    assert copy.read_text() == "hello" and (here / "copy") in copy.parents


def test_an_experiment_with_a_slash_in_its_name_has_one_folder_of_artifacts(here):
    with tracking.open_run("run", here / "run", "lab/walks") as run:
        run.text("hello", "a.txt")
    assert (here / "mlruns" / "lab_walks") in tracking.artifact(run.id, "a.txt").parents


def test_an_empty_address_of_a_store_is_none(here, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    with open_run(here) as run:
        pass
    assert tracking.get(run.id).status == "FINISHED" and tracking.told() == f"sqlite:///{here / 'mlflow.db'}"


def test_an_artifact_of_a_run_that_failed_is_missed_with_its_status(here):
    with pytest.raises(ValueError, match="broken"), tracking.open_run("a", here / "a", "spkd") as run:
        raise ValueError("broken")
    with pytest.raises(SpkdError, match=rf"run {run.id}: expected a finished run, with 'model/w', got FAILED; name"):
        tracking.artifact(run.id, "model/w", here / "copy")
    with tracking.open_run("b", here / "b", "spkd") as other:
        pass
    with pytest.raises(SpkdError, match="expected an artifact 'model/w', got"):
        tracking.artifact(other.id, "model/w", here / "copy")


def test_a_long_setting_is_cut_in_the_parameters_and_whole_in_the_artifact(here):
    with open_run(here) as run:
        run.params({"words": "x" * 7000})
        run.params({"just": "x" * 6000}, prefix="")
    assert the_run().params["just"] == "x" * 6000
    text = the_run().params["cfg/words"]
    assert len(text) == 6000 and text.endswith(" ...")
    assert json.loads(tracking.artifact(run.id, "settings.json").read_text()) == {"words": "x" * 7000}


def test_images_of_a_series_keep_their_key_and_step_for_the_image_grid(here):
    with open_run(here) as run:
        for step in (0, 5):
            run.image("maps/group1/student - t", np.full((8, 8, 3), 10 * step, np.uint8), step)
    names = sorted(f.path for f in client().list_artifacts(run.id, "images") if f.path.endswith(".png"))
    assert [name.split("+timestamp")[0] for name in names] == [
        "images/maps~group1~student - t+step+0", "images/maps~group1~student - t+step+5"
    ]  # fmt: skip
    assert the_run().tags["mlflow.loggedImages"] == "True"
    with pytest.raises(SpkdError, match="expected uint8"), open_run(here, "other") as other:
        other.image("maps", np.zeros((2, 2)), 0)
    with pytest.raises(SpkdError, match="expected uint8"), open_run(here, "third") as third:
        third.image("a:b", np.zeros((2, 2), np.uint8), 0)
        third.image("maps", np.zeros((1, 2, 2, 3), np.uint8), 0)
    assert {f.path.split("+")[0] for f in client().list_artifacts(third.id, "images")} == {"images/a_b"}


def test_tables_figures_files_and_arrays_are_artifacts(here):
    with open_run(here) as run:
        run.table("per_class", {"class": ["lie", "sit"], "f1": [np.float32(0.5), None]})
        run.table("more/epochs", {"epoch": [0]})
        run.figure(Figure(figsize=(1, 1)), "plots/empty.png")
        run.figure(Figure(figsize=(1, 1)), "plots/empty.svg")
        run.text("", "empty.txt")
        (here / "a.bin").write_bytes(b"123")
        run.file(here / "a.bin", "kept/b.bin")
        run.arrays({"a/b": np.arange(3)}, "maps/x.npz")
        (here / "a.bin").unlink()
    assert json.loads(tracking.artifact(run.id, "per_class.json").read_text()) == {
        "columns": ["class", "f1"], "data": [["lie", 0.5], ["sit", None]]
    }  # fmt: skip
    assert client().load_table(run.experiment_id, "per_class.json", [run.id])["class"].tolist() == ["lie", "sit"]
    assert [t["path"] for t in json.loads(the_run().tags["mlflow.loggedArtifacts"])] == [
        "per_class.json",
        "more/epochs.json",
    ]
    assert tracking.artifact(run.id, "plots/empty.png").read_bytes().startswith(b"\x89PNG")
    assert tracking.artifact(run.id, "plots/empty.svg").read_bytes().startswith(b"<?xml")
    assert tracking.artifact(run.id, "empty.txt").read_text() == ""
    assert tracking.artifact(run.id, "kept/b.bin").read_bytes() == b"123"
    with np.load(tracking.artifact(run.id, "maps/x.npz"), allow_pickle=False) as stored:
        assert stored["a/b"].tolist() == [0, 1, 2]


def test_a_table_with_a_gap_is_refused(here):
    with pytest.raises(SpkdError, match="columns of one length"), open_run(here) as run:
        run.table("t", {"a": [1, 2], "b": [1]})


def test_the_data_set_is_an_input_with_its_digest_and_profile(here):
    digest = "d" * 32 + ".dir"
    with open_run(here) as run:
        run.dataset("pamap2", digest, "data/windows/pamap2", {"n_windows": 12})
        run.dataset("pamap2", digest, "data/windows/pamap2", {"n_windows": 12})
    (found,) = client().get_run(run.id).inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest) == ("pamap2", digest)
    assert json.loads(found.dataset.profile) == {"n_windows": 12}
    assert [(t.key, t.value) for t in found.tags] == [("mlflow.data.context", "training")]
    with pytest.raises(SpkdError, match="at most 36"), open_run(here, "other") as other:
        other.dataset("pamap2", "d" * 64, "x", {})


def test_a_data_set_that_another_run_names_at_the_same_moment_is_an_input_of_both(here, monkeypatch):
    told, calls = MlflowClient.log_inputs, []

    def colliding(client, run_id, datasets):
        calls.append(run_id)
        if len(calls) == 1:
            raise MlflowException("UNIQUE constraint failed: datasets.experiment_id", BAD_REQUEST)
        told(client, run_id, datasets)

    monkeypatch.setattr(MlflowClient, "log_inputs", colliding)
    with open_run(here) as run:
        run.dataset("waves", "abc", "data/windows/waves", {})
    found = client().get_run(run.id)
    assert [i.dataset.name for i in found.inputs.dataset_inputs] == ["waves"]
    assert "tracking.refused" not in found.data.tags


def test_an_exception_ends_the_run_failed_with_one_line_of_reason(here):
    with pytest.raises(ValueError, match="not finite"), open_run(here) as run:
        run.metrics({"train/loss": 1.0}, 0)
        raise ValueError("loss not finite\nat step 7")
    info = the_run()
    assert info.status == "FAILED" and info.tags["failure"] == "ValueError: loss not finite at step 7"
    assert info.metrics == {"train/loss": 1.0}


@pytest.mark.parametrize(
    ("stop", "by"), [(KeyboardInterrupt(), "Ctrl-C"), (KeyboardInterrupt("signal SIGTERM"), "signal SIGTERM")]
)
def test_ctrl_c_ends_the_run_killed_and_says_by_what(here, stop, by):
    with pytest.raises(KeyboardInterrupt), open_run(here):
        raise stop
    assert the_run().status == "KILLED" and the_run().tags["ended"] == f"stopped by {by}"


def test_exit_zero_is_a_finished_run_and_exit_one_a_failed_one(here):
    for name, code in (("good", 0), ("bad", 1)):
        with pytest.raises(SystemExit), open_run(here, name):
            raise SystemExit(code)
    assert the_run("good").status == "FINISHED" and the_run("bad").status == "FAILED"


def test_a_nested_run_lies_in_its_parents_experiment_under_it(here):
    with open_run(here, "outer") as outer, tracking.open_run("inner", here / "inner", "elsewhere", parent=outer):
        pass
    assert the_run("inner").tags["mlflow.parentRunId"] == outer.id
    assert the_run("inner").experiment_id == the_run("outer").experiment_id == outer.experiment_id
    assert client().get_experiment_by_name("elsewhere") is None


def test_under_mlflow_run_the_opened_run_is_adopted_and_nested_runs_are_not(here, monkeypatch):
    made = client()
    given = made.create_run("0", tags={"mlflow.project.entryPoint": "distill"}, run_name="bold-cat-1").info.run_id
    made.log_param(given, "train.epochs", "'5'")
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    with open_run(here, "outer") as outer, open_run(here, "inner", parent=outer) as inner:
        outer.params({"train": {"epochs": 5}})
    assert outer.id == given and inner.id != given and "MLFLOW_RUN_ID" not in os.environ
    info = the_run("outer")
    assert info.experiment_id == "0" and client().get_experiment_by_name("test") is None
    assert info.params == {"train.epochs": "'5'", "cfg/train.epochs": "5"} and info.status == "FINISHED"
    assert the_run("inner").tags["mlflow.parentRunId"] == given


def test_a_run_that_has_ended_or_never_was_is_not_adopted_and_stays_as_it_is(here, monkeypatch):
    with open_run(here, "first") as first:
        first.metrics({"loss": 1.0}, 0)
    for given, got in ((first.id, "FINISHED"), ("f" * 32, "not found")):
        monkeypatch.setenv("MLFLOW_RUN_ID", given)
        with pytest.raises(SpkdError, match=rf"MLFLOW_RUN_ID {given} .*{got}.*unset MLFLOW_RUN_ID"):
            open_run(here, "second")
        assert tracking.sweep(here / "runs") == [] and not Outbox(here / "runs" / "second").exists()
    assert the_run("first").id == first.id and tracking.history(first.id, "loss") == [(0, 1.0)]


def killed(here, name="run"):
    with pytest.raises(KeyboardInterrupt), open_run(here, name) as run:
        run.params({"a": 1})
        run.metrics({"loss": 1.0}, 0)
        run.metrics({"loss": 0.5}, 1)
        run.image("maps/a", np.zeros((4, 4), np.uint8), 0)
        raise KeyboardInterrupt
    return run


def test_a_resumed_run_goes_on_in_the_same_run_and_logs_no_step_twice(here):
    first = killed(here)
    with open_run(here) as run:
        run.params({"a": 1})
        run.metrics({"loss": 0.75, "new": 2.0}, 1)
        run.metrics({"loss": 0.25}, 2)
        run.metrics({"loss": 9.0}, 2)
        run.image("maps/a", np.zeros((4, 4), np.uint8), 0)
    assert run.id == first.id and the_run().status == "FINISHED" and "ended" not in the_run().tags
    assert tracking.history(run.id, "loss") == [(0, 1.0), (1, 0.5), (2, 0.25)]
    assert tracking.history(run.id, "new") == [(1, 2.0)]
    assert len([f for f in client().list_artifacts(run.id, "images") if f.path.endswith("png")]) == 1


def test_a_run_goes_on_as_itself_where_a_power_cut_took_how_far_it_was_delivered(here):
    first = killed(here)
    (first.folder / "outbox" / "delivery.json").write_bytes(b"")
    tracking.sweep(here / "runs")
    with open_run(here) as run:
        run.metrics({"loss": 0.25}, 2)
    assert the_run().id == run.id == first.id and the_run().status == "FINISHED"
    assert tracking.history(run.id, "loss") == [(0, 1.0), (1, 0.5), (2, 0.25)]
    assert len([f for f in client().list_artifacts(run.id, "images") if f.path.endswith("png")]) == 1


def test_a_resumed_run_refuses_another_setting_and_records_another_machine(here):
    killed(here)
    with pytest.raises(SpkdError, match=r"cfg/a: expected '1'.* got '2'"), open_run(here) as run:
        run.params({"cpu": "old"}, prefix="env/")
        run.params({"cpu": "new"}, prefix="env/")
        run.params({"a": 2})
    info = the_run()
    assert info.params["env/cpu"] == "old" and info.tags["changed.env/cpu"] == "new"


def test_a_run_resumed_under_a_new_mlflow_run_is_replayed_into_it(here, monkeypatch):
    first = killed(here)
    given = client().create_run("0", run_name="bold-cat-1").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    with open_run(here) as run:
        run.metrics({"loss": 0.25}, 2)
    assert run.id == given != first.id
    assert tracking.history(given, "loss") == [(0, 1.0), (1, 0.5), (2, 0.25)]
    assert tracking.get(given).status == "FINISHED"
    assert tracking.get(first.id).status == "KILLED" and tracking.get(first.id).tags["continued_by"] == given


def test_a_finished_run_is_not_continued_but_done_again(here):
    with open_run(here) as first:
        first.metrics({"loss": 1.0}, 0)
    with open_run(here) as second:
        second.metrics({"loss": 2.0}, 0)
    assert first.id != second.id and tracking.history(second.id, "loss") == [(0, 2.0)]
    third = killed(here, "other")
    with open_run(here, "other", fresh=True) as fourth:
        pass
    assert third.id != fourth.id


@pytest.mark.parametrize("fresh", [False, True])
def test_a_finished_run_that_did_not_reach_the_store_is_not_written_over(here, fresh):
    with open_run(here) as run:
        run.metrics({"loss": 1.0}, 0)
    box = Outbox(run.folder)
    box.delivery = Delivery(box.delivery.uri, run.id)
    unsent = box.pending()
    with pytest.raises(SpkdError, match=f"{unsent} events to upload; spkd upload {re.escape(str(run.folder))}"):
        open_run(here, fresh=fresh)
    assert box.pending() == unsent > 0


def test_a_run_that_was_deleted_is_not_continued_but_begun_anew_with_what_it_had(here):
    first = killed(here)
    client().delete_run(first.id)
    with open_run(here) as run:
        pass
    assert run.id != first.id and tracking.history(run.id, "loss") == [(0, 1.0), (1, 0.5)]


def test_two_processes_cannot_write_one_run(here):
    with open_run(here), pytest.raises(SpkdError, match="still running"):
        open_run(here)


def test_a_fact_that_the_store_refuses_is_left_out_loudly_and_the_rest_arrives(here, capsys):
    with open_run(here) as run:
        run.params({"a": 1})
        client().log_param(run.id, "cfg/b", "other")
        run.params({"b": 2, "c": 3})
        run.metrics({"loss": 1.0}, 0)
    info = the_run()
    assert info.params == {"cfg/a": "1", "cfg/b": "other", "cfg/c": "3"} and info.metrics == {"loss": 1.0}
    assert "cfg/b" in info.tags["tracking.refused"] and info.status == "FINISHED"
    assert "refused params cfg/b" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["log_batch", "log_artifact"])
def test_a_fact_that_a_store_in_trouble_did_not_take_is_sent_again(here, monkeypatch, what):
    send, calls = getattr(MlflowClient, what), []

    def troubled(client, *words, **named):
        calls.append(words)
        if len(calls) == 1:
            raise MlflowException("database is locked", INTERNAL_ERROR)
        return send(client, *words, **named)

    monkeypatch.setattr(MlflowClient, what, troubled)
    with open_run(here) as run:
        run.metrics({"loss": 1.0}, 0)
        run.text("hello", "a.txt")
    info = the_run()
    assert info.metrics == {"loss": 1.0} and tracking.artifact(run.id, "a.txt").read_text() == "hello"
    assert "tracking.refused" not in info.tags and info.status == "FINISHED"


def test_sigterm_in_the_front_door_ends_a_run_killed(here, process):
    child = process(
        OPEN
        + """
import spkd.__main__, signal
signal.signal(signal.SIGTERM, spkd.__main__._interrupt)
with tracking.open_run("run", Path("runs/run"), "test") as run:
    print("open", flush=True)
    time.sleep(120)
"""
    )
    assert child.stdout.readline() == "open\n"
    child.send_signal(signal.SIGTERM)
    child.wait(90)
    assert the_run().status == "KILLED" and the_run().tags["ended"] == "stopped by signal SIGTERM"


def test_a_run_says_nothing_on_stdout_or_stderr(here, process):
    (here / "mlflow.db").unlink()
    child = process(
        OPEN
        + """
with tracking.open_run("run", Path("runs/run"), "test") as run:
    run.metrics({"a": 1.0}, 0)
"""
    )
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err) == (0, "", "")
    assert the_run().metrics == {"a": 1.0}


def test_six_processes_at_once_on_a_fresh_store_all_get_their_run(here, process):
    (here / "mlflow.db").unlink()
    code = (
        OPEN
        + """
name = sys.argv[1] if len(sys.argv) > 1 else None
import os
print("ready", flush=True)
while not Path("go").exists():
    time.sleep(0.005)
with tracking.open_run(os.environ["NAME"], Path("runs") / os.environ["NAME"], "test") as run:
    run.metrics({"a": 1.0}, 0)
"""
    )
    children = [process(code, NAME=f"run{k}") for k in range(6)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    (here / "go").touch()
    for child in children:
        _, err = child.communicate(timeout=120)
        assert (child.returncode, err) == (0, "")
    assert sorted(info.name for info in tracking.find()) == [f"run{k}" for k in range(6)]
    assert all(info.status == "FINISHED" and info.metrics == {"a": 1.0} for info in tracking.find())
    with closing(sqlite3.connect(here / "mlflow.db")) as connection:
        assert connection.execute("SELECT count(*) FROM experiments WHERE name = 'test'").fetchone() == (1,)


def test_a_note_longer_than_a_tag_is_whole_in_the_artifact(here):
    with open_run(here) as run:
        run.note("# title\n" + "x" * 9000)
    assert len(the_run().tags["mlflow.note.content"]) == 8000
    assert len(tracking.artifact(run.id, "description.md").read_text()) == 9008


def test_everything_delivered_is_not_pending(here):
    with open_run(here) as run:
        run.metrics({"a": 1.0}, 0)
    assert Outbox(run.folder).pending() == 0


def test_the_end_of_a_run_survives_a_power_cut(here, monkeypatch):
    synced = []
    monkeypatch.setattr(Outbox, "sync", lambda box: synced.append(box.ending()["status"]))
    with open_run(here):
        pass
    assert synced == ["FINISHED"]


def test_a_missing_run_or_artifact_is_an_error_that_names_it(here):
    with pytest.raises(SpkdError, match="run 0123"):
        reading.get("0123")
    with open_run(here) as run:
        pass
    with pytest.raises(SpkdError, match="an artifact 'model/weights.safetensors'"):
        tracking.artifact(run.id, "model/weights.safetensors")


SECRET = "http://lab:secret@127.0.0.1:9"


def test_passwords_in_an_address_are_in_no_message_and_no_run(here, monkeypatch, capsys):
    shown = store.shown
    assert shown(SECRET) == "http://127.0.0.1:9"
    assert shown("mysql+pymysql://a:b@c@db/x") == "mysql+pymysql://db/x"
    assert shown("sqlite:////tmp/a@b/mlflow.db") == "sqlite:////tmp/a@b/mlflow.db"
    assert shown(f"API request to {SECRET}/api failed, see https://x/@y") == (
        "API request to http://127.0.0.1:9/api failed, see https://x/@y"
    )
    error = MlflowException(f"API request to {SECRET}/api/2.0 failed with exception x")
    assert "secret" not in store.reason(error)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SECRET)
    with pytest.raises(SpkdError, match="a tracking server") as refused:
        tracking.find()
    assert "secret" not in str(refused.value) and "secret" not in tracking.told()


@pytest.mark.parametrize(("error", "said"), [
    (OSError(30, "Read-only file system", "/lab 1/mlruns"), "[Errno 30] Read-only file system: '/lab 1/mlruns'"),
    (MlflowException("(Caused by New('<0x7>: [Errno 111] Connection refused'))"), "[Errno 111] Connection refused"),
])  # fmt: skip
def test_a_store_that_fails_is_told_by_what_the_system_said_and_of_which_place(error, said):
    assert store.reason(error) == said


def test_no_run_is_lost_behind_the_first_page(here, monkeypatch):
    monkeypatch.setattr(reading, "PAGE", 2)
    made = [client().create_run("0").info.run_id for _ in range(5)]
    assert {run.id for run in tracking.find()} == set(made)
    assert len(tracking.find(limit=3)) == 3
    assert selection.by_id(made[0][:8]).id == made[0]


def test_the_newest_run_is_the_first(here):
    made = {start: client().create_run("0", start_time=start).info.run_id for start in (1000, 3000, 2000)}
    assert [run.id for run in tracking.find()] == [made[start] for start in (3000, 2000, 1000)]
    assert [run.id for run in tracking.find(limit=1)] == [made[3000]]


def test_finished_runs_are_found_by_tags_whatever_their_texts_hold(here):
    odd = {"test_subjects": "O'Hara 7%", "data.name": 'a "b" c', "k-1": "x = y AND z"}
    with open_run(here, tags=odd) as run:
        pass
    with open_run(here, "other", tags={**odd, "test_subjects": "O"}):
        assert [found.id for found in tracking.find(tracking.finished({"k-1": odd["k-1"]}))] == [run.id]
    assert [found.id for found in tracking.find(tracking.finished(odd))] == [run.id]
    for text in ("'\"", "ends in a \\"):
        with pytest.raises(SpkdError, match="one kind of quotation marks"):
            tracking.finished({"name": text})


@pytest.mark.parametrize(
    ("start", "named"),
    [("ffffff", "none in sqlite"), ("fffff", "the id of a run"), ("xyz", "the id of a run"), ("", "the id")],
)
def test_digits_that_are_no_run_are_an_error(here, start, named):
    with pytest.raises(SpkdError, match=named):
        selection.by_id(start)


def test_a_run_in_the_trash_is_no_run_to_name(here):
    made = client().create_run("0").info.run_id
    assert selection.by_id(made).id == selection.by_id(made[:8]).id == made
    client().delete_run(made)
    with pytest.raises(SpkdError, match=rf"one that was deleted; bring it back: mlflow runs restore --run-id {made}"):
        selection.by_id(made)
    with pytest.raises(SpkdError, match=r"none in sqlite.*; `mlflow ui` and `spkd compare` show ids"):
        selection.by_id(made[:8])


def test_digits_that_two_runs_begin_with_are_an_error(here, monkeypatch):
    two = [client().create_run("0").info.run_id for _ in range(2)]
    monkeypatch.setattr(tracking, "find", lambda query, limit: [tracking.get(run_id) for run_id in two])
    with pytest.raises(SpkdError, match="got two; give the whole id"):
        selection.by_id(two[0][:6])


@pytest.mark.parametrize("words", ["foo bar", "tags.kind = student", "kind = 'student'"])
def test_words_that_are_no_search_are_an_error_with_an_example(here, words):
    with pytest.raises(SpkdError, match=r"write it like \"tags.kind = 'student'"):
        tracking.find(words)
    assert tracking.find(reading.EXAMPLE.strip('"')) == []


def test_a_deleted_experiment_is_an_error_with_both_ways_out(here):
    experiment = client().create_experiment("test")
    client().delete_experiment(experiment)
    with pytest.raises(SpkdError, match=rf"restore --experiment-id {experiment}, or set another tracking.experiment"):
        open_run(here)
    client().restore_experiment(experiment)
    with open_run(here) as run:
        assert run.experiment_id == experiment


def test_an_experiment_that_another_command_made_at_this_moment_is_taken(here, monkeypatch):
    create = MlflowClient.create_experiment

    def late(client, name, **more):
        create(client, name, **more)
        raise MlflowException("it exists", RESOURCE_ALREADY_EXISTS)

    monkeypatch.setattr(MlflowClient, "create_experiment", late)
    with open_run(here) as run:
        assert run.experiment_id == client().get_experiment_by_name("test").experiment_id


def test_the_page_that_somebody_chose_for_an_experiment_stays(here):
    experiment = client().create_experiment("test", tags={"mlflow.experimentKind": "genai_development"})
    with open_run(here):
        pass
    assert client().get_experiment(experiment).tags["mlflow.experimentKind"] == "genai_development"


def test_a_user_without_a_name_may_train(here, monkeypatch):
    def nameless():
        raise KeyError("getpwuid(): uid not found: 4242")

    monkeypatch.setattr(tracking.getpass, "getuser", nameless)
    with open_run(here):
        pass
    assert the_run().tags["mlflow.user"] == str(os.getuid())


def test_a_new_store_elsewhere_keeps_the_artifacts_of_its_first_experiment_beside_its_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = store.client(f"sqlite:///{tmp_path}/lab/mlflow.db")
    location = made.get_experiment_by_name("Default").artifact_location
    assert location.removeprefix("file://") == f"{tmp_path}/lab/mlruns/0"


@pytest.mark.parametrize("name", ["연구 2", "a%20b"])
def test_a_store_is_one_file_however_its_address_spells_the_folder(tmp_path, name):
    """`mlflow run` names the store of this folder by an address with escapes, and spkd by none where there is no %."""
    path = tmp_path / name / "mlflow.db"
    given = f"sqlite:///{tmp_path}/{quote(name)}/mlflow.db"
    assert store.database(given) == store.database(store.absolute(given)) == path
    run_id = store.client(given).create_run("0").info.run_id
    assert store.client(store.absolute(given)).get_run(run_id).info.run_id == run_id
    assert sorted(p.name for p in path.parent.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


def test_artifacts_are_beside_a_store_that_was_moved_or_copied_with_its_folder(here, monkeypatch, capsys):
    with open_run(here) as first:
        first.text("weights", "a.txt")
    with tracking.open_run("b", here / "runs" / "b", "second") as second:
        second.text("weights", "a.txt")
    with open_run(here, "left behind") as other:  # as one that was written there after the move
        other.text("weights", "a.txt")
    for name, how in (("copied", shutil.copytree), ("moved", shutil.move)):
        folder = here.parent / f"{here.name}-{name}"
        how(here, folder)
        if name == "copied":
            shutil.rmtree(folder / f"mlruns/test/{other.id}")
        monkeypatch.chdir(folder)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        assert tracking.artifact(first.id, "a.txt") == folder / f"mlruns/test/{first.id}/artifacts/a.txt"
        assert tracking.artifact(second.id, "a.txt").is_relative_to(folder)
        home = here if name == "copied" else folder
        assert tracking.artifact(other.id, "a.txt") == home / f"mlruns/test/{other.id}/artifacts/a.txt"
        assert capsys.readouterr().err.count("mlflow.db was moved") == 1
        with open_run(folder, name) as run:
            run.text("more", "b.txt")
        assert tracking.artifact(run.id, "b.txt").is_relative_to(folder) and not capsys.readouterr().err
    assert not here.exists()


@pytest.mark.parametrize("damage", ["a text file", "cut short", "cut within its first page"])
def test_a_damaged_store_is_named_with_what_to_do_about_it(here, damage):
    whole = (here / "mlflow.db").read_bytes()
    cut = {"cut short": whole[: len(whole) // 2], "cut within its first page": whole[:1000]}
    (here / "mlflow.db").write_bytes(cut.get(damage, b"not a database\n" * 99))
    with pytest.raises(SpkdError, match=r"mlflow.db: expected MLflow's SQLite store.*restore a backup"):
        client()


@pytest.mark.parametrize("by", ["a command", "MLflow itself"])
def test_a_store_whose_making_was_cut_off_is_made_anew(here, by, monkeypatch):
    (here / "mlflow.db").unlink()
    create = SQLiteImpl.create_table

    def create_and_die(self, table, **more):
        create(self, table, **more)
        if table.name == "secrets":
            raise KeyboardInterrupt

    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr(SQLiteImpl, "create_table", create_and_die)
        client() if by == "a command" else MlflowClient("sqlite:///mlflow.db").search_experiments()
    with open_run(here) as run:
        run.metrics({"a": 1.0}, 0)
    assert the_run().metrics == {"a": 1.0} and sorted(here.glob("*.new*")) == []


def test_the_database_of_another_program_is_left_as_it_is(here):
    (here / "mlflow.db").unlink()
    with closing(sqlite3.connect(here / "mlflow.db")) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    before = (here / "mlflow.db").read_bytes()
    with pytest.raises(SpkdError, match=r"tables of another program: recipes; .*move it away"):
        client()
    assert (here / "mlflow.db").read_bytes() == before


def test_a_store_that_another_program_holds_is_not_said_to_be_damaged(here, monkeypatch):
    connect = sqlite3.connect
    monkeypatch.setattr(store.sqlite3, "connect", lambda path: connect(path, timeout=0))
    with closing(connect(here / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SpkdError, match=r"free to be read, got database is locked; wait for the program"):
            client()


@pytest.mark.parametrize("address", ["file:///tmp/mlruns", "./mlruns", "htp://lab:5000"])
def test_an_address_that_is_no_server_and_no_sqlite_file_is_an_error_in_one_line(here, monkeypatch, address):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(SpkdError, match=r"expected a tracking server, got .*unset MLFLOW_TRACKING_URI"):
        open_run(here)


def test_a_store_that_takes_no_run_says_why_in_one_line(here):
    store.client()
    with closing(sqlite3.connect(here / "mlflow.db")) as connection, connection:
        connection.execute("CREATE TRIGGER t BEFORE INSERT ON runs BEGIN SELECT RAISE(ABORT, 'no more room'); END")
    with pytest.raises(SpkdError, match=r"expected a store that takes a new run, got [^\[]*no more room; see"):
        open_run(here)


def test_the_users_of_one_folder_may_write_to_its_store_where_their_umask_lets_them(tmp_path, monkeypatch):
    monkeypatch.setattr(store.atomic, "UMASK", 0o002)
    before = os.umask(0o002)
    try:
        store.client(f"sqlite:///{tmp_path}/mlflow.db")
        box = Outbox(tmp_path / "run")
        box.append("open")
        box.close()
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "mlflow.db", box.events_path)] == [0o664, 0o664]


def test_what_the_store_says_of_a_locked_database_is_told_once_and_without_a_traceback():
    assert not logging.getLogger("mlflow.store.db.utils").isEnabledFor(logging.ERROR)  # which it raises as well
