"""Let `mlflow run .` use this environment, after checking it against requirements.lock."""

from pathlib import Path
from typing import Any

from spkd.evidence.tracking import environment
from spkd.settings import Settings

SECTIONS = ()


def main(words: list[str], settings: Settings, tree: dict[str, Any]) -> int:
    """Bind and say where."""
    print(f"mlflow run . uses this environment ({environment.bind(Path.cwd())})")
    return 0
