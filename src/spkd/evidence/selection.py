"""Which runs a command means: a list of ids, a search in MLflow's language, or the newest of a data set and fold."""

import re
from collections.abc import Sequence

from spkd.errors import SpkdError
from spkd.evidence import tracking
from spkd.evidence.tracking import RunInfo

HAR_KINDS = ("teacher", "scratch", "student")
DETECTION = "detect"
IDS = re.compile(r"^\s*[0-9a-f]{6,32}(\s*,\s*[0-9a-f]{6,32})*\s*$")


def chosen(words: str) -> list[RunInfo]:
    """The runs that `words` mean: "id, id" (their first 6 digits suffice) in that order, or a search, newest first.

    Of a search, runs that trained nothing (tables, comparisons) are left out. Raises SpkdError where nothing is found
    or an id is not unique.
    """
    if not IDS.match(words):
        found = [run for run in tracking.find(words) if is_training(run)]
        if not found:
            raise SpkdError("runs", "a search that finds training runs", f"none for {words!r}", "see `mlflow ui`")
        return found
    known = tracking.find()
    return [_one(part.strip(), known) for part in words.split(",")]


def _one(start: str, known: Sequence[RunInfo]) -> RunInfo:
    if len(start) == 32:
        return tracking.get(start)
    fitting = [run for run in known if run.id.startswith(start)]
    if len(fitting) != 1:
        raise SpkdError("runs", f"one run that begins with {start}", f"{len(fitting)}", "give the whole id")
    return fitting[0]


def is_training(run: RunInfo) -> bool:
    """Whether a run trained a network, and not to repeat another: a repetition counts beside what it repeats only."""
    return run.tags.get("kind", "") in (*HAR_KINDS, DETECTION) and "repeats" not in run.tags


def of_fold(digest: str, fold: int) -> list[RunInfo]:
    """Every finished training run on windows of this digest and fold, newest first."""
    query = f"tags.`data.digest` = '{digest}' AND tags.fold = '{fold}' AND attributes.status = 'FINISHED'"
    return [run for run in tracking.find(query) if is_training(run)]


def detectors() -> list[RunInfo]:
    """Every finished detection run, newest first."""
    found = tracking.find(f"tags.kind = '{DETECTION}' AND attributes.status = 'FINISHED'")
    return [run for run in found if is_training(run)]


def newest(runs: Sequence[RunInfo]) -> list[RunInfo]:
    """The newest run of each name, teachers first. runs: newest first."""
    first: dict[str, RunInfo] = {}
    for run in runs:
        first.setdefault(run.name, run)
    order = {kind: place for place, kind in enumerate(HAR_KINDS)}
    return sorted(first.values(), key=lambda run: (order.get(run.tags.get("kind", ""), 3), run.name))
