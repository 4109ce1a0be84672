"""Which MLflow store a run goes to, and a client for it; makes a fresh SQLite store once, under a lock.

Contract: no process opens a SQLite store that is being created (several at once destroy it). Sets the environment that
keeps MLflow quiet, hermetic and bounded in time, before it is imported.
"""

import functools
import logging
import os
import re
import sqlite3
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote

from filelock import FileLock

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

from mlflow import MlflowClient  # noqa: E402 - the environment above is read on import
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode  # noqa: E402

from spkd import atomic  # noqa: E402
from spkd.errors import SpkdError  # noqa: E402

DEFAULT_URI = "sqlite:///mlflow.db"
REFUSALS = {
    "INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST", "MALFORMED_REQUEST",
    "NOT_FOUND", "PERMISSION_DENIED", "UNAUTHENTICATED", "INVALID_STATE",
}  # fmt: skip
PATHS = (  # where MLflow's tables hold those of artifacts
    ("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)  # fmt: skip
SQLITE_SAYS = r"\(sqlite3\.\w+\) [^\[]*\w"
NOT_IN_A_NAME = re.compile(r"[^\w\-.: /]", re.ASCII)

for _noisy in ("alembic", "mlflow", "urllib3"):
    logging.getLogger(_noisy).setLevel(logging.ERROR)
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # raises what it logs, with its traceback


class Away(SpkdError):
    """The store does not answer, or takes nothing, at this moment; the same call may succeed later."""


def uri() -> str:
    """The tracking URI in force: MLFLOW_TRACKING_URI, or the SQLite file in this folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def database(tracking_uri: str) -> Path | None:
    """The file of a SQLite URI, absolute; None for a server. `mlflow run` writes a space in its path as %20."""
    prefix = "sqlite:///"
    return Path(unquote(tracking_uri.removeprefix(prefix))).absolute() if tracking_uri.startswith(prefix) else None


def absolute(tracking_uri: str) -> str:
    """The same store, named so that another working folder finds it."""
    path = database(tracking_uri)
    return _address(path) if path else tracking_uri


def _address(path: Path) -> str:
    """The URI of a SQLite file. Only what would be read as an escape is one: MLflow makes a folder of any other."""
    return f"sqlite:///{str(path).replace('%', '%25')}"


def shown(text: str) -> str:
    """The text, an address or a message with some, without the user names and passwords in them."""
    return re.sub(r"(?<=://)[^/\s'\"]*@", "", text)


def told() -> str:
    """The store in force as messages may name it."""
    return shown(absolute(uri()))


def clean_name(name: str) -> str:
    """The name with what MLflow does not allow in keys replaced by `_`."""
    return NOT_IN_A_NAME.sub("_", name)[:250]


def is_refusal(error: Exception) -> bool:
    """Whether the store understood and said no: sending again would not help."""
    return isinstance(error, MlflowException) and error.error_code in REFUSALS


@contextmanager
def exclusive(tracking_uri: str) -> Iterator[None]:
    """Hold the lock beside a SQLite store; nothing to hold for a server."""
    path = database(tracking_uri)
    if path is None:
        yield
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            yield


def _is_whole(path: Path) -> bool:
    """Whether a SQLite store is there: MLflow enters a first experiment when all tables are made, and not before.

    Raises SpkdError where the file is damaged or something else's, Away where another program holds it.
    """
    if not path.is_file() or path.stat().st_size == 0:
        return False
    try:
        with closing(sqlite3.connect(path)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if tables and "experiments" not in tables:
                raise sqlite3.DatabaseError(f"tables of another program: {', '.join(sorted(tables))[:100]}")
            return bool(tables) and connection.execute("SELECT 1 FROM experiments").fetchone() is not None
    except sqlite3.OperationalError as error:  # locked by another program, or not to be opened: nothing is damaged
        do = "wait for the program that holds it, or end it, and see that the file may be read and written"
        raise Away(path, "MLflow's SQLite store, free to be read", error, do) from None
    except sqlite3.DatabaseError as error:
        do = "restore a backup, or move it away: a new one is made"
        raise SpkdError(path, "MLflow's SQLite store", error, do) from None


def client(tracking_uri: str | None = None) -> MlflowClient:
    """A client for the store, which exists afterwards. Raises Away where it does not answer."""
    tracking_uri = absolute(tracking_uri or uri())
    path = database(tracking_uri)
    if path is None:
        return _answering(tracking_uri)
    with exclusive(tracking_uri):
        if not _is_whole(path):
            _make(path.resolve(), path.parent / "mlruns")
        _follow(path)
    return _connect(tracking_uri)


def _make(path: Path, artifacts: Path) -> None:
    """Make a SQLite store, whole or not at all: of one whose tables are made in part MLflow could never make the rest.

    artifacts: of its experiment Default; MLflow would take the folder that the command runs in.
    """
    for left in path.parent.glob(f".{path.name}.*.new*"):  # by a process that was killed here, with SQLite's journal
        left.unlink()
    new = path.with_name(f".{path.name}.{time.time_ns()}.new")  # MLflow keeps its connections to a name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # warns when it is imported

        SqlAlchemyStore(_address(new), str(artifacts)).engine.dispose()
    new.chmod(0o666 & ~atomic.UMASK)  # SQLite gives others no right to write, whatever the user's umask gives them
    new.replace(path)


@functools.cache
def _follow(path: Path) -> None:
    """Let a SQLite store that was moved or copied with its folder have its artifacts beside it again, and say so.

    MLflow keeps whole paths: it would miss all weights, and write new ones where the folder was. Once a process.
    """
    new = path.parent / "mlruns"
    with closing(sqlite3.connect(path)) as connection, connection:
        locations = [text for (text,) in connection.execute("SELECT artifact_location FROM experiments")]
        parts = [location.rpartition("/mlruns/") for location in locations]
        before = {f"{root}{found}" for root, found, name in parts if found and (new / name).is_dir()}
        for old in sorted(before):
            if Path(old).is_dir() and Path(old).samefile(new):
                continue
            print(f"{path} was moved: artifacts are looked for in {new}, no longer in {old}", file=sys.stderr)
            for table, column in PATHS:
                rows = connection.execute(f"SELECT rowid, {column} FROM {table}").fetchall()  # noqa: S608 - names above
                for row, text in rows:
                    if (text or "").startswith(old):
                        moved = f"{new}/{text.removeprefix(old)}"
                        if Path(moved).exists() or not Path(text).exists():  # else written there since the move
                            change = f"UPDATE {table} SET {column} = ? WHERE rowid = ?"  # noqa: S608 - names above
                            connection.execute(change, (moved, row))


def _connect(tracking_uri: str) -> MlflowClient:
    """The client; the warnings of the libraries below it are not the user's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MlflowClient(tracking_uri, tracking_uri)


def _answering(tracking_uri: str) -> MlflowClient:
    """A client whose server answers. Raises Away otherwise."""
    try:
        made = _connect(tracking_uri)
        made.search_experiments(max_results=1)
        return made
    except MlflowException as error:
        do = "start it (`mlflow server`), or unset MLFLOW_TRACKING_URI to use the SQLite file here"
        raise Away(shown(tracking_uri), "a tracking server", reason(error), do) from None


@contextmanager
def asking(about: str) -> Iterator[MlflowClient]:
    """A client for questions about `about`, such as "run 3f2a". Raises SpkdError in MLflow's place.

    That is Away where the store does not answer; otherwise it has no such run.
    """
    try:
        yield client()
    except MlflowException as error:
        if not is_refusal(error):
            raise Away(told(), "an answer", reason(error), "try again when it is back") from None
        raise SpkdError(about, f"a run of {told()}", reason(error), "check the id") from None


def reason(error: Exception) -> str:
    """One line that says why the store could not be reached or said no."""
    text = shown(" ".join(str(error).split()))
    for pattern in (
        r"\[Errno \d+\] [\w -]+(?:: '/[^']*')?",
        r"Read timed out[^)]*",
        r"Name or service not known",
        SQLITE_SAYS,
    ):
        if found := re.search(pattern, text):
            return found.group(0)
    return text[:300]


def experiment_id(made: MlflowClient, tracking_uri: str, name: str) -> str:
    """The id of the experiment, created if need be; a SQLite store keeps artifacts in `mlruns` beside its file.

    Raises SpkdError where an experiment of that name was deleted: MLflow keeps it, and its name, for a while.
    """
    with exclusive(tracking_uri):
        if found := _active(made, tracking_uri, name):
            return found
        path = database(tracking_uri)
        location = str(path.parent / "mlruns" / clean_name(name).replace("/", "_")) if path else None
        try:
            return str(made.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
            found = _active(made, tracking_uri, name)  # another command made it at this moment
            if found is None:
                raise
            return found


def _active(made: MlflowClient, tracking_uri: str, name: str) -> str | None:
    """The id of the experiment of that name, None where there is none; SpkdError where it is a deleted one."""
    found = made.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage != "active":
        do = f"mlflow experiments restore --experiment-id {found.experiment_id}, or set another tracking.experiment"
        raise SpkdError(shown(tracking_uri), f"experiment {name!r}", "a deleted one", do)
    return str(found.experiment_id) if found else None


def show_training_runs(made: MlflowClient, experiment_id: str) -> None:
    """Let the UI open this experiment on its training runs; it shows pages for chat bots otherwise."""
    key = "mlflow.experimentKind"
    if key not in made.get_experiment(experiment_id).tags:
        made.set_experiment_tag(experiment_id, key, "custom_model_development")
