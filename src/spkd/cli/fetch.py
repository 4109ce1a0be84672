"""Download a data set's public source, resumed and checked; nothing to do where the recordings are your own.

Knows the folder data/fetched/<name>. Its marker source.json is written last: a broken download never looks finished.
"""

import json
from pathlib import Path
from typing import Any

from spkd import atomic, plugin
from spkd.data import coco_source, fetch
from spkd.errors import SpkdError
from spkd.settings import Settings

SECTIONS = ("datasets", "coco")
POSITIONAL = {"dataset": "an entry of `datasets`, or coco"}
OPTIONS = {"url": "a mirror instead of the published address; a folder of several files ends in /"}

FETCHED, MARKER = Path("data/fetched"), "source.json"


def main(words: list[str], settings: Settings, tree: dict[str, Any], options: dict[str, str]) -> int:
    """Fetch what `datasets.<dataset>.windows.source` or `coco.source` names; --url: a mirror (a folder ends in /)."""
    (name,) = words
    folder, url = FETCHED / name, options.get("url")
    if name != "coco" and name not in settings.datasets:
        known = plugin.nearest(name, [*settings.datasets, "coco"])
        raise SpkdError("command line", "an entry of `datasets`, or coco", repr(name), known)
    source = settings.coco.source if name == "coco" else settings.datasets[name]["windows"]["source"]
    remotes: list[fetch.Remote] = []
    if name == "coco" and source in coco_source.FOLDERS:
        files = {part: entry.model_dump() for part, entry in settings.coco.files.items()}
        remotes = coco_source.obtain(source, files, folder, url)
    elif name != "coco" and source == "uci":
        remotes = fetch_entries(name, folder, url)
    elif name != "coco" and source != "raw":
        known = plugin.nearest(source, ["raw", "uci"])
        raise SpkdError(f"datasets.{name}.windows.source", "raw or uci", f"{source!r}", known)
    elif source != "raw" and not Path(source).is_dir():
        known = plugin.nearest(source, ["raw", *coco_source.FOLDERS])
        raise SpkdError("coco.source", "raw, val2017, coco2017 or a folder", f"{source!r}, which is none", known)
    files_got = [{"file": r.file, "size": r.size, "digest": r.digest} for r in remotes]
    marker = {"dataset": name, "source": source, "files": files_got}
    atomic.write_text(folder / MARKER, json.dumps(marker, indent=1) + "\n")
    print(f"{name}: source {source!r}: " + (f"{len(remotes)} files complete" if remotes else "nothing to download"))
    return 0


def fetch_entries(name: str, folder: Path, url: str | None) -> list[fetch.Remote]:
    """Download the FETCH entries of a data set's file."""
    entries = plugin.describe("datasets", name)[1].get("FETCH", [])
    if not entries:
        do = f"set datasets.{name}.windows.source to raw and bring your own recordings (FETCH is read as a literal)"
        raise SpkdError(f"src/spkd/datasets/{name}.py", "a public source (FETCH)", "none", do)
    remotes = fetch.remotes(entries, url)
    for remote in remotes:
        fetch.download(remote, folder)
    return remotes
