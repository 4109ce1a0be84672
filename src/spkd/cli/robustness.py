"""Test any runs on recordings again under noise, wrong gain, lost stretches and lost channels: curves and table."""

from typing import Any

from spkd.settings import Settings

SECTIONS = ("robustness", "dataset", "fold", "run", "tracking.experiment")


def main(words: list[str], settings: Settings, tree: dict[str, Any]) -> int:
    """Measure robustness.runs and log the result as a run of its own; 1 where one could not be tested, or is odd."""
    from spkd.experiment import plan, robustness

    return 0 if robustness.test_all(settings, tree, plan.places_here(settings)) else 1
