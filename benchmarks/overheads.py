"""What a run pays beside its training: tracking, a checkpoint every epoch; and what the commands pay to start.

Tracking: everything that `spkd distill` tells MLflow, from opening the run to its last report (maps every 5 epochs, as
params.yaml has it), around 10 epochs of a student of one remembered teacher; beside the same 10 epochs alone. As many
windows as PAMAP2 has: 86 steps an epoch. The hard case is a study of 8 steps an epoch. CPU seconds of the process (its
sender thread included), one thread; the sides take turns. `within` rows come from the clock of the tracked run itself:
noise of the training cannot hide them; 200 epochs, the default, are reckoned from its parts. Commands: wall clock.

    python benchmarks/overheads.py [rounds]
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import _measure
import _study
import numpy as np
from mlflow import MlflowClient

from spkd import config
from spkd.data import windowset
from spkd.evidence import tracking
from spkd.experiment import outcome, plan, record
from spkd.experiment.lineage import Ancestor
from spkd.losses import sp
from spkd.settings import Settings
from spkd.training import loop
from spkd.training.objective import Objective
from spkd.training.remembered import remember
from spkd.training.teachers import LiveTeacher

EPOCHS, SUBJECTS = 10, 9
SETS, SETS_OF_200 = 3, 41  # sets of maps: one every 5 epochs, and one before the first
STEPS = {"86 steps an epoch": 14_148, "the hard case, 8 steps an epoch": 1_332}  # windows, of which 7 / 9 train
CHANGES = {"train.epochs": EPOCHS, "teacher.view": "signal", "distill.teachers": ["signal:wrn16-3"], "run.threads": 1}


class Project:
    """A project folder with windows of nine subjects, a plan, and a teacher whose answers are remembered."""

    def __init__(self, folder: Path, n: int) -> None:
        raw = config.resolve(config.read(_measure.ROOT / "params.yaml"), CHANGES)
        settings = config.check(Settings, raw, "")
        for name in ("dvc.lock", "requirements.lock"):
            shutil.copy(_measure.ROOT / name, folder)
        walks, name = _study.windows(n), settings.dataset
        manifest = {
            **walks.manifest, "dataset": name, "settings": raw["datasets"][name]["windows"],
            "subjects": [f"{101 + i}" for i in range(SUBJECTS)],
        }  # fmt: skip
        content = {k: getattr(walks, k) for k in ("signal", "starts", "label")}
        windowset.build({**content, "subject": np.arange(n) * SUBJECTS // n}, manifest).save(
            folder / "data/windows" / name
        )
        places = plan.Places(folder / "data", folder / "runs", folder)
        self.made = plan.make("student", settings, raw, places)
        self.windows = plan.on_device(self.made, self.made.scaling)
        self.rows = {n: self.windows.rows(getattr(self.made.split, n)) for n in ("train", "validation", "test")}
        card = plan.card(plan.make("teacher", settings, raw, places))
        self.render = plan.render(self.made, "signal", card.view_settings)
        network = _study.network(16, 3, 1).eval()
        live = LiveTeacher("signal-wrn16-3", network, self.render, self.windows, _study.TAPS)
        self.teacher, how = remember(live, self.rows["train"], 512, 2**33, folder / "answers", sp.Products)
        print(f"{len(self.rows['train'])} training windows; the teacher answers {how}", flush=True)
        self.ancestor = Ancestor(live.name, "0" * 32, network, card, "0" * 64)

    def task(self) -> loop.Task:
        distill, windows, rows = self.made.settings.distill, self.windows, self.rows
        objective = Objective(distill.lambda_, [], dict(distill.beta), self.made.raw["losses"])
        return loop.Task(
            _study.network(16, 1, 1), self.render, windows, rows["train"], rows["validation"], rows["test"],
            objective, [self.teacher], _study.TAPS, plan.name(self.made),
        )  # fmt: skip

    def fit(self, task: loop.Task, folder: Path, every: int, on_epoch: Callable[[loop.State], None]) -> loop.State:
        settings = self.made.settings.train.model_copy(update={"checkpoint_every": every})
        return loop.fit(task, settings, 0, folder / "checkpoint.safetensors", "key", on_epoch)


def alone(project: Project, every: int = 1) -> dict[str, float]:
    """CPU seconds of the training without a word to MLflow, and of one checkpoint."""
    with tempfile.TemporaryDirectory() as place:
        task, started = project.task(), time.process_time()
        state = project.fit(task, Path(place), every, lambda state: None)
        whole = time.process_time() - started
        settings, path = project.made.settings.train, Path(place) / "checkpoint.safetensors"
        optimiser, _ = loop.begin(task, settings, path, "key", lambda state: None)
        started = time.process_time()
        loop.save(Path(place) / "one.safetensors", task, optimiser, state, "key")
        return {"whole": whole, "checkpoint": time.process_time() - started}


def tracked(project: Project) -> dict[str, float]:
    """CPU seconds of the same training as `spkd distill` tracks it, and of the telling within: here, by the sender."""
    made, told = project.made, 0.0
    with tempfile.TemporaryDirectory() as place:
        began, here = time.process_time(), time.thread_time()
        with tracking.open_run(plan.name(made), Path(place), "bench", None, record.tags(made)) as run:
            record.beginning(run, made, {})
            task = project.task()
            record.lineage(run, [project.ancestor], [1.0], None)
            witness = record.Witness(run, made, task, [project.ancestor])

            def on_epoch(state: loop.State) -> None:
                nonlocal told
                started = time.thread_time()
                witness(state)
                told += time.thread_time() - started

            before = time.thread_time()
            state = project.fit(task, Path(place), 1, on_epoch)
            fitted = time.thread_time() - before
            outcome.ending(run, made, task, state, [project.ancestor])
        whole, mine = time.process_time() - began, time.thread_time() - here
    return {"whole": whole, "epochs": told, "ends": mine - fitted, "sender": whole - mine}


def runs(rounds: int, folder: Path) -> list[dict]:
    """The rows of tracking and checkpoints, for both studies."""
    rows = []
    for what, n in reversed(STEPS.items()):
        place = Path(tempfile.mkdtemp(dir=folder))
        project = Project(place, n)
        sides = {
            "tracked": lambda p=project: tracked(p),
            "alone": lambda p=project: alone(p),
            "last": lambda p=project: alone(p, EPOCHS),
        }
        taken: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, call in sides.items():
                taken[side].append(call())
                print(what, side, taken[side][-1], flush=True)
        whole = {side: [one["whole"] for one in all_] for side, all_ in taken.items()}
        telling = [one["epochs"] + one["ends"] + one["sender"] for one in taken["tracked"]]
        saving = [EPOCHS * one["checkpoint"] for one in taken["alone"]]
        long = [20 * (a - t) for a, t in zip(whole["tracked"], telling, strict=True)]
        maps = [(one["epochs"] + one["sender"]) * SETS_OF_200 / SETS + one["ends"] for one in taken["tracked"]]
        within = {
            "200": [a + m for a, m in zip(long, maps, strict=True)], "200 alone": long,
            "tracked": whole["tracked"], "rest": [a - t for a, t in zip(whole["tracked"], telling, strict=True)],
            "saved": whole["alone"], "unsaved": [a - s for a, s in zip(whole["alone"], saving, strict=True)],
        }  # fmt: skip
        run, saved = f"run of 10 epochs, tracked with maps ({what})", f"checkpoint every epoch ({what})"
        rows += [
            _measure.dearer(run, "the same untracked", whole, "tracked", "alone", 1.03),
            _measure.dearer(f"{run}, within", "its training", within, "tracked", "rest", 1.03),
            _measure.dearer(f"run of 200 epochs ({what}), reckoned", "its training", within, "200", "200 alone", 1.03),
            _measure.dearer(saved, "one at the end", whole, "alone", "last", 1.02),
            _measure.dearer(f"{saved}, within", "the training without", within, "saved", "unsaved", 1.02),
        ]
        shutil.rmtree(place)
    return rows


def commands(repeats: int) -> list[dict]:
    """Seconds to start, beside a bound in seconds."""
    here = str(Path(sys.executable).parent)
    env = os.environ | {"PYTHONPATH": str(_measure.ROOT / "src"), "PATH": here + os.pathsep + os.environ["PATH"]}
    rows = []
    for words, bound in ((["python", "-m", "spkd", "--help"], 0.7), (["dvc", "repro", "--quiet"], 2.0)):
        taken = []
        for _ in range(repeats + 1):
            started = time.perf_counter()
            subprocess.run(words, cwd=_measure.ROOT, env=env, check=True, capture_output=True)
            taken.append(time.perf_counter() - started)
        what = f"{' '.join(words)}, {np.median(taken[1:]):.2f} s"
        rows.append(_measure.dearer(what, f"{bound} s", {"a": taken[1:], "b": [bound] * repeats}, "a", "b", 1))
    return rows


PLAIN = """
import mlflow, torch
with mlflow.start_run():
    mlflow.log_metric("loss", float(torch.zeros(1)))
