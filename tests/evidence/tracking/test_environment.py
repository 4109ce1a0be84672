"""Which environment `mlflow run .` finds, and what a stopped build of one leaves in the way."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spkd.cli import bind
from spkd.errors import SpkdError
from spkd.evidence.tracking import environment

ROOT = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose lock asks for nothing, and a folder of its own for MLflow's environments."""
    monkeypatch.setenv("MLFLOW_ENV_ROOT", str(tmp_path / "envs-of-mlflow"))
    shutil.copy(ROOT / "python_env.yaml", tmp_path)
    (tmp_path / "requirements.lock").write_text("")
    return tmp_path


def test_the_environment_of_mlflow_run_is_this_one(project):
    link, before = environment.bind(project)
    assert link.is_symlink() and link.resolve() == Path(sys.prefix).resolve() and before is None
    assert environment.bind(project) == (link, None)


@pytest.mark.parametrize("gone", [False, True])
def test_the_environment_of_another_clone_that_this_one_takes_the_place_of_is_named(project, monkeypatch, capsys, gone):
    link, _ = environment.bind(project)
    other = project / "clone" / ".venv"
    link.unlink()
    link.symlink_to(other)
    if not gone:
        other.mkdir(parents=True)
    monkeypatch.chdir(project)
    monkeypatch.setattr(bind.store, "client", lambda: None)
    assert bind.main([], None, {}) == 0
    said = capsys.readouterr().out
    assert f"was: {other}{', which is gone' if gone else ''};" in said and "MLFLOW_ENV_ROOT" in said
    assert link.readlink() == Path(sys.prefix)


def test_a_path_that_mlflow_run_cannot_source_is_refused(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_ENV_ROOT", str(project / "my lab"))
    with pytest.raises(SpkdError, match="a path without spaces"):
        environment.bind(project)
    assert not (project / "my lab").exists()


@pytest.mark.parametrize("place", ["a file", "a server"])
def test_mlflow_run_finds_its_store_made(project, monkeypatch, place):
    made = []
    monkeypatch.chdir(project)
    monkeypatch.setattr(bind.store, "client", lambda: made.append(place))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9" if place == "a server" else "")
    assert bind.main([], None, {}) == 0 and made == ([] if place == "a server" else ["a file"])


def test_an_environment_of_other_versions_than_the_locks_is_not_bound(project, monkeypatch):
    lock = "".join(f"{name}==0.0\n" for name in ("numpy", "torch", "scipy", "mlflow"))
    (project / "requirements.lock").write_text(lock)
    monkeypatch.chdir(project)
    with pytest.raises(SpkdError, match=r"expected the locked versions.*numpy: .* and 1 more; run `make setup`"):
        bind.main([], None, {})
    assert not (project / "envs of mlflow").exists()


def test_a_half_built_environment_is_removed_by_the_command_that_the_error_names(project):
    link, _ = environment.bind(project)
    link.unlink()
    (link / "bin").mkdir(parents=True)
    with pytest.raises(SpkdError, match="stopped half-way") as refused:
        environment.bind(project)
    remove = re.search(r"(rm -r .*) && make setup", str(refused.value))
    subprocess.run(shlex.split(remove[1]), check=True)
    assert environment.bind(project)[0].is_symlink()
