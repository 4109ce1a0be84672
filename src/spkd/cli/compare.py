"""Print the newest teacher, scratch student, distilled student and detector side by side, and how to see more."""

from pathlib import Path
from typing import Any

from spkd.data import atomic, windowset
from spkd.evidence import comparison, tracking
from spkd.evidence.tracking import RunInfo
from spkd.experiment import plan
from spkd.settings import Settings

SECTIONS = ("dataset", "fold")
POSITIONAL = ()
OPTIONS = ("csv",)
FACTS = ("kind", "view", "network", "fold", "trial", "data.digest", "weights.sha256", "weights.epoch", "code.commit")


def main(words: list[str], settings: Settings, tree: dict[str, Any], options: dict[str, str]) -> int:
    """The comparison of the data set and fold in the settings; --csv FILE writes every run of them, one row each."""
    here = plan.places_here(settings)
    digest = windowset.load(here.data / "windows" / settings.dataset).digest
    query = f"tags.`data.digest` = '{digest}' AND tags.fold = '{settings.fold}' AND attributes.status = 'FINISHED'"
    found = tracking.find(query, newest_first=True)
    if "csv" in options:
        atomic.write_text(Path(options["csv"]), comparison.csv_text(found, FACTS))
        print(f"{options['csv']}: {len(found)} runs")
    runs = newest(found)
    if not runs:
        print(f"no finished runs of {settings.dataset}, fold {settings.fold}: mlflow run . -e distill")
        return 1
    print(f"\n{settings.dataset}, fold {settings.fold}: accuracy on test subjects {runs[0].tags['test_subjects']}")
    print(comparison.text(runs, comparison.HAR))
    print(f"headline: {runs[0].tags['headline']}. `best on test` looks at the answer: never report it alone.")
    detectors = newest(tracking.find("tags.kind = 'detect' AND attributes.status = 'FINISHED'"))
    if detectors:
        print("\ndetection\n" + comparison.text(detectors, comparison.DETECTION))
    if any(run.tags.get("data.origin") == "simulated" for run in [*runs, *detectors]):
        print("\nSIMULATED recordings: these figures show that everything runs, not what a method is worth.")
    print("\nCurves, similarity maps and lineage: make ui, then http://127.0.0.1:5000, tick runs, Compare.")
    return 0


def newest(runs: list[RunInfo]) -> list[RunInfo]:
    """The newest run of each name, teachers first."""
    first: dict[str, RunInfo] = {}
    for run in runs:
        first.setdefault(run.name, run)
    order = {"teacher": 0, "scratch": 1, "student": 2}
    return sorted(first.values(), key=lambda run: (order.get(run.tags.get("kind", ""), 3), run.name))
