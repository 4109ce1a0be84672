"""Show what a data set's windows hold: counts, rates, gaps, drops, and a picture of one window per class."""

import warnings
from pathlib import Path
from typing import Any

from spkd import atomic, plugin
from spkd.errors import SpkdError
from spkd.settings import Settings

SECTIONS = ("dataset", "datasets")
POSITIONAL = {"dataset?": "an entry of `datasets`; without it, that of the setting `dataset`"}


def main(words: list[str], settings: Settings, tree: dict[str, Any]) -> int:
    """Print the description of data/windows/<dataset> and draw data/inspect/<dataset>.png."""
    from spkd.data import inspection, windowset

    name = words[0] if words else settings.dataset
    if name not in settings.datasets:
        advice = plugin.nearest(name, list(settings.datasets))
        raise SpkdError("command line", "a data set of params.yaml", repr(name), advice)
    windows = windowset.load(windowset.FOLDER / name)
    print(inspection.describe(windows))
    path = Path("data/inspect") / f"{name}.png"
    with atomic.file(path) as new, warnings.catch_warnings(record=True) as said:
        warnings.filterwarnings("always", message="Glyph")
        inspection.figure(windows).savefig(new, dpi=110, format="png")
    others = [warning for warning in said if not str(warning.message).startswith("Glyph")]
    for warning in others:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if len(others) < len(said):
        print("letters of some names are boxes in the picture: matplotlib's font does not have them")
    print(f"\none window of each class: {path}")
    return 0
