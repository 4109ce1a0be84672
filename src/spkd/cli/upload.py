"""Deliver a run's local copy to MLflow, after the server went away during training."""

from pathlib import Path
from typing import Any

from spkd.evidence import tracking
from spkd.settings import Settings

SECTIONS = ()
POSITIONAL = {"folder": "a run's folder below runs/, or runs itself for all of them"}


def main(words: list[str], settings: Settings, tree: dict[str, Any]) -> int:
    """Send what has not arrived."""
    print(f"{tracking.upload(Path(words[0]))} events sent")
    return 0
