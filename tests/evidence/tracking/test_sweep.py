import os
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from spkd.cli import clean_up, upload
from spkd.errors import SpkdError
from spkd.evidence import tracking
from spkd.evidence.outbox import Delivery, Outbox, this_process
from spkd.evidence.tracking import delivery, store

RUN = """
import time
from pathlib import Path
from spkd.evidence import tracking
run = tracking.open_run("run", Path("runs/run"), "test")
for step in range(5):
    run.metrics({"loss": 1.0 / (step + 1)}, step)
print(run.id, flush=True)
time.sleep(60)
"""


def test_a_run_killed_by_sigkill_is_marked_and_delivered_by_the_next_command(here, process):
    child = process(RUN)
    run_id = child.stdout.readline().strip()
    assert tracking.sweep(here / "runs") == []  # still alive: left alone
    child.kill()
    child.wait()
    assert tracking.sweep(here / "runs") == [here / "runs" / "run"]
    info = tracking.get(run_id)
    assert info.status == "KILLED" and info.tags["ended"].endswith("died without a word")
    assert tracking.history(run_id, "loss") == [(step, 1.0 / (step + 1)) for step in range(5)]
    assert tracking.sweep(here / "runs") == []
    gap_s = 0.3
    time.sleep(gap_s)
    with tracking.open_run("run", here / "runs" / "run", "test") as again:
        again.metrics({"loss": 0.1}, 5)
    assert again.id == run_id and tracking.get(run_id).status == "FINISHED"
    found = tracking.get(run_id)
    paused_s, took_s = float(found.tags["paused_s"]), (found.ended_ms - found.started_ms) / 1000
    assert gap_s <= paused_s <= took_s  # the sweep in between ends no pause


def dead_outbox(here, uri, run_id=""):
    """The local copy of a run whose process died before anything was delivered."""
    box = Outbox(here / "runs" / "dead")
    gone = {**this_process(), "started_s": 1.0, "since_boot": ""}
    box.append("open", name="dead", experiment="test", process=gone, tags={})
    box.append("metrics", values={"loss": 0.5}, step=0)
    box.close()
    state = box.delivery
    state.uri, state.run_id = uri, run_id
    box.delivery = state
    return box


def test_an_upload_to_a_store_that_takes_nothing_says_so_in_one_line_and_is_done_by_the_next(here, monkeypatch):
    """A SQLite store that another program writes to may still be read, and a server may go away in the middle."""
    run_id = store.client().create_run("0").info.run_id
    box = dead_outbox(here, store.absolute(store.uri()), run_id)

    def refuse(*words, **facts):
        raise MlflowException("database is locked", error_code=TEMPORARILY_UNAVAILABLE)

    with monkeypatch.context() as locked:
        locked.setattr(MlflowClient, "log_batch", refuse)
        with pytest.raises(tracking.Away, match="a store that takes a run's facts, got database is locked; the same"):
            tracking.upload(box.folder)
    assert tracking.upload(box.folder) > 0
    assert tracking.history(run_id, "loss") == [(0, 0.5)]


@pytest.mark.parametrize(("method", "ask"), [
    ("get_metric_history", lambda: tracking.history("f" * 32, "loss")),
    ("get_run", lambda: tracking.get("f" * 32)), ("get_run", lambda: tracking.inputs("f" * 32)),
    ("list_artifacts", lambda: tracking.listing("f" * 32)), ("search_model_versions", lambda: tracking.registered("x")),
    ("search_runs", tracking.find), ("set_tag", lambda: tracking.adopt(["f" * 32], "e" * 32)),
])  # fmt: skip
def test_a_store_that_goes_away_between_two_questions_is_said_to_be_away(here, monkeypatch, method, ask):
    def vanish(*words, **facts):
        raise MlflowException("database is locked", error_code=TEMPORARILY_UNAVAILABLE)

    monkeypatch.setattr(MlflowClient, method, vanish)
    with pytest.raises(tracking.Away, match="expected an answer, got database is locked; try again when it is back"):
        ask()


