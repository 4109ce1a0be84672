"""A run as a folder of plain files: what `export` packs and what `reproduce` compares; the same for both.

Contract: run.json (tags, params, last metrics), history.json, artifacts/ (settings, environment, patch, data, maps,
weights, tables), requirements.lock, teachers/<name>/ (weights and run.json), trials.json (the same settings with other
seeds). No pickle, no pictures. Nothing in a folder that came from elsewhere is believed beyond what it hashes to.
"""

import hashlib
import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from spkd import config
from spkd.errors import SpkdError
from spkd.evidence import lock_file, provenance, tracking, working_tree
from spkd.evidence.reproduction import bundle, judge, parts
from spkd.evidence.reproduction.judge import Record
from spkd.evidence.tracking.run import PARAM_LENGTH, texts

FOLDERS = ("", "data", "maps", "model")
WEIGHTS = "weights.safetensors"
RESULTS = ("headline/accuracy", "headline/macro_f1", "best/mAP50-95", "best/mAP50")
REPEATABLE = ("teacher", "scratch", "student", "detect")
# These choose the machine or name the teachers, whose weights are compared instead.
NOT_COMPARED = (
    "run.device", "run.threads", "detect.device", "distill.teachers", "distill.init", "detect.distill.teacher",
)  # fmt: skip
LARGEST_MAPS_BYTES = 1 << 28


def gather(run_id: str, project: Path, folder: Path) -> None:
    """Fill an empty folder with a finished run of the store. project: the git repository, for the text of the lock."""
    info = tracking.get(run_id)
    if info.status != "FINISHED":
        raise SpkdError(f"run {run_id}", "a finished run", info.status, "wait for it, or choose another")
    if "code.commit" not in info.tags or info.tags.get("kind") not in REPEATABLE:
        raise SpkdError(f"run {run_id}", "a run of teacher, distill or detect", info.name, "choose another")
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "run.json", {**asdict(info), "inputs": tracking.inputs(run_id)})
    _write(folder / "history.json", {key: tracking.history(run_id, key) for key in sorted(info.metrics)})
    with tempfile.TemporaryDirectory() as scratch:
        for path in (p for part in FOLDERS for p in tracking.listing(run_id, part)):
            if Path(path).suffix in bundle.SUFFIXES:
                _move(tracking.artifact(run_id, path, Path(scratch)), folder / "artifacts" / path)
        for name in ancestors(info.tags):
            own, sha256 = info.tags[f"{name}.run_id"], info.tags.get(f"{name}.sha256", "")
            try:
                _teacher(own, sha256, folder / "teachers" / name.removeprefix("teacher."), Path(scratch))
            except SpkdError as error:
                do = "nothing repeats it without these weights but a bundle that was exported while they were there"
                raise SpkdError(
                    f"run {run_id}: {name}", f"the weights of run {own}", str(error).rpartition("; ")[0], do
                ) from None
    _lock(folder, info.tags["code.commit"], project)
    _write(folder / "trials.json", [asdict(t) for t in _trials(info)])


def ancestors(tags: Mapping[str, str]) -> list[str]:
    """Tag prefixes of the networks that a run builds on: teacher.<name>, init."""
    return [
        key.removesuffix(".run_id") for key in sorted(tags) if re.fullmatch(r"(teacher\.[\w.-]+|init)\.run_id", key)
    ]


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, sort_keys=True), encoding="utf-8")


def _move(source: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, to)


def _teacher(run_id: str, sha256: str, folder: Path, scratch: Path) -> None:
    info = tracking.get(run_id)
    _write(folder / "run.json", asdict(info))
    found = [path for path in tracking.listing(run_id, "model") if path.endswith(".safetensors")]
    if not found:
        raise SpkdError(f"run {run_id}", "the weights of a teacher", "none", "restore its artifacts")
    stored = _stored(run_id, sha256, scratch) or tracking.artifact(run_id, found[-1], scratch)
    _move(stored, folder / WEIGHTS)


def has_weights(run_id: str, sha256: str) -> bool:
    """Whether a run of the store has a weights file of that hash; one in MLflow's trash may not be named any more."""
    with tempfile.TemporaryDirectory() as scratch:
        return _stored(run_id, sha256, Path(scratch)) is not None and not tracking.get(run_id).deleted


