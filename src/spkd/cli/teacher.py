"""Train a teacher on one view of the chosen data set and fold, tracked in MLflow."""

from typing import Any

from spkd.evidence import machine
from spkd.experiment import har, plan
from spkd.settings import Settings

SECTIONS = ("preset", "dataset", "fold", "run", "teacher", "networks", "views", "train", "tracking")


def main(words: list[str], settings: Settings, tree: dict[str, Any]) -> int:
    """Train it."""
    here = plan.places_here(settings)
    wanted = settings.run.device
    print(machine.line(plan.device(wanted), wanted), flush=True)
    har.train(har.Wanted("teacher", settings, tree, here))
    return 0
