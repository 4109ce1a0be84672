"""Compute what a view stores beside the windows, such as persistence diagrams (a DVC stage)."""

from typing import Any

from spkd import config, plugin
from spkd.data import prepared, windowset
from spkd.errors import SpkdError
from spkd.settings import Settings

SECTIONS = ("views", "prepare")
POSITIONAL = {"dataset": "an entry of `datasets`", "view": "an entry of `views` that stores something"}

DO = "leave it out of `prepare`: it needs no stage"


def main(words: list[str], settings: Settings, tree: dict[str, Any]) -> int:
    """Prepare one view of one data set and write data/views/<dataset>/<view>."""
    dataset, view = words
    cut, folder = windowset.FOLDER / dataset, prepared.FOLDER / dataset / view
    module = plugin.load("views", view)
    if not hasattr(module, "prepare"):
        raise SpkdError("command line", "a view that stores something", f"{view}, which is drawn batch by batch", DO)
    if windowset.is_left_out(cut):
        windowset.leave_out(folder, f"no windows of {dataset}")
        print(f"{dataset}: {view}: no windows: left out")
        return 0
    windows = windowset.load(cut)
    arrays = module.prepare(windows, config.part("views", view, tree))
    prepared.save(folder, windows, arrays, view, tree["views"][view])
    size = sum(a.nbytes for a in arrays.values()) / 2**20
    print(f"{dataset}: {view} of {len(windows)} windows, {size:.1f} MiB")
    return 0