def test_a_sweep_goes_on_when_the_store_is_gone_and_says_how_to_upload(here, capsys):
    dead_outbox(here, "http://127.0.0.1:9", "f" * 32)
    assert tracking.sweep(here / "runs") == [here / "runs" / "dead"]
    assert f"spkd upload {here / 'runs' / 'dead'}" in capsys.readouterr().err
    assert Outbox(here / "runs" / "dead").ending()["status"] == "KILLED"


@pytest.mark.parametrize(
    ("end", "database", "left"),
    [("FINISHED", "mlflow.db", True), ("FINISHED", "other.db", False), ("", "mlflow.db", False)],
)
def test_a_finished_runs_rest_is_left_to_the_command_that_goes_on_with_it_in_the_same_store(
    here, monkeypatch, end, database, left
):
    box = dead_outbox(here, store.absolute(store.uri()), store.client().create_run("0").info.run_id)
    if end:
        box.append("end", status=end)
        box.close()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{here / database}")
    assert tracking.sweep(here / "runs", but=box.folder) == ([] if left else [box.folder])
    assert (box.pending() > 0) is left
    assert tracking.sweep(here / "runs") == ([box.folder] if left else []) and box.pending() == 0


def test_a_local_copy_can_be_uploaded_to_another_store(here, monkeypatch):
    box = dead_outbox(here, "http://lab:secret@127.0.0.1:9", "f" * 32)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{here / 'mlflow.db'}")
    assert tracking.upload(box.folder) == 4
    (info,) = tracking.find()
    assert info.name == "dead" and info.status == "KILLED" and info.metrics == {"loss": 0.5}
    assert info.ended_ms == box.ending()["time_ms"]
    (loss,) = store.client().get_metric_history(info.id, "loss")
    assert loss.timestamp == next(event["time_ms"] for _, event in box.read() if event["kind"] == "metrics")
    assert info.tags["uploaded_from"] == f"http://127.0.0.1:9 {'f' * 32}"
    assert tracking.upload(box.folder) == 0 and len(tracking.find()) == 1


def test_the_events_of_all_runs_below_a_folder_are_counted(here):
    uri = store.absolute(store.uri())
    for name in ("one", "other"):
        dead_outbox(here, uri, store.client().create_run("0").info.run_id).folder.rename(here / "runs" / name)
    assert tracking.upload(here / "runs") == 8


@pytest.mark.parametrize(("kind", "status", "stays"), [
    ("student", "FINISHED", False), ("teacher", "FINISHED", False), ("scratch", "KILLED", True),
    ("detect", "FINISHED", True),  # whose weights serve until the same command trains anew
])  # fmt: skip
@pytest.mark.parametrize("by", ["upload", "sweep", "a later sweep"])
def test_the_folder_of_a_finished_training_goes_with_its_late_upload(here, kind, status, stays, by):
    run_id = store.client().create_run("0").info.run_id
    box = Outbox(here / "runs" / "late")
    box.append(
        "open",
        name="late",
        experiment="Default",
        process={**this_process(), "started_s": 1.0, "since_boot": ""},
        tags={"kind": kind},
    )
    box.append("end", status=status)
    box.close()
    box.delivery = Delivery(store.absolute(store.uri()), run_id)
    (box.folder / "checkpoint.safetensors").write_bytes(b"weights")
    if by == "a later sweep":  # the process was killed between the upload and the folder's end
        delivery.finish(box)
    if by == "upload":
        assert tracking.upload(box.folder) == 2
    else:
        assert tracking.sweep(here / "runs") == ([box.folder] if by == "sweep" else [])
    assert box.folder.exists() is stays
    assert [path.name for path in (here / "runs").iterdir()] == (["late"] if stays else [])
    assert tracking.get(run_id).status == status


def test_a_run_that_another_command_is_at_is_left_to_it(here):
    box = dead_outbox(here, "http://127.0.0.1:9", "f" * 32)
    held = box.lock()
    held.acquire()
    release = threading.Timer(1.0, held.release)
    release.start()
    assert tracking.sweep(here / "runs") == []
    release.join()


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError])
def test_a_folder_that_another_command_removed_or_another_user_owns_stops_no_sweep(here, monkeypatch, error):
    def gone(box):
        raise error(box.events_path)

    dead_outbox(here, "http://127.0.0.1:9", "f" * 32)
    monkeypatch.setattr(Outbox, "opened", gone)
    assert tracking.sweep(here / "runs") == []


