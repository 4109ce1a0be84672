"""A project folder of its own: real params.yaml, small waves as its windows, a fresh MLflow store."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from spkd import config
from spkd.data import windowset
from spkd.experiment import har, plan
from spkd.settings import Settings

ROOT = Path(__file__).parents[2]
TINY = {
    "dataset": "chest", "datasets.chest.split.validation_subjects": 1, "train.epochs": 3, "train.batch": 16,
    "teacher.view": "signal", "teacher.network": "wrn16-1", "distill.teachers": ["signal:wrn16-1"],
    "views.gaf.size": 12, "run.threads": 1, "tracking.maps_every": 2,
}  # fmt: skip


def project(folder, waves, **changes):
    """train(role, **overrides) -> run id, in a folder whose prepared windows are the waves."""
    raw = config.read(ROOT / "params.yaml")
    windows = raw["datasets"]["chest"]["windows"]
    manifest = {**waves.manifest, "dataset": "chest", "settings": windows, **changes}
    windowset.build(vars(waves), manifest).save(folder / "data" / "windows" / "chest")
    places = plan.Places(folder / "runs", folder)

    def settings(**overrides):
        dotted = {key.replace("__", "."): value for key, value in overrides.items()}
        tree = config.resolve(raw, {**TINY, **dotted})
        return config.check(Settings, tree, ""), tree

    def train(role, **overrides):
        return har.train(har.Wanted(role, *settings(**overrides), places))

    def make(role, **overrides):
        return plan.make(role, *settings(**overrides), places)

    return SimpleNamespace(train=train, plan=make, settings=settings, places=places, folder=folder)


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """The folder of a MLflow store that all tests of this folder share."""
    folder = tmp_path_factory.mktemp("store")
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    yield folder
    os.environ.pop("MLFLOW_TRACKING_URI") if before is None else os.environ.update(MLFLOW_TRACKING_URI=before)


@pytest.fixture(scope="session")
def new_project():
    """project(folder, waves): a project folder of a test's own."""
    return project


@pytest.fixture(scope="session")
def trained(store, waves, tmp_path_factory):
    """One project after a student was asked for on a fresh store: its teacher was trained first."""
    made = project(tmp_path_factory.mktemp("project"), waves)
    made.student = made.train("student")
    made.scratch = made.train("student", distill__teachers=[])
    return made
