"""Reads the record of one run from MLflow: metrics' histories and the artifacts that training left there.

A run without some artifact (another kind of run, an older one) gives a record without it; a damaged one is an error.
"""

import contextlib
import hashlib
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from spkd.errors import SpkdError
from spkd.evidence import similarity, tracking
from spkd.evidence.comparison.plain_text import RESULTS
from spkd.evidence.comparison.record import Map, Record, flat
from spkd.evidence.tracking import RunInfo

ARTIFACTS = {
    "settings": "settings.json", "environment": "environment.json", "patch": "code.patch",
    "manifest": "data/manifest.json", "names": "data/data.yaml", "preflight": "data/preflight.json",
    "confusion": "confusion.json", "subjects": "per_subject.json",
}  # fmt: skip
FACTS = ("dataset", "length", "step", "rate_hz", "rule", "channels", "classes", "n_windows", "drops", "origin")
ARRAYS = re.compile(r"^maps/(arrays_)?\d+\.npz$")


def read(run: RunInfo) -> Record:
    """Everything that the run has for the page. Raises SpkdError where an artifact cannot be read."""
    with tempfile.TemporaryDirectory() as scratch:
        found = _fetch(run, Path(scratch))
        maps, rows = _maps(run, Path(scratch))
    manifest = found.get("manifest", {})
    keys = [key for key in run.metrics if key.split("/")[0] not in RESULTS]
    curves = {key: tracking.history(run.id, key) for key in keys}
    classes, confusion = _confusion(found.get("confusion"))
    subjects = _columns(found.get("subjects"))
    return Record(
        run=run,
        settings=flat(found.get("settings", {})),
        taught=_taught(run),
        data=_data(run, manifest, found.get("preflight", {})),
        environment=flat(found.get("environment", {})),
        code=_code(run, found.get("patch", "")),
        curves={key: points for key, points in curves.items() if len(points) > 1},
        maps=maps,
        rows=rows,
        classes=classes or _names(found.get("names")),
        confusion=confusion,
        subjects={
            str(name): (accuracy, windows)
            for name, accuracy, windows in zip(
                *(subjects.get(k, []) for k in ("subject", "accuracy", "windows")), strict=True
            )
        },
    )


def _fetch(run: RunInfo, folder: Path) -> dict[str, Any]:
    """The artifacts that the run has, read."""
    there = {path for parent in ("", "data") for path in tracking.listing(run.id, parent)}
    found: dict[str, Any] = {}
    for name, path in ARTIFACTS.items():
        if path in there:
            text = tracking.artifact(run.id, path, folder).read_text(encoding="utf-8")
            found[name] = text if path.endswith(".patch") else _parsed(run, path, text)
    return found


def _parsed(run: RunInfo, path: str, text: str) -> Any:
    try:
        return yaml.safe_load(text) if path.endswith(".yaml") else json.loads(text)
    except (ValueError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise SpkdError(f"run {run.id}: {path}", "a readable artifact", why, "leave the run out") from None


def _maps(run: RunInfo, folder: Path) -> tuple[dict[int, dict[str, Map]], str]:
    """(maps by step and layer, which windows they show) of all steps that were kept."""
    found: dict[int, dict[str, Map]] = {}
    rows = ""
    for path in tracking.listing(run.id, "maps"):
        if ARRAYS.match(path):
            with np.load(tracking.artifact(run.id, path, folder), allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            found[int(Path(path).stem.removeprefix("arrays_"))] = {
                name: Map(labels, {"student": layer.student, **layer.teachers})
                for name, (layer, labels) in similarity.stored(arrays).items()
            }
            rows = rows or _identity(arrays, run.tags.get("data.digest", ""))
    return dict(sorted(found.items())), rows


def _identity(arrays: dict[str, np.ndarray], digest: str) -> str:
    """A hash of which windows or objects of the data with that digest a map shows, and of their classes."""
    total = hashlib.sha256(digest.encode())
    for name in ("rows", "labels", "image_class", "object_class"):
        if name in arrays:
            total.update(name.encode() + np.asarray(arrays[name], np.int64).tobytes())
    return total.hexdigest()


def _columns(table: dict[str, Any] | None) -> dict[str, list[Any]]:
    if not table:
        return {}
    return {name: [row[k] for row in table["data"]] for k, name in enumerate(table["columns"])}


def _confusion(table: dict[str, Any] | None) -> tuple[list[str], np.ndarray | None]:
    columns = _columns(table)
    if not columns:
        return [], None
    classes = [str(name) for name in columns["true"]]
    return classes, np.array([columns[name] for name in classes], dtype=np.int64).T


def _names(data_yaml: dict[str, Any] | None) -> list[str]:
    names = (data_yaml or {}).get("names", [])
    return [str(name) for name in (names.values() if isinstance(names, dict) else names)]


def _data(run: RunInfo, manifest: dict[str, Any], preflight: dict[str, Any]) -> dict[str, Any]:
    """What the run was trained and tested on."""
    tags = {k: v for k, v in run.tags.items() if k.startswith("data.")}
    subjects = {k: v for k, v in run.tags.items() if k.endswith("_subjects")}
    facts = {f"windows.{key}": manifest[key] for key in FACTS if key in manifest}
    return {**tags, **subjects, **flat(facts), **{f"preflight.{k}": v for k, v in flat(preflight).items()}}


def _taught(run: RunInfo) -> dict[str, str]:
    """The settings of its teachers, and of the student that it started from, as far as the store has their runs."""
    found: dict[str, str] = {}
    for tag, run_id in run.tags.items():
        name = tag.removesuffix(".run_id")
        if name == tag or not name.startswith(("teacher.", "init")):
            continue
        with contextlib.suppress(SpkdError):  # deleted since, or the run came in a bundle
            own = tracking.get(run_id).params
            of = name.removeprefix("teacher.")
            found |= {f"{of}.{k.removeprefix('cfg/')}": v for k, v in own.items() if k.startswith("cfg/")}
    return found


def _code(run: RunInfo, patch: str) -> dict[str, Any]:
    tags = {k.removeprefix("code."): v for k, v in run.tags.items() if k.startswith("code.")}
    if patch:
        sha256 = hashlib.sha256(patch.encode()).hexdigest()[:12]
        tags["patch"] = f"{len(patch.splitlines())} lines, sha256 {sha256}"
    return tags
