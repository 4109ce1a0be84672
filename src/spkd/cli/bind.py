"""Let `mlflow run .` use this environment, after checking it against requirements.lock."""

from pathlib import Path
from typing import Any

from spkd.evidence import tracking_project
from spkd.settings import Settings

SECTIONS = ()


def main(words: list[str], settings: Settings, tree: dict[str, Any]) -> int:
    """Bind and say where."""
    print(f"mlflow run . uses this environment ({tracking_project.bind(Path.cwd())})")
    return 0