def _stored(run_id: str, sha256: str, scratch: Path) -> Path | None:
    """A copy in scratch of the weights file with that hash; None where the run or such a file is not there."""
    try:
        paths = [path for path in tracking.listing(run_id, "model") if path.endswith(".safetensors")]
    except SpkdError:
        return None
    files = (tracking.artifact(run_id, path, scratch) for path in paths)
    return next((file for file in files if weights_sha256(file) == sha256), None)


def _lock(folder: Path, commit: str, project: Path) -> None:
    """The lock file that the run's environment record names: that of the commit, or the project's present one."""
    wanted = parts.read(folder, "artifacts/environment.json")["lock_sha256"]
    shown, here = working_tree.git(project, "show", f"{commit}:{lock_file.NAME}"), project / lock_file.NAME
    for text in (shown.stdout.encode("utf-8", "surrogateescape"), here.read_bytes() if here.is_file() else b""):
        if wanted and hashlib.sha256(text).hexdigest() == wanted:
            (folder / lock_file.NAME).write_bytes(text)


def _trials(info: tracking.RunInfo) -> list[tracking.RunInfo]:
    """The newest finished run of every seed with these settings, code, data and teachers, by seed."""
    wanted = _from_info(asdict(info))
    like = {key: text for key, text in info.tags.items() if key in ("kind", "data.digest", "fold", "code.commit")}
    found, patch = {wanted.seed: info}, _patch_sha256(info.tags)
    for other in tracking.find(tracking.finished(like)) if patch is not None else []:
        record = _from_info(asdict(other))
        same = _without_seed(record) == _without_seed(wanted) and _patch_sha256(other.tags) == patch
        same = same and record.machine.get("lock") == wanted.machine.get("lock")
        if same and record.seed not in found and not other.repeats:
            found[record.seed] = other
    return [found[seed] for seed in sorted(found, key=lambda s: (len(s), s))]


def _patch_sha256(tags: Mapping[str, str]) -> str | None:
    """The hash of the changes that the run's code had over its commit, "" = none; None = not known."""
    if "code.patch_cut" in tags or tags.get("code.commit") == "unknown":
        return None
    return tags.get("code.patch_sha256", "" if tags.get("code.dirty") == "false" else None)


def _without_seed(record: Record) -> tuple[dict[str, str], dict[str, str]]:
    settings = {k: v for k, v in record.settings.items() if k != "run.seed"}
    return settings, {k: v for k, v in record.inputs.items() if k not in ("first weights", "first batch")}


def record(folder: Path) -> Record:
    """What is compared of the gathered run."""
    info = parts.read(folder, "run.json")
    plain = _from_info(info)
    patch = folder / "artifacts" / "code.patch"
    changed = hashlib.sha256(patch.read_bytes()).hexdigest()[:16] if patch.is_file() else "none"
    inputs = {"commit": plain.inputs["commit"], "patch": changed}
    inputs |= {k: v for k, v in plain.inputs.items() if k != "commit"}
    inputs |= {f"data {name}": digest for name, digest in info.get("inputs", {}).items() if "data digest" not in inputs}
    history = {
        key: [(int(s), float(v)) for s, v in values] for key, values in parts.read(folder, "history.json").items()
    }
    return replace(plain, inputs=inputs, maps=first_maps(folder), history=history)


def tags_of(folder: Path) -> dict[str, str]:
    """The tags of the gathered run, or of a teacher below it."""
    return {str(key): str(text) for key, text in parts.read(folder, "run.json")["tags"].items()}


def logged_settings(folder: Path) -> dict[str, Any]:
    """The settings tree that the run logged."""
    return dict(parts.read(folder, "artifacts/settings.json"))


def lock_sha256(folder: Path) -> str:
    """The hash of the lock file that the run's environment record names; "" where it names none."""
    return parts.read(folder, "artifacts/environment.json")["lock_sha256"] or ""


def trials(folder: Path) -> list[Record]:
    """The recorded trials of the same settings, this run's among them; without maps and histories."""
    return [_from_info(info) for info in parts.read(folder, "trials.json")]


