"""Mark runs that look RUNNING but have nobody behind them, such as those whose environment failed to build."""

from pathlib import Path
from typing import Any

from spkd.errors import SpkdError
from spkd.evidence import tracking
from spkd.settings import Settings

SECTIONS = ("run",)
OPTIONS = {
    "minutes": "how long ago `mlflow run` opened a run here that never began, to be marked; default 10 [minutes]"
}


def main(words: list[str], settings: Settings, tree: dict[str, Any], options: dict[str, str]) -> int:
    """Runs of dead processes, and runs that `mlflow run` opened here and that never started."""
    try:
        minutes = float(options.get("minutes", "10"))
    except ValueError:
        do = "spkd clean-up --minutes 10"
        raise SpkdError("--minutes", "a number", repr(options["minutes"]), do) from None
    swept = tracking.sweep(Path(settings.run.folder))
    marked = tracking.clean_up(minutes, Path.cwd())
    print(f"{len(swept)} killed runs closed, {len(marked)} runs without a process marked: {' '.join(marked) or 'none'}")
    return 0
