"""What a run pays beside its training: tracking, and a checkpoint every epoch.

Tracking: everything that `spkd distill` tells MLflow, from opening the run to its last report (maps every 20 epochs, as
params.yaml has it), around 10 epochs of a student of one remembered teacher; beside the same 10 epochs alone. Half as
many windows as PAMAP2 has: 86 steps of 128 an epoch. The hard case is a study of 8 steps an epoch. CPU seconds of the
process (its sender thread included), one thread; checkpoints by the wall clock, as the training waits. The sides
take turns, every other round backwards, so that a machine that grows faster favours none. `within` rows come from the
clock of the run itself: noise of the training cannot hide them; so does the one run of 200 epochs, the default.

    python benchmarks/overheads.py [rounds]
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import _measure
import _study
import numpy as np

from spkd import config
from spkd.data import windowset
from spkd.evidence import tracking
from spkd.experiment import outcome, plan, record
from spkd.experiment.lineage import Ancestor
from spkd.losses import sp
from spkd.settings import Settings
from spkd.training import loop, step
from spkd.training.objective import Objective
from spkd.training.remembered import remember
from spkd.training.state import State, save
from spkd.training.teachers import LiveTeacher

EPOCHS, SUBJECTS = 10, 9
LONG = 200
NOTES = "the run of 200 epochs is one run; load of the machine: see machine"
STEPS = {"86 steps an epoch": 14_148, "the hard case, 8 steps an epoch": 1_332}  # windows, of which 7 / 9 train
CHANGES = {"preset": "none", "teacher.view": "signal", "distill.teachers": ["signal:wrn16-3"], "run.threads": 1}


class Project:
    """A project folder with windows of nine subjects, a plan, and a teacher whose answers are remembered."""

    def __init__(self, folder: Path, n: int, epochs: int) -> None:
        self.epochs = epochs
        raw = config.resolve(config.read(_measure.ROOT / "params.yaml"), {**CHANGES, "train.epochs": epochs})
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
        places = plan.Places(folder / "runs", folder)
        self.made = plan.make("student", settings, raw, places)
        self.windows = plan.on_device(self.made, self.made.scaling)
        self.rows = {n: self.windows.rows(getattr(self.made.split, n)) for n in ("train", "validation", "test")}
        card = plan.card(plan.make("teacher", settings, raw, places))
        self.render = plan.render(self.made, "signal", card.view_settings)
        network = _study.network(16, 3, 1).eval()
        live = LiveTeacher("signal-wrn16-3", network, self.render, self.windows, _study.TAPS)
        self.live = live
        self.teacher, how = remember(live, self.rows["train"], 512, 2**33, folder / "answers", sp.Products)
        print(f"{len(self.rows['train'])} training windows; the teacher answers {how}", flush=True)
        self.ancestor = Ancestor(live.name, "0" * 32, network, card, "0" * 64)

    def task(self) -> step.Task:
        distill, windows, rows = self.made.settings.distill, self.windows, self.rows
        objective = Objective(distill.lambda_, [], dict(distill.beta), self.made.raw["losses"])
        return step.Task(
            _study.network(16, 1, 1), self.render, windows, rows["train"], rows["validation"], rows["test"],
            objective, [self.teacher], _study.TAPS, plan.name(self.made),
        )  # fmt: skip

    def fit(self, task: step.Task, folder: Path, every: int, on_epoch: Callable[[State], None]) -> State:
        settings = self.made.settings.train.model_copy(update={"checkpoint_every": every})
        return loop.fit(task, settings, 0, folder / "checkpoint.safetensors", "key", on_epoch)


def alone(project: Project, every: int = 1) -> dict[str, float]:
    """Seconds of the training without a word to MLflow: of the CPU, and by the wall clock, as of one checkpoint."""
    with tempfile.TemporaryDirectory() as place:
        task, started, began = project.task(), time.process_time(), time.perf_counter()
        state = project.fit(task, Path(place), every, lambda state: None)
        whole, wall = time.process_time() - started, time.perf_counter() - began
        settings, path = project.made.settings.train, Path(place) / "checkpoint.safetensors"
        optimiser, _ = loop.begin(task, settings, path, "key", lambda state: None)
        began = time.perf_counter()
        saving = save(Path(place) / "one.safetensors", task, optimiser, state, "key")
        taken = time.perf_counter() - began  # the training goes on from here
        saving.wait()
        return {"whole": whole, "wall": wall, "checkpoint": taken}


def tracked(project: Project) -> dict[str, float]:
    """CPU seconds of the same training as `spkd distill` tracks it, and of the telling within: here, by the sender."""
    made, told = project.made, 0.0
    with tempfile.TemporaryDirectory() as place:
        began, here = time.process_time(), time.thread_time()
        with tracking.open_run(plan.name(made), Path(place), "bench", None, record.tags(made)) as run:
            code = record.beginning(run, made, {})
            task = project.task()
            record.lineage(run, [project.ancestor], [1.0], None)
            callback = record.Callback(run, made, task, [project.live])

            def on_epoch(state: State) -> None:
                nonlocal told
                started = time.thread_time()
                callback(state)
                told += time.thread_time() - started

            before = time.thread_time()
            state = project.fit(task, Path(place), 1, on_epoch)
            fitted = time.thread_time() - before
            outcome.ending(run, made, task, state, [project.ancestor], None, code)
        whole, mine = time.process_time() - began, time.thread_time() - here
    return {"whole": whole, "epochs": told, "ends": mine - fitted, "sender": whole - mine}


def runs(what: str, project: Project, rounds: int) -> list[dict]:
    """The rows of tracking and checkpoints of short runs, side by side."""
    sides = {
        "tracked": lambda: tracked(project), "alone": lambda: alone(project),
        "last": lambda: alone(project, project.epochs),
    }  # fmt: skip
    taken: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for k in range(rounds):
        for side in sides if k % 2 == 0 else reversed(sides):
            taken[side].append(sides[side]())
            print(what, side, taken[side][-1], flush=True)
    whole, wall = ({side: [one.get(key, 0.0) for one in taken[side]] for side in sides} for key in ("whole", "wall"))
    unsaved = [one["wall"] - project.epochs * one["checkpoint"] for one in taken["alone"]]
    saving = {"saved": wall["alone"], "unsaved": unsaved}
    run, saved = f"run of {project.epochs} epochs, tracked with maps ({what})", f"checkpoint every epoch ({what})"
    return [
        _measure.dearer(run, "the same untracked", whole, "tracked", "alone", 1.03),
        within(run, taken["tracked"]),
        _measure.dearer(f"{saved}, wall clock", "one at the end", wall, "alone", "last", 1.02),
        _measure.dearer(f"{saved}, wall clock, within", "the training without", saving, "saved", "unsaved", 1.02),
    ]


def within(run: str, taken: list[dict[str, float]]) -> dict:
    """The row of what tracking took, by the clock of the tracked run itself."""
    whole = [one["whole"] for one in taken]
    rest = [one["whole"] - one["epochs"] - one["ends"] - one["sender"] for one in taken]
    seconds = {"tracked": whole, "rest": rest}
    return _measure.dearer(f"{run}, within", "its training", seconds, "tracked", "rest", 1.03)


def main(words: list[str]) -> None:
    rounds = int(words[0]) if words else 4
    _study.fair()
    unfinished = _measure.ROOT / "runs"  # git and DVC are asked about a folder of this checkout
    unfinished.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=unfinished) as place:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{place}/mlflow.db"
        rows: list[dict] = []
        for what, n in reversed(STEPS.items()):
            folder = Path(tempfile.mkdtemp(dir=place))
            short = Project(folder, n, EPOCHS)
            if not rows:
                tracked(short)  # what a process does once
            rows += runs(what, short, rounds)
            shutil.rmtree(folder)
            folder.mkdir()
            long = tracked(Project(folder, n, LONG))
            print(what, long, flush=True)
            rows.append(within(f"run of {LONG} epochs, tracked with maps ({what})", [long]))
            shutil.rmtree(folder)
    _measure.keep("overheads", rows, ("torch", "mlflow", "safetensors"), NOTES)


if __name__ == "__main__":
    main(sys.argv[1:])