def _from_info(info: Mapping[str, Any]) -> Record:
    """A record of what the store's search returns of a run."""
    tags, params, metrics = info["tags"], info["params"], info["metrics"]
    cfg = {key.removeprefix("cfg/"): text for key, text in params.items() if key.startswith("cfg/")}
    settings = {k: v for k, v in cfg.items() if k not in NOT_COMPARED and not k.startswith("run.folder")}
    inputs = {"commit": tags.get("code.commit", "")}
    if "data.digest" in tags:
        inputs["data digest"] = tags["data.digest"]
    for name in ancestors(tags):
        inputs[name] = tags.get(f"{name}.sha256", "")
    order = tags.get("teachers", "").split()
    if len(order) > 1:  # which teacher has which of the alphas, that the settings tell in this order
        inputs["teachers in order"] = " ".join(tags.get(f"teacher.{name}.sha256", "")[:7] for name in order)
    if "init.run_id" in tags:  # the weights are what counts, not how they were named
        settings.pop("detect.model", None)
    inputs["first weights"] = tags.get("weights.initial_sha256", "")
    inputs["first batch"] = tags.get("first_step.rows_sha256", "")
    machine = {key.removeprefix("env/"): text for key, text in params.items() if key.startswith("env/")}
    machine["cpu"] = re.sub(r", \d+ cores$", "", machine.get("cpu", ""))  # how many are used is among the flags
    if "detect.device" in cfg:
        machine["flags"] = f"{machine.get('flags', '')}, device={cfg['detect.device']}"
    if went_on := tags.get("epochs.continued"):  # of a detector, whose checkpoints hold half the precision
        machine["continued"] = went_on
    first = {k.removeprefix("first_step/"): v for k, v in metrics.items() if k.startswith("first_step/")}
    return Record(
        info["id"], info["name"], cfg.get("run.seed", ""), inputs, settings, machine, tags.get("weights.sha256", ""),
        cfg.get("run.deterministic") == "true" and not went_on, first, {k: metrics[k] for k in RESULTS if k in metrics},
    )  # fmt: skip


def first_maps(folder: Path) -> dict[str, np.ndarray]:
    """{layer: (b, b) products} of the maps before training: of the first weights, and of the teachers; {} = none."""
    files = {int(path.stem.rpartition("_")[2]): path for path in (folder / "artifacts" / "maps").glob("*[0-9].npz")}
    if not files or min(files) != 0:
        return {}
    path = files[0]
    try:
        with zipfile.ZipFile(path) as zipped:
            size = sum(member.file_size for member in zipped.infolist())
        if size > LARGEST_MAPS_BYTES:
            raise SpkdError(path, f"maps of at most {LARGEST_MAPS_BYTES} bytes", size, "do not use this bundle")
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise SpkdError(path, "maps without pickle", error, "export the run again") from None
    return {
        name: a
        for name, a in sorted(arrays.items())
        if a.ndim == 2 and a.shape[0] == a.shape[1] and a.dtype.kind == "f"
    }


def probe_per_class(folder: Path) -> int | None:
    """tracking.probe_per_class of the run, read off its maps; None where it has none."""
    path = next((folder / "artifacts" / "maps").glob("arrays_0000.npz"), None)
    if path is None:
        return None
    with np.load(path, allow_pickle=False) as stored:
        return int(np.bincount(stored["labels"]).max())


def changed_setting(folder: Path) -> tuple[str, str, str] | None:
    """(key, as a parameter, in settings.json) of the first setting that the run tells in two ways, or None."""
    params = parts.read(folder, "run.json")["params"]
    said = texts({f"cfg/{key}": value for key, value in config.leaves(logged_settings(folder))}, PARAM_LENGTH)
    wrong = [(key.removeprefix("cfg/"), params.get(key, "nothing"), text) for key, text in said.items()]
    return next((w for w in wrong if w[1] != w[2]), None)


def changed_number(folder: Path) -> tuple[str, str, str] | None:
    """(metric, last of its history, in run.json) of the first metric that the run tells in two ways, or None."""
    metrics = parts.read(folder, "run.json")["metrics"]
    for key, points in sorted(parts.read(folder, "history.json").items()):
        last = {float(value) for step, value in points if step == points[-1][0]}
        if key in metrics and last and not any(judge.same(v, metrics[key]) for v in last):
            return key, f"{points[-1][1]:.17g}", f"{metrics[key]:.17g}"
    return None


def weights_sha256(path: Path) -> str:
    """The hash of a weights file. Raises SpkdError where it cannot be read."""
    try:
        return provenance.state_sha256(load_file(path))
    except (SafetensorError, OSError) as error:
        raise SpkdError(path, "readable weights", error, "use an untouched copy of the run") from None
