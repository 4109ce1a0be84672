"""Whether prepared data still fit settings and code, and what DVC recorded of them. Reads, and writes nothing."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spkd import config, raw_import
from spkd.errors import SpkdError

DVC_LOCK = Path("dvc.lock")


def lineage(folder: Path, repo: Path = Path()) -> tuple[str | None, str]:
    """(md5 that dvc.lock has of prepared data, 36 characters, or None; the lock's text, "" where there is none).

    None where the folder does not hold what the lock records: DVC did not make it, or the lock is of another state,
    which is said. folder: relative to repo, e.g. data/windows/pamap2.
    """
    text = (repo / DVC_LOCK).read_text(encoding="utf-8") if (repo / DVC_LOCK).is_file() else ""
    stage = _stage(text, folder)
    md5 = next((out["md5"] for out in stage["outs"] if out["path"] == folder.as_posix()), None) if stage else None
    if md5 is None or md5 == _md5(repo / folder):
        return md5, text
    print(f"{folder} is not what {DVC_LOCK} records: `dvc repro` makes them agree; the run goes by its own digest")
    return None, text


def _md5(folder: Path) -> str:
    """The md5 that DVC gives a folder: of the list of its files with theirs."""
    found = []
    for path in filter(Path.is_file, folder.rglob("*")):
        with path.open("rb") as file:
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        found.append({"md5": md5, "relpath": path.relative_to(folder).as_posix()})
    listed = json.dumps(sorted(found, key=lambda one: one["relpath"]), sort_keys=True)
    return hashlib.md5(listed.encode(), usedforsecurity=False).hexdigest() + ".dir"


def _stage(lock_text: str, folder: Path) -> dict[str, Any] | None:
    stages = (config.parse(lock_text, str(DVC_LOCK)) or {}).get("stages", {})
    for stage in stages.values():
        if any(out["path"] == folder.as_posix() for out in stage.get("outs", [])):
            return dict(stage)
    return None


def check_fresh(folder: Path, used: Mapping[str, Any], settings: Mapping[str, Any], repo: Path = Path()) -> None:
    """Raise SpkdError where prepared data are older than the settings or the code that make them.

    folder: relative to repo, e.g. data/windows/pamap2. used: the settings that its manifest names. settings: the
    current `datasets.<name>.windows`. Code is compared with the md5 that DVC recorded of each single file. Raw data are
    left to `dvc repro`, but for recordings that were not imported as `data.dvc` says (`raw_import`).
    """
    command = f"dvc repro windows@{folder.name}"
    do = f"run `{command}`"
    if settings.get("source", "raw") == "raw":
        raw_import.check(folder, command, repo)
    changed = [key for key in sorted({*used, *settings}) if used.get(key) != settings.get(key)]
    if changed:
        now = ", ".join(f"{key} = {settings.get(key, 'absent')}" for key in changed)
        was = ", ".join(f"{key} = {used.get(key, 'absent')}" for key in changed)
        do += ", which reads params.yaml and no command line"
        raise SpkdError(folder, f"data prepared with {now}", f"stale data with {was}", do)
    check_code(folder, do, repo)


def check_code(folder: Path, do: str, repo: Path = Path()) -> None:
    """Raise SpkdError where a DVC stage made the folder with other code than is here now. do: what renews it."""
    lock = repo / DVC_LOCK
    stage = _stage(lock.read_text(encoding="utf-8"), folder) if lock.is_file() else None
    for dependency in stage.get("deps", []) if stage else []:
        path = repo / dependency["path"]
        if dependency.get("md5", ".dir").endswith(".dir"):
            continue
        if not path.is_file() or hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != dependency["md5"]:
            raise SpkdError(
                folder, "data prepared with the code that is here", f"{dependency['path']} changed since", do
            )
