"""A fresh SQLite store for a test, copied from one initialised once; a real tracking server to start and kill."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from spkd.evidence.tracking import store

SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store with its tables and nothing else."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    store.client(f"sqlite:///{path}")
    return path


@pytest.fixture
def here(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a fresh store as MLflow's default, and no MLflow environment."""
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


class Server:
    """`mlflow server` on this machine, on a port that stays the same when it is killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        environ = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        log = (self.folder / "server.log").open("ab")
        self.process = subprocess.Popen(command, env=environ, stdout=log, stderr=log, start_new_session=True)
        log.close()
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=1) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.1)
        raise AssertionError((self.folder / "server.log").read_text())

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def server(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copyfile(empty_store, folder / "mlflow.db")
    made = Server(folder)
    made.start()
    yield made
    made.kill()


def python(code: str, folder: Path, **environ: str) -> "subprocess.Popen[str]":
    """A Python process that runs code with the project on its path."""
    own = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", **environ}
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, env=own, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.fixture
def process(here: Path) -> Iterator["type[python]"]:
    """Starts Python code in the working folder; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, **environ: str) -> "subprocess.Popen[str]":
        started.append(python(code, here, **environ))
        return started[-1]

    yield start  # type: ignore[misc]
    for one in started:
        if one.poll() is None:
            one.kill()
        one.communicate()
