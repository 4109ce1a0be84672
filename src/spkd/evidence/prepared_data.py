"""Whether prepared data still fit settings and code, and what DVC recorded of them. Reads, and writes nothing."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spkd import config
from spkd.errors import SpkdError

DVC_LOCK = Path("dvc.lock")
IMPORT = Path("data.dvc")


def lineage(folder: Path, repo: Path = Path()) -> tuple[str | None, str]:
    """(md5 that dvc.lock has of prepared data, 36 characters, or None where DVC did not make them; the lock's text).

    folder: relative to repo, e.g. data/windows/pamap2.
    """
    text = (repo / DVC_LOCK).read_text(encoding="utf-8") if (repo / DVC_LOCK).is_file() else ""
    stage = _stage(text, folder)
    md5 = next((out["md5"] for out in stage["outs"] if out["path"] == folder.as_posix()), None) if stage else None
    return md5, text


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
    left to `dvc repro`, but for recordings that `spkd use-recordings` named and nothing has imported yet.
    """
    do = f"run `dvc repro windows@{folder.name}`"
    if settings.get("source", "raw") == "raw" and (named := _not_imported(repo / IMPORT)):
        raise SpkdError(folder, f"data prepared from {named}, which {IMPORT} names", "data from before that", do)
    changed = [key for key in sorted({*used, *settings}) if used.get(key) != settings.get(key)]
    if changed:
        now = ", ".join(f"{key} = {settings.get(key, 'absent')}" for key in changed)
        was = ", ".join(f"{key} = {used.get(key, 'absent')}" for key in changed)
        raise SpkdError(folder, f"data prepared with {now}", f"stale data with {was}", do)
    check_code(folder, do, repo)


def check_code(folder: Path, do: str, repo: Path = Path()) -> None:
    """Raise SpkdError where a DVC stage made the folder with other code than is here now. do: what renews it."""
    lock = repo / DVC_LOCK
    stage = _stage(lock.read_text(encoding="utf-8"), folder) if lock.is_file() else None
    for dependency in stage.get("deps", []) if stage else []:
        path = repo / dependency["path"]
        if dependency.get("md5", "").endswith(".dir") or path.is_dir() or "md5" not in dependency:
            continue
        if not path.is_file() or _changed(path, dependency):
            raise SpkdError(
                folder, "data prepared with the code that is here", f"{dependency['path']} changed since", do
            )


def _not_imported(path: Path) -> str | None:
    """Where data.dvc says that recordings are, if `dvc repro` has not brought them from there yet."""
    stage = (config.parse(path.read_text(encoding="utf-8"), str(path)) if path.is_file() else None) or {}
    outs, deps = stage.get("outs"), stage.get("deps")
    return str(deps[0].get("path")) if outs and deps and "md5" not in outs[0] else None


def _changed(path: Path, dependency: Mapping[str, Any]) -> bool:
    if path.stat().st_size != dependency.get("size", path.stat().st_size):
        return True
    return bool(hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != dependency["md5"])
