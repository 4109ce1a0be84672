"""Train a student from any number of teachers (none: a scratch student), tracked in MLflow."""

from typing import Any

from spkd.evidence import machine
from spkd.experiment import har, plan
from spkd.settings import Settings

SECTIONS = (
    "preset", "dataset", "fold", "run", "student", "distill", "losses", "weightings", "networks", "views", "train",
    "tracking",
)  # fmt: skip


def main(words: list[str], settings: Settings, tree: dict[str, Any]) -> int:
    """Train it, after any teacher that does not exist yet."""
    here = plan.places_here(settings)
    wanted = settings.run.device
    print(machine.line(plan.device(wanted), wanted), flush=True)
    har.train(har.Wanted("student", settings, tree, here))
    return 0
