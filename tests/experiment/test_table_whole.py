"""A real small table in a folder of its own: killed in the middle and started again, and on either executor."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from spkd import config
from spkd.data import windowset
from spkd.evidence import tracking
from spkd.executor import Outcome
from spkd.experiment import cells, plan, table_run
from spkd.settings import Settings
from spkd.training import checkpoint

ROOT = Path(__file__).parents[2]
TABLE = {
    "about": "Waves.",
    "set": {
        "dataset": "chest", "preset": "none", "datasets.chest.split.validation_subjects": 1, "train.epochs": 6,
        "train.batch": 16, "run.threads": 1, "distill.teachers": ["signal:wrn16-1"], "tracking.maps_every": 100,
    },
    "folds": [0], "trials": [0], "teacher_trials": "first", "baseline": "scratch",
    "rows": {
        "scratch": {"set": {"distill.teachers": []}},
        "annealed": {"set": {"distill.init": "latest", "distill.beta": {"sp": 20}}},
    },
}  # fmt: skip


def make(folder, waves):
    """A project folder with the table `t`, its windows and its own store."""
    raw = config.read(ROOT / "params.yaml")
    raw["tables"], raw["table"]["name"] = {"t": TABLE}, "t"
    folder.mkdir()
    (folder / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    manifest = {**waves.manifest, "dataset": "chest", "settings": raw["datasets"]["chest"]["windows"]}
    windowset.build(vars(waves), manifest).save(folder / "data" / "windows" / "chest")
    return raw


def board_of(raw, folder):
    places = plan.Places(folder / "runs", folder)
    return cells.board("t", config.check(Settings, config.resolve(raw, {}), ""), raw, {}, places)


def results(raw, folder):
    """{cell key: (run id, weights, accuracy, last loss)} of the finished cells, and every run that was ever a cell."""
    states = table_run.standing(board_of(raw, folder))
    done = {key: s.run for key, s in states.items() if s.status == "done"}
    names = ("headline/accuracy", "train/loss")
    own = {k: (r.id, r.tags["weights.sha256"], *(r.metrics[name] for name in names)) for k, r in done.items()}
    return SimpleNamespace(cells=own, runs=[r for runs in cells.index().values() for r in runs], total=len(states))


class Here:
    """Runs each job at once, in this process."""

    def __init__(self):
        self.outcomes = []

    def free(self):
        return not self.outcomes

    def submit(self, key, job):
        self.outcomes.append(Outcome(key, "done", cells.run(job)))

    def collect(self, timeout_s):
        found, self.outcomes = self.outcomes, []
        return found


@pytest.fixture(scope="module")
def whole(waves, tmp_path_factory):
    """The numbers of the table when nothing disturbs it, from this process."""
    folder = tmp_path_factory.mktemp("whole") / "project"
    raw = make(folder, waves)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.chdir(folder)
        with tracking.open_run("table", folder / "runs" / "parent", "spkd") as parent:
            assert table_run.complete(board_of(raw, folder), Here(), parent.id, 1, 1) == {}
        return results(raw, folder)


@pytest.fixture
def fresh(waves, tmp_path, monkeypatch):
    folder = tmp_path / "project"
    raw = make(folder, waves)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return SimpleNamespace(raw=raw, folder=folder)


def start(fresh, *words):
    command = [sys.executable, "-m", "spkd", "table", "--table.workers", "1", *words]
    return subprocess.Popen(command, cwd=fresh.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def numbers(found):
    return {key: own[1:] for key, own in found.cells.items()}


def kill_in_the_middle(fresh):
    """SIGKILL the table when one cell is done and another one has begun."""
    process = start(fresh)
    for line in process.stdout:
        if line.startswith("done: "):
            break
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not list(fresh.folder.glob("runs/cell-*/checkpoint.safetensors")):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_table_killed_in_the_middle_goes_on_where_it_stopped(fresh, whole):
    kill_in_the_middle(fresh)
    before = results(fresh.raw, fresh.folder)
    assert 0 < len(before.cells) < before.total
    again = start(fresh)
    text, _ = again.communicate(timeout=120)
    after = results(fresh.raw, fresh.folder)
    assert "all 3 cells are done" in text and again.returncode == 0, text
    assert len(after.cells) == after.total == 3
    assert [r.status for r in after.runs] == ["FINISHED"] * 3
    assert {key: after.cells[key] for key in before.cells} == before.cells
    assert numbers(after) == numbers(whole)
    parents = {r.tags["mlflow.parentRunId"] for r in after.runs}
    assert [tracking.get(p).status for p in parents] == ["FINISHED"]
    page = (fresh.folder / "results" / "tables" / "t" / "report.html").read_text()
    assert "Windows: chest, digest" in page and "Training: 6 epochs, batch 16, last batch drop" in page
    assert "<th>on validation subjects %</th>" in page and "- (n=0" not in page
    assert "SIMULATED" in page and page.count("data:image/svg+xml;base64,") == 2
    assert tracking.artifact(parents.pop(), "report/report.html").read_text() == page


def trained_for_an_epoch(folder):
    """Checkpoints of cells that have ended their first epoch."""
    return [p for p in folder.glob("runs/cell-*/checkpoint.safetensors") if checkpoint.load(p)[1]["epoch"] > 0]


def test_cells_side_by_side_that_were_killed_end_with_the_numbers_of_one_after_the_other(fresh, whole, monkeypatch):
    process = start(fresh, "--table.side_by_side", "2")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(trained_for_an_epoch(fresh.folder)) < 2:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(trained_for_an_epoch(fresh.folder)) == 2  # the teacher and the scratch student: one network
    monkeypatch.chdir(fresh.folder)
    tracking.sweep(fresh.folder / "runs")
    board = board_of(fresh.raw, fresh.folder)
    with tracking.open_run("table", fresh.folder / "runs" / "parent", "spkd") as parent:
        assert table_run.complete(board, Here(), parent.id, 1, 2, side_by_side=2) == {}
    after = results(fresh.raw, fresh.folder)
    assert [r.status for r in after.runs] == ["FINISHED"] * 3
    assert sorted(r.tags.get("side_by_side", "alone") for r in after.runs) == ["2", "2", "alone"]
    assert after.cells.keys() == whole.cells.keys()
    for key, (_, _, accuracy, loss) in after.cells.items():
        assert accuracy == pytest.approx(whole.cells[key][2], abs=1 / 24 + 1e-9)  # one of 24 windows
        assert loss == pytest.approx(whole.cells[key][3], rel=1e-3)


def test_ray_gives_the_numbers_of_one_process(fresh, whole):
    pytest.importorskip("ray", reason="ray is not installed: pip install -r requirements-ray.in")
    text, _ = start(fresh, "--table.executor", "ray", "--table.gpu_share", "0", "--table.workers", "2").communicate(
        timeout=300
    )
    assert "all 3 cells are done" in text, text
    assert numbers(results(fresh.raw, fresh.folder)) == numbers(whole)
