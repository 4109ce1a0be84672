"""What the commands pay to start, in wall-clock seconds, and the most that it should be.

`mlflow run` of the smallest training, one epoch of a scratch student on the sample, is beside what anybody's project
pays that trains the same student on the same windows with MLflow (plain_project/): torch, MLflow, its store, and a
model logged by MLflow, its weights and its traced graph as files, which our runs leave too, or its weights alone. The
steps of either epoch are left out; everything beyond is ours: settings, environment, lineage, maps, reports.

    python benchmarks/commands.py [rounds]
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import _measure
import numpy as np
from mlflow import MlflowClient

PLAIN = Path(__file__).parent / "plain_project"
PLAIN_LOGS = {
    "model": "its model by mlflow.pytorch.log_model",
    "graph": "its weights and its graph, by torch.export, as files",
    "weights": "its weights as a file",
}


def starting(repeats: int) -> list[dict]:
    """Seconds of the commands that do nothing."""
    rows = []
    for words, bound in ((["python", "-m", "spkd", "--help"], 0.7), (["dvc", "repro", "--quiet"], 2.0)):
        taken = [_seconds(words, {"PYTHONPATH": str(_measure.ROOT / "src")}) for _ in range(repeats + 1)][1:]
        rows.append(_measure.amount(" ".join(words), taken, "s", bound))
    return rows


def _seconds(words: list[str], changes: dict[str, str], folder: Path = _measure.ROOT) -> float:
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | changes
    started = time.perf_counter()
    done = subprocess.run(words, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    taken = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{' '.join(words)}: exit status {done.returncode}\n{done.stdout[-2000:]}")
    return taken


def mlflow_run(rounds: int, folder: Path) -> list[dict]:
    """Wall seconds of `mlflow run` beyond either plain project's, all without the steps of their epoch."""
    uri = f"sqlite:///{folder}/projects.db"
    changes = {
        "MLFLOW_TRACKING_URI": uri, "PLAIN_WINDOWS": str(_measure.ROOT / "data" / "windows" / "pamap2"),
        "PLAIN_MODEL": str(_measure.ROOT / "tests" / "models"), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    start = ["mlflow", "run", "--env-manager", "local"]
    ours = [*start, ".", "-e", "distill", "--experiment-name", "spkd"]
    for change in ("distill.teachers=[]", "train.epochs=1", "run.threads=1", f"run.folder={folder / 'unfinished'}"):
        ours += ["-P", change]
    words = {"spkd": ours} | {name: [*start, str(PLAIN), "--experiment-name", name] for name in PLAIN_LOGS}
    whole: dict[str, list[float]] = {side: [] for side in words}
    for _ in range(rounds + 1):
        for side, command in words.items():
            whole[side].append(_seconds(command, changes | {"PLAIN_LOGS": side}))
    steps = {side: _steps(MlflowClient(uri), side) for side in words}
    print("mlflow run", whole, "of which steps", steps, flush=True)
    rest = {side: np.array(whole[side][1:]) - steps[side][1:] for side in words}
    what, plain = "mlflow run, one epoch on the sample", "a plain project that logs"
    return [
        _measure.amount(what, [float(s) for s in rest["spkd"] - rest[name]], "s", 1, beyond=f"{plain} {logged}")
        for name, logged in PLAIN_LOGS.items()
    ]


def _steps(store: MlflowClient, experiment: str) -> np.ndarray:
    """Seconds of the steps of every run, as it logged them, the oldest first."""
    kept = store.get_experiment_by_name(experiment)
    assert kept is not None
    found = store.search_runs([kept.experiment_id])
    return np.array([run.data.metrics["seconds"] for run in found][::-1])


def main(words: list[str]) -> None:
    rounds = int(words[0]) if words else 3
    with tempfile.TemporaryDirectory() as place:
        rows = mlflow_run(rounds, Path(place)) + starting(rounds)
    _measure.keep("commands", rows, ("torch", "mlflow", "dvc", "ruamel.yaml.clib"), "Wall clock.")


if __name__ == "__main__":
    main(sys.argv[1:])
