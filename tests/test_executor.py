import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from spkd import executor
from spkd.errors import SpkdError


def work(job):
    """What the workers run: it does what the job says."""
    if "wait" in job:
        Path(job["note"]).write_text(str(os.getpid()))
        time.sleep(job["wait"])
    if "kill" in job:
        os.kill(os.getpid(), job["kill"])
    while "stubborn" in job:
        with contextlib.suppress(KeyboardInterrupt):
            Path(job["stubborn"]).write_text(str(os.getpid()))
            time.sleep(60)
    if "error" in job:
        raise SpkdError("here", "x", "y", job["error"])
    return f"{job.get('value')} {os.getpid()}"


def drain(made, n):
    found = {}
    deadline = time.monotonic() + 60
    while len(found) < n and time.monotonic() < deadline:
        found |= {o.key: o for o in made.collect(1.0)}
    return found


def check_outcomes(made):
    made.submit("a", {"value": 1})
    made.submit("b", {"error": "mend it"})
    found = drain(made, 2)
    assert (found["a"].ended, found["a"].text.split()[0]) == ("done", "1")
    assert found["b"].ended == "error"
    assert "mend it" in found["b"].text
    made.submit("c", {"kill": signal.SIGKILL})
    made.submit("d", {"value": 2})
    found = drain(made, 2)
    assert found["c"].ended == "died"
    assert found["d"].ended == "done"


def test_a_job_ends_done_in_error_or_dead_and_costs_no_other_job():
    with executor.opened("local", work, 2, 0.0) as made:
        check_outcomes(made)
        made.submit("e", {"kill": signal.SIGKILL})
        made.submit("f", {"error": "two\nlines"})
        found = drain(made, 2)
        assert found["e"].text == "its process ended by signal SIGKILL"
        assert found["f"].text == "SpkdError: here: expected x, got y; two lines"
        pids = set()
        for key in ("g", "h"):
            made.submit(key, {"value": 3})
            pids.add(int(drain(made, 1)[key].text.split()[1]))
    (pid,) = pids  # the one that was idle
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize(("exitcode", "how"), [
    (-signal.SIGKILL, "by signal SIGKILL"), (3, "with exit status 3"), (0, "with exit status 0"),
])  # fmt: skip
@pytest.mark.parametrize("before", [True, False])
def test_a_job_whose_process_dies_before_or_after_it_was_sent_there_ends_dead(before, exitcode, how):
    made, (ours, theirs) = executor.Local(work, 1), multiprocessing.Pipe()
    made._idle.append((SimpleNamespace(join=lambda: None, exitcode=exitcode), ours))
    if before:
        theirs.close()
    made.submit("a", {})
    theirs.close()
    assert [(o.key, o.ended, o.text) for o in made.collect(1.0)] == [("a", "died", f"its process ended {how}")]
    ours.close()


def test_a_worker_that_was_asked_to_stop_is_not_disturbed_by_a_second_signal(monkeypatch):
    ignored = []
    monkeypatch.setattr(executor.signal, "signal", lambda number, handler: ignored.append((number, handler)))
    with pytest.raises(KeyboardInterrupt, match="signal SIGTERM"):
        executor._interrupt(signal.SIGTERM, None)
    assert ignored == [(signal.SIGTERM, signal.SIG_IGN), (signal.SIGINT, signal.SIG_IGN)]


def test_a_job_that_does_not_stop_when_asked_to_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(executor, "GRACE_S", 0.3)
    with executor.opened("local", work, 1, 0.0) as made:
        note = tmp_path / "pid"
        made.submit("a", {"stubborn": str(note)})
        deadline = time.monotonic() + 60
        while not (note.exists() and note.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        pid = int(note.read_text())
    assert not psutil.pid_exists(pid)


def test_as_many_jobs_as_workers_run_and_those_under_way_are_asked_to_stop(monkeypatch):
    started, asked, closed = [], [], []

    def start(self):
        ours, theirs = multiprocessing.Pipe()
        number = len(started)
        started.append(theirs)
        process = SimpleNamespace(terminate=lambda: asked.append(number), is_alive=lambda: False)
        process.join = lambda *s: closed.append(ours.closed)
        return process, ours

    monkeypatch.setattr(executor.Local, "_start", start)
    made = executor.Local(work, 2)
    made.submit("a", {})
    assert made.free()
    made.submit("b", {})
    assert not made.free()
    started[0].send(("done", "1"))
    assert [(o.key, o.ended, o.text) for o in made.collect(1.0)] == [("a", "done", "1")]
    assert made.free()
    made.close()
    assert asked == [1]  # the other one waits for a job, and ends with its pipe
    assert closed == [True, True]  # before anybody waits for it
    assert started[0].recv() == {}
    with pytest.raises(EOFError):
        started[0].recv()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_ray_ends_jobs_as_the_local_executor_does(monkeypatch):
    pytest.importorskip("ray", reason="ray is not installed: pip install -r requirements-ray.in")
    root = Path(__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{root / 'src'}:{root}")
    with executor.opened("ray", work, 2, 0.0) as made:
        check_outcomes(made)


def test_ray_says_how_to_get_it_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SpkdError, match=r"requirements-ray\.in"):
        executor.Ray(work, 1, 0.0)


@pytest.mark.parametrize(("gpus", "share", "refused"), [(0, 0.25, True), (0, 0.0, False), (1, 0.25, False)])
def test_a_share_of_a_gpu_is_refused_where_the_ray_cluster_has_none(monkeypatch, gpus, share, refused):
    left = []
    ray = SimpleNamespace(
        init=lambda **_: None, shutdown=lambda: left.append(1), remote=lambda **_: lambda function: function,
        cluster_resources=lambda: {"CPU": 2.0} | ({"GPU": float(gpus)} if gpus else {}),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "ray", ray)
    if refused:
        with pytest.raises(SpkdError, match=r"table\.gpu_share: expected 0 on a cluster without a GPU, got 0.25"):
            executor.Ray(work, 1, share)
    else:
        executor.Ray(work, 1, share)
    assert len(left) == refused


def test_no_worker_outlives_a_parent_that_was_killed(tmp_path):
    note = tmp_path / "pid"
    code = f"""
        from tests_executor import work
        from spkd import executor
        if __name__ == "__main__":
            made = executor.Local(work, 1)
            made.submit("a", {{"wait": 60, "note": {str(note)!r}}})
            made.collect(60)
    """
    (tmp_path / "tests_executor.py").write_text(Path(__file__).read_text())
    (tmp_path / "parent.py").write_text(textwrap.dedent(code))
    environment = {**os.environ, "PYTHONPATH": f"{Path(executor.__file__).parents[1]}:{tmp_path}"}
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py")], env=environment)
    try:
        while not (note.exists() and note.read_text()) and parent.poll() is None:
            time.sleep(0.05)
        worker = psutil.Process(int(note.read_text()))
        parent.kill()
        parent.wait()
        worker.wait(timeout=10)
    finally:
        parent.kill()
        parent.wait()
