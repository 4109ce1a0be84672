"""Reads runs back: search, artifacts, metric histories, registered models. Writes nothing to the store."""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow.artifacts import download_artifacts
from mlflow.entities import LifecycleStage, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path

from spkd.errors import SpkdError
from spkd.evidence import simulated
from spkd.evidence.tracking import store

PAGE = 1000
EXAMPLE = "\"tags.kind = 'student' AND metrics.`headline/accuracy` > 0.9\""


@dataclass(frozen=True)
class RunInfo:
    """What a search returns of one run. metrics: last values. started_ms, ended_ms: since 1970, 0 = not yet.

    deleted: whether it is in MLflow's trash, where no search finds it and `mlflow gc` ends it.
    """

    id: str
    name: str
    status: str
    experiment_id: str
    started_ms: int
    ended_ms: int
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    deleted: bool = False

    @property
    def simulated(self) -> bool:
        """Whether its data were simulated."""
        return self.tags.get("data.origin") == simulated.ORIGIN

    @property
    def repeats(self) -> bool:
        """Whether it repeats another run, to be judged: it counts beside that run only."""
        return "repeats" in self.tags


def _info(run: Run) -> RunInfo:
    info, data = run.info, run.data
    times = int(info.start_time or 0), int(info.end_time or 0)
    return RunInfo(
        info.run_id, info.run_name, info.status, info.experiment_id, *times,
        dict(data.params), {key: _as_logged(value) for key, value in data.metrics.items()}, dict(data.tags),
        info.lifecycle_stage == LifecycleStage.DELETED,
    )  # fmt: skip


def _as_logged(value: float) -> float:
    """An infinite value again where the database, which holds none, has the largest number in its place."""
    return math.copysign(math.inf, value) if abs(value) == sys.float_info.max else value


def find(filter_string: str = "", limit: int | None = None) -> list[RunInfo]:
    """Runs that match, newest first, e.g. `tags.kind = 'teacher' AND status = 'FINISHED'`, in MLflow's search language.

    Quote keys with special characters by backticks: params.`cfg/train.epochs` = '6'. limit: None = all.
    Raises SpkdError where the words are no search, Away where the store does not answer.
    """
    order = ["attributes.start_time DESC"]
    runs: list[Run] = []
    token = None
    most = PAGE if limit is None else min(PAGE, limit)
    with store.asking("search") as made:
        ids = [e.experiment_id for e in made.search_experiments(ViewType.ACTIVE_ONLY)]
        while ids and (limit is None or len(runs) < limit):
            try:
                page = made.search_runs(ids, filter_string, max_results=most, order_by=order, page_token=token)
            except MlflowException as error:
                if error.error_code != "INVALID_PARAMETER_VALUE":
                    raise
                expected, do = "a search in MLflow's language", f"write it like {EXAMPLE}"
                raise SpkdError(f"search {filter_string!r}", expected, store.reason(error), do) from None
            runs += page
            token = page.token
            if not token:
                break
    return [_info(run) for run in runs[:limit]]


def finished(tags: Mapping[str, str]) -> str:
    """The search for finished runs with these tags. Raises SpkdError for a text that MLflow cannot be asked for."""
    clauses = [f"tags.`{key}` = {_quoted(text)}" for key, text in tags.items()]
    return " AND ".join([*clauses, "attributes.status = 'FINISHED'"])


def _quoted(text: str) -> str:
    """In quotation marks that the text does not hold: MLflow knows no other way to write one."""
    mark = next((mark for mark in "'\"" if mark not in text), None)
    if mark is None or text.endswith("\\"):
        raise SpkdError("search", "a text with one kind of quotation marks", repr(text), "rename what is called so")
    return f"{mark}{text}{mark}"


def get(run_id: str) -> RunInfo:
    """One run. Raises SpkdError where the store has no such run, Away where it does not answer."""
    with store.asking(f"run {run_id}") as made:
        return _info(made.get_run(run_id))


def history(run_id: str, key: str) -> list[tuple[int, float]]:
    """(step, value) of one metric, by step. A value may be nan or infinite."""
    with store.asking(f"run {run_id}") as made:
        return sorted((m.step, _as_logged(m.value)) for m in made.get_metric_history(run_id, key))


def artifact(run_id: str, path: str, folder: Path | None = None) -> Path:
    """A local path of an artifact (file or folder): a copy in folder, or else the artifact itself where it is local.

    Without a folder, what is not local is downloaded into a temporary one, which is the caller's to remove.
    Raises SpkdError where the run has no such artifact.
    """
    with store.asking(f"run {run_id}") as made:
        info = made.get_run(run_id).info
    root = local_file_uri_to_path(str(info.artifact_uri))
    try:
        if folder is None and Path(root, path).exists():
            return Path(root, path)
        target = None if folder is None else str(folder)
        uri = store.absolute(store.uri())
        return Path(download_artifacts(run_id=run_id, artifact_path=path, dst_path=target, tracking_uri=uri))
    except (MlflowException, OSError) as error:
        expected, got, do = f"an artifact {path!r}", store.reason(error), "check the run in the UI"
        if isinstance(error, MlflowException | FileNotFoundError) and info.status != "FINISHED":
            expected, got = f"a finished run, with {path!r}", info.status
            do = "name another one, or give its command again"
        raise SpkdError(f"run {run_id}", expected, got, do) from None


def listing(run_id: str, folder: str = "") -> list[str]:
    """Paths of the artifacts directly in a folder of the run, sorted; [] where there is no such folder."""
    with store.asking(f"run {run_id}") as made:
        return sorted(entry.path for entry in made.list_artifacts(run_id, folder or None))


def inputs(run_id: str) -> dict[str, str]:
    """{data set: digest} that a run logged as its inputs."""
    with store.asking(f"run {run_id}") as made:
        found = made.get_run(run_id).inputs
    return {entry.dataset.name: entry.dataset.digest for entry in found.dataset_inputs} if found else {}


def registered(name: str, version: int | str | None = None) -> str:
    """The id of the run that made a registered model; the newest version where none is asked for."""
    with store.asking(f"model:{name}") as made:
        versions = made.search_model_versions(f"name = {_quoted(name)}")
    wanted = [v for v in versions if version is None or str(v.version) == str(version)]
    if not wanted:
        expected = f"version {version}" if versions else "the name of a registered model"
        got = f"versions {sorted(int(v.version) for v in versions)}" if versions else "none of that name"
        raise SpkdError(f"model:{name}", expected, got, "see the Models page of `mlflow ui`")
    return str(max(wanted, key=lambda v: int(v.version)).run_id)