def test_a_folder_that_another_command_deletes_while_runs_are_looked_for_is_passed_over(here, monkeypatch):
    box, going, scandir = dead_outbox(here, "http://127.0.0.1:9", "f" * 32), here / "runs" / "going", os.scandir
    going.mkdir()

    def deleted_meanwhile(path):
        if str(path) == str(going):
            going.rmdir()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deleted_meanwhile)
    assert tracking.sweep(here / "runs") == [box.folder]


def test_what_a_process_was_killed_deleting_is_deleted_by_the_next_command(here):
    (here / "runs" / "tables" / ".done.1.gone" / "answers").mkdir(parents=True)
    tracking.sweep(here / "runs")
    assert not list((here / "runs" / "tables").iterdir())


def test_the_rest_of_an_ended_run_is_left_to_its_process_while_it_lives(here):
    box = Outbox(here / "runs" / "ending")
    box.append("open", name="ending", experiment="test", process=this_process(), tags={})
    box.append("end", status="FINISHED")
    box.close()
    box.delivery = Delivery(store.absolute(store.uri()), store.client().create_run("0").info.run_id)
    assert tracking.sweep(here / "runs") == [] and box.pending() == 2


def test_a_folder_that_is_forgotten_is_gone_at_once_for_who_looks(here, monkeypatch):
    (here / "runs" / "run").mkdir(parents=True)
    monkeypatch.setattr(shutil, "rmtree", lambda folder, **more: None)
    tracking.forget(here / "runs" / "run")
    assert not (here / "runs" / "run").exists()


def test_a_run_says_where_its_local_copy_is_to_a_command_in_another_folder(here):
    with tracking.open_run("run", Path("runs/run"), "test") as run:
        pass
    assert tracking.get(run.id).tags["outbox"] == str(here / "runs" / "run")


def test_uploading_what_is_not_there_or_still_runs_is_an_error(here):
    with pytest.raises(SpkdError, match="the folder of a run"):
        tracking.upload(here / "runs")
    with tracking.open_run("run", here / "runs" / "run", "test"), pytest.raises(SpkdError, match="still runs"):
        tracking.upload(here / "runs")


def test_uploading_to_a_database_that_was_deleted_is_an_error_and_creates_none(here):
    box = dead_outbox(here, f"sqlite:///{here / 'gone.db'}", "f" * 32)
    with pytest.raises(SpkdError, match="no such file"):
        tracking.upload(box.folder)
    assert not (here / "gone.db").exists()


def opened_by_mlflow(source, minutes=60):
    """The id of a run as `mlflow run` opens it for a project at `source`."""
    started = int((time.time() - 60 * minutes) * 1000)
    tags = {"mlflow.project.entryPoint": "distill", "mlflow.source.name": str(source)}
    return store.client().create_run("0", start_time=started, tags=tags).info.run_id


def test_clean_up_fails_runs_that_mlflow_opened_here_and_that_never_started(here):
    stuck = [opened_by_mlflow(here), opened_by_mlflow(f"file://{here}")]
    young = opened_by_mlflow(here, minutes=5)
    assert sorted(tracking.clean_up(10, here)) == sorted(stuck)
    for run_id in stuck:
        assert tracking.get(run_id).status == "FAILED" and "never started" in tracking.get(run_id).tags["failure"]
    assert tracking.get(young).status == "RUNNING"


def test_clean_up_leaves_runs_of_other_projects_on_the_server_alone(here):
    hour_ago = int((time.time() - 3600) * 1000)
    plain = store.client().create_run("0", start_time=hour_ago).info.run_id
    sources = ("file:///home/somebody/theirs", f"file://{here}#theirs", here.parent, "https://github.com/a/b", "")
    theirs = [plain, *(opened_by_mlflow(source) for source in sources)]
    assert tracking.clean_up(10, here) == []
    assert {tracking.get(run_id).status for run_id in theirs} == {"RUNNING"}


def test_clean_up_leaves_a_run_that_ended_well_and_left_no_local_copy(here):
    tags = {"process": f"{this_process()['host']}:1:1.0", "outbox": str(here / "nowhere")}
    ended = store.client().create_run("0", start_time=int((time.time() - 3600) * 1000), tags=tags).info.run_id
    store.client().set_terminated(ended)
    assert tracking.clean_up(10, here) == [] and tracking.get(ended).status == "FINISHED"


