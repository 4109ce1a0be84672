"""Compute what a view stores beside the windows, such as persistence diagrams (a DVC stage)."""

from pathlib import Path
from typing import Any

from spkd import config, plugin
from spkd.data import batches, windowset
from spkd.settings import Settings

SECTIONS = ("views", "prepare")
POSITIONAL = ("dataset", "view")


def main(words: list[str], settings: Settings, tree: dict[str, Any]) -> int:
    """Prepare one view of one data set and write data/views/<dataset>/<view>."""
    dataset, view = words
    windows = windowset.load(Path("data/windows") / dataset)
    arrays = plugin.load("views", view).prepare(windows, config.part("views", view, tree))
    folder = Path("data/views") / dataset / view
    batches.store(folder, windows, arrays, view, tree["views"][view])
    size = sum(a.nbytes for a in arrays.values()) / 2**20
    print(f"{dataset}: {view} of {len(windows)} windows, {size:.1f} MiB")
    return 0
