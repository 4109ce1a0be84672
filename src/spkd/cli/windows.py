"""Read a data set's raw recordings and write its windows (a DVC stage)."""

from pathlib import Path
from typing import Any

from spkd import config, plugin, raw_import
from spkd.data import windowing, windowset
from spkd.settings import Settings

SECTIONS = ("datasets",)
POSITIONAL = {"dataset": "an entry of `datasets`"}


def main(words: list[str], settings: Settings, tree: dict[str, Any]) -> int:
    """Read, cut, write data/windows/<dataset>, and say what was dropped; a note where there are no recordings of it."""
    (name,) = words
    part = config.part("datasets", name, tree)
    chosen = part.windows
    folder = Path("data/raw" if chosen.source == "raw" else "data/fetched") / name
    if chosen.source == "raw":
        raw_import.check(folder, f"dvc repro windows@{name}")
    if chosen.source == "raw" and folder.parent.is_dir() and not folder.is_dir():
        why = f"no folder {name} in the recordings that data.dvc imports"
        windowset.leave_out(windowset.FOLDER / name, why)
        print(f"{name}: {why}: left out")
        return 0
    with raw_import.told(chosen.source == "raw"):
        recordings = plugin.load("datasets", name).read(folder, part)
    rule = getattr(chosen, "rule", "sound")
    windows = windowing.cut(recordings, chosen.length, chosen.step, rule, dataset=name, settings=chosen.model_dump())
    windows.save(windowset.FOLDER / name)
    subjects, drops = len(windows.manifest["subjects"]), windows.manifest["drops"]
    print(f"{name}: {len(windows)} windows of {subjects} subjects, digest {windows.digest}")
    for reason, n in drops.items():
        print(f"  dropped {n}: {reason}; first: {windows.manifest['first_seen'].get(reason, '?')}")
    return 0
