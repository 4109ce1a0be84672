"""Which runs a command means: a list of ids, a search in MLflow's language, or the newest of a data set and fold."""

import re
from collections.abc import Callable, Sequence

from spkd.errors import SpkdError
from spkd.evidence import tracking
from spkd.evidence.tracking import RunInfo

HAR_KINDS = ("teacher", "scratch", "student")
DETECTION = "detect"
# Runs that hold a network, of recordings or images, which their kind does not tell.
COPIES = ("repetition", "imported")
WHERE_IDS_ARE = "`mlflow ui` and `spkd compare` show ids"
ID = re.compile(r"[0-9a-f]{6,32}")
IDS = re.compile(r"^\s*[0-9a-f]{6,32}(\s*,\s*[0-9a-f]{6,32})*\s*$")


def chosen(words: str) -> list[RunInfo]:
    """The runs that `words` mean: "id, id" (their first 6 digits suffice) in that order, or a search, newest first.

    Of a search, runs that trained nothing (tables, comparisons) are left out, and those that are not finished, which is
    said. Raises SpkdError where nothing is found, an id is not unique or a run that was named trained nothing.
    """
    if IDS.match(words):
        return [_trained(by_id(part.strip())) for part in words.split(",")]
    found = [run for run in tracking.find(words) if is_training(run)]
    done = [run for run in found if run.status == "FINISHED"]
    if len(done) < len(found):
        print(f"{len(found) - len(done)} of {len(found)} runs of the search are not finished and left out")
    if not done:
        do = f"see `mlflow ui`; the store is {tracking.told()}"
        raise SpkdError("runs", "a search that finds finished training runs", f"none for {words!r}", do)
    return done


def by_id(start: str) -> RunInfo:
    """The one run whose id begins with these digits, at least 6 of its 32.

    Raises SpkdError where there is no such, or it was deleted: it may be gone at any time.
    """
    if len(start) == 32:
        if (run := tracking.get(start)).deleted:
            do = f"bring it back: mlflow runs restore --run-id {start}"
            raise SpkdError(f"run {start}", "a run that is there", "one that was deleted", do)
        return run
    if not ID.fullmatch(start):
        raise SpkdError("runs", "the id of a run, or its first digits (6 or more)", repr(start), WHERE_IDS_ARE)
    fitting = tracking.find(f"attributes.run_id LIKE '{start}%'", limit=2)
    if len(fitting) != 1:
        got, do = ("two", "give the whole id") if fitting else (f"none in {tracking.told()}", WHERE_IDS_ARE)
        raise SpkdError("runs", f"one run that begins with {start}", got, do)
    return fitting[0]


def require(run: RunInfo, kinds: Sequence[str], commands: str, do: str) -> None:
    """Raise SpkdError where a run is of none of these kinds, which `commands` makes: it holds no such network."""
    if (kind := run.tags.get("kind", "none: a run of another program")) not in kinds:
        raise SpkdError(f"run {run.id}", f"a run of {commands}", f"{run.name!r} (kind {kind})", do)


def _trained(run: RunInfo) -> RunInfo:
    if not run.repeats:
        require(run, (*HAR_KINDS, DETECTION), "teacher, distill or detect", "leave it out")
    return run


def is_training(run: RunInfo) -> bool:
    """Whether a run trained a network, and not to repeat another: a repetition counts beside what it repeats only."""
    return run.tags.get("kind", "") in (*HAR_KINDS, DETECTION) and not run.repeats


def is_detector(run: RunInfo) -> bool:
    """Whether a run trained a detector, as itself or to repeat another: a repetition loses its kind, not its method."""
    return run.tags.get("kind") == DETECTION or "distill.method" in run.tags


def of_fold(digest: str, fold: int) -> list[RunInfo]:
    """Every finished training run on windows of this digest and fold, newest first."""
    found = tracking.find(tracking.finished({"data.digest": digest, "fold": str(fold)}))
    return [run for run in found if is_training(run)]


def wanted(words: str, digest: Callable[[], str], fold: int) -> list[RunInfo]:
    """The runs that `words` mean (see `chosen`); without words those of a fold of the windows with that digest.

    digest: asked for without words only, so that runs can be named where no windows are.
    """
    return chosen(words) if words else of_fold(digest(), fold)


def nothing(dataset: str, fold: int) -> str:
    """What to say where there is no such run."""
    return (
        f"no finished runs of {dataset}, fold {fold}, in {tracking.told()}: mlflow run . -e distill. For runs of "
        "another store, run from the project's folder, or set MLFLOW_TRACKING_URI"
    )


def detectors() -> list[RunInfo]:
    """Every finished detection run, newest first."""
    return [run for run in tracking.find(tracking.finished({"kind": DETECTION})) if is_training(run)]


def newest(runs: Sequence[RunInfo]) -> list[RunInfo]:
    """The newest run of each name, teachers first. runs: newest first."""
    first: dict[str, RunInfo] = {}
    for run in runs:
        first.setdefault(run.name, run)
    order = {kind: place for place, kind in enumerate(HAR_KINDS)}
    return sorted(first.values(), key=lambda run: (order.get(run.tags.get("kind", ""), 3), run.name))