def test_a_project_behind_a_link_is_known_by_both_names(here):
    (here / "link").symlink_to(here)
    stuck = opened_by_mlflow(here / "link")
    assert tracking.clean_up(10, here) == [stuck]


def test_a_project_in_a_folder_of_a_repository_is_known_by_both(here):
    stuck = opened_by_mlflow(f"file://{here}#part")
    assert tracking.clean_up(10, here / "part") == [stuck]


def test_clean_up_closes_the_runs_of_dead_processes_in_the_runs_folder(here, capsys):
    dead_outbox(here, "http://127.0.0.1:9", "f" * 32)
    assert clean_up.main([], SimpleNamespace(run=SimpleNamespace(folder="runs")), {}, {}) == 0
    assert "1 killed runs closed, 0 runs without a process marked: none" in capsys.readouterr().out


def test_upload_sends_what_lies_in_the_folder_that_is_named(here, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(tracking, "upload", lambda folder: asked.append(folder) or 4)
    assert upload.main(["runs/one"], None, {}) == 0
    assert asked == [Path("runs/one")] and capsys.readouterr().out == "4 events sent\n"


def test_minutes_that_are_no_number_are_an_error(here):
    with pytest.raises(SpkdError, match=r"--minutes: expected a number, got 'ten'"):
        clean_up.main([], SimpleNamespace(run=SimpleNamespace(folder="runs")), {}, {"minutes": "ten"})


def test_a_run_is_known_to_go_on_though_the_clock_was_set_since_it_began(here):
    with tracking.open_run("run", here / "runs" / "run", "test") as run:
        pass
    host, pid, started_s = tracking.get(run.id).tags["process"].rsplit(":", 2)
    tracking.retag(run.id, {"process": f"{host}:{pid}:{float(started_s) - 3600}"})
    assert tracking.is_alive(tracking.get(run.id).tags)


def test_clean_up_marks_runs_whose_process_and_local_copy_are_gone(here):
    made = store.client()
    me = this_process()
    hour_ago = int((time.time() - 3600) * 1000)
    living = f"{me['host']}:{me['pid']}:{me['started_s']}"
    dead = f"{me['host']}:{me['pid']}:1.0"
    folders = {"outbox": str(here / "nowhere")}
    alive = made.create_run("0", start_time=hour_ago, tags={"process": living, **folders}).info.run_id
    lost = made.create_run("0", start_time=hour_ago, tags={"process": dead, **folders}).info.run_id
    assert tracking.clean_up(10, here) == [lost]
    assert tracking.get(lost).status == "KILLED" and tracking.get(alive).status == "RUNNING"


RESERVE = """
import time
from pathlib import Path
from spkd.evidence import tracking
with tracking.open_run("reproduce", Path("runs/reproduction"), "test") as run:
    print(tracking.reserve("repeat", run, {"repeats": "r"})[0], flush=True)
    time.sleep(60)
"""


def test_adopted_runs_lie_under_their_new_parent(here):
    parent, run_id = (store.client().create_run("0").info.run_id for _ in range(2))
    tracking.adopt([run_id], parent)
    assert tracking.get(run_id).tags["mlflow.parentRunId"] == parent


def test_a_reserved_run_is_of_the_same_store_in_any_folder(here):
    with tracking.open_run("reproduce", here / "runs" / "reproduction", "test") as run:
        run_id, environ = tracking.reserve("repeat", run, {})
    assert environ == {"MLFLOW_RUN_ID": run_id, "MLFLOW_TRACKING_URI": f"sqlite:///{here / 'mlflow.db'}"}


def test_a_reserved_run_whose_processes_were_killed_before_it_began_is_ended(here, process):
    parent = process(RESERVE)
    reserved = parent.stdout.readline().strip()
    assert tracking.clean_up(-1, here) == [] and tracking.get(reserved).tags["repeats"] == "r"
    parent.kill()
    parent.wait()
    tracking.sweep(here / "runs")
    assert tracking.clean_up(-1, here) == [reserved]
    assert tracking.get(reserved).status == "KILLED"