"""


def mlflow_run(rounds: int, folder: Path) -> list[dict]:
    """Wall seconds of the smallest training by `mlflow run`, one epoch of a scratch student, beyond MLflow's.

    Left out: what a project costs that imports torch and mlflow, opens a run and logs one number; and the seconds of
    the epoch's steps, as the run itself logged them. Evaluation, reports and everything else is ours.
    """
    uri, plain = f"sqlite:///{folder}/projects.db", folder / "plain"
    plain.mkdir()
    (plain / "MLproject").write_text("name: plain\nentry_points:\n  main:\n    command: python plain.py\n")
    (plain / "plain.py").write_text(PLAIN)
    env = os.environ | {"MLFLOW_TRACKING_URI": uri, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    start = ["mlflow", "run", "--env-manager", "local"]
    ours = [*start, ".", "-e", "distill", "--experiment-name", "spkd"]
    for change in ("distill.teachers=[]", "train.epochs=1", "run.threads=1", f"run.folder={folder / 'unfinished'}"):
        ours += ["-P", change]
    taken: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(rounds + 1):
        for side, words in (("ours", ours), ("plain", [*start, str(plain), "--experiment-name", "plain"])):
            started = time.perf_counter()
            subprocess.run(words, cwd=_measure.ROOT, env=env, check=True, capture_output=True)
            taken[side].append(time.perf_counter() - started)
    newest = MlflowClient(uri).search_runs([MlflowClient(uri).get_experiment_by_name("spkd").experiment_id])
    steps = [run.data.metrics["seconds"] for run in newest][::-1]
    beyond = [o - p - s for o, p, s in zip(taken["ours"][1:], taken["plain"][1:], steps[1:], strict=True)]
    print("mlflow run", taken, "of which steps", steps, flush=True)
    what = (
        f"mlflow run, one epoch on the sample, without its steps and a plain project's run, {np.median(beyond):.2f} s"
    )
    return [_measure.dearer(what, "1 s", {"a": beyond, "b": [1.0] * rounds}, "a", "b", 1)]


def main(words: list[str]) -> None:
    rounds = int(words[0]) if words else 3
    _study.fair()
    unfinished = _measure.ROOT / "runs"  # git and DVC are asked about a folder of this checkout
    unfinished.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=unfinished) as place:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{place}/mlflow.db"
        rows = runs(rounds, Path(place)) + mlflow_run(rounds, Path(place))
    _measure.keep("overheads", rows + commands(rounds), ("torch", "mlflow", "dvc"), "load of the machine: see machine")


if __name__ == "__main__":
    main(sys.argv[1:])
