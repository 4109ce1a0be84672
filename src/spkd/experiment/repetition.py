"""From a recorded run to the settings, data and teachers that repeat it in a checkout of its code.

Contract: teachers are never trained again: their recorded weights are used, and refused where their hash is another.
"""

import copy
import hashlib
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from spkd import atomic, config
from spkd.data import arrays, prepared, windowset
from spkd.errors import SpkdError
from spkd.evidence import lock_file, tracking
from spkd.evidence.reproduction import imported, portable
from spkd.experiment import checkout

FILES_OF_DVC = ("params.yaml", "dvc.lock", "data.dvc")
NAME = re.compile(r"\w[\w.-]*", re.ASCII)
COMMANDS = {"teacher": "teacher", "scratch": "distill", "student": "distill", "detect": "detect"}


@dataclass(frozen=True)
class Recorded:
    """A gathered run: its folder, tags, and the settings that it logged."""

    folder: Path
    tags: Mapping[str, str]
    settings: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The run that was gathered in a folder. Raises SpkdError where it is none that can be repeated."""
        tags = portable.tags_of(folder)
        if tags.get("kind") not in COMMANDS:
            raise SpkdError(folder, f"a run of kind {', '.join(COMMANDS)}", tags.get("kind"), "choose another run")
        return cls(folder, tags, portable.logged_settings(folder))

    @property
    def command(self) -> str:
        """The command that makes such a run."""
        return COMMANDS[self.tags["kind"]]

    @property
    def dataset(self) -> str:
        """The name of its data set; "coco" for a detection run's."""
        return self.tags.get("data.dataset", "coco")


@dataclass(frozen=True)
class Wrong:
    """The first thing that is not as recorded. what: names it. do: the remedy."""

    what: str
    recorded: str
    here: str
    do: str


def told_twice(recorded: Recorded) -> Wrong | None:
    """The first setting, else the first metric, that the record tells in two ways."""
    setting, metric = portable.changed_setting(recorded.folder), portable.changed_number(recorded.folder)
    do = "one of the two was changed after the run: use an untouched copy of the run or bundle"
    for kind, found in (("setting", setting), ("metric", metric)):
        if found:
            key, one, other = found
            return Wrong(f"{kind} {key}", one, other, do)
    return None


def lock(recorded: Recorded, code: Path) -> Wrong | None:
    """Whether the checkout has the lock file of the run."""
    wanted, path = portable.lock_sha256(recorded.folder), code / lock_file.NAME
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "none"
    do = "the run used a lock file that its commit does not have: commit requirements.lock, then run and repeat again"
    return Wrong("lock sha256", wanted[:16], found[:16], do) if wanted and wanted != found else None


def teachers(recorded: Recorded) -> Wrong | None:
    """The first network, of those the run builds on and its own, whose weights are not what the run recorded."""
    for name in portable.ancestors(recorded.tags):
        path = recorded.folder / "teachers" / name.removeprefix("teacher.") / portable.WEIGHTS
        if not path.is_file():
            raise SpkdError(f"weights of {name}", "a file of the record", "none", "restore its run, or export again")
        if wrong := _weights(f"weights of {name}", path, recorded.tags[f"{name}.sha256"]):
            return wrong
    model = recorded.folder / "artifacts" / "model"
    own = next(
        (model / f"{name}.safetensors" for name in ("weights", "best") if (model / f"{name}.safetensors").is_file()),
        None,
    )
    return _weights("final weights of the record", own, recorded.tags.get("weights.sha256", "")) if own else None


def _weights(what: str, path: Path, recorded: str) -> Wrong | None:
    found = portable.weights_sha256(path)
    do = "these are not the weights of that run: use an untouched copy of the run or bundle"
    return None if found == recorded else Wrong(what, recorded[:16], found[:16], do)


def stored_teachers(recorded: Recorded, parent: tracking.Run, work: Path) -> dict[str, str]:
    """{name: id of a run of this store that holds its weights}, copied into the store where it has no such run."""
    found = {}
    for name in portable.ancestors(recorded.tags):
        run_id, sha256 = recorded.tags[f"{name}.run_id"], recorded.tags.get(f"{name}.sha256", "")
        found[name] = run_id
        if not portable.has_weights(run_id, sha256):
            weights = recorded.folder / "teachers" / name.removeprefix("teacher.") / portable.WEIGHTS
            title, own, early = f"{name} of {run_id}", work / f"import {name}", _is_early(name)
            found[name] = imported.kept(weights, sha256, title, parent, own, early, **{"imported.run_id": run_id})
    return found


def _is_early(name: str) -> bool:
    """Whether a teacher of this name is the early-stopped state of its run."""
    return re.search(r"-early(-\d+)?$", name) is not None


def settings(recorded: Recorded, tree: dict[str, Any], stored: Mapping[str, str], machine: Mapping[str, Any]) -> Any:
    """The settings tree that repeats the run: the checkout's params.yaml under what the run recorded.

    Of the record, keys that the checkout does not have and the folder of the run are left out. stored: what
    stored_teachers gave. machine: `run` settings that may be others here (device, threads). Raises SpkdError where a
    name of the record is no name.
    """
    made, said = copy.deepcopy(tree), copy.deepcopy(dict(recorded.settings))
    said["run"].pop("folder", None)
    is_detector = recorded.command == "detect"
    own = {k: v for k, v in machine.items() if k != "device" or not is_detector}  # its GPU indices are no run.device
    made["run"] = _over(made["run"], said["run"]) | own
    if is_detector:
        made["detect"] = _over(made["detect"], said["detect"], whole=("train", "annotations"))
        if "teacher.detector" in stored:
            made["detect"]["distill"]["teacher"] = f"run:{stored['teacher.detector']}"
        if "init" in stored:
            made["detect"]["model"] = f"run:{stored['init']}"
        if "device" in machine:
            made["detect"]["device"] = str(machine["device"]).removeprefix("cuda:").replace("cuda", "0")
        return made
    (name, dataset), model = next(iter(said["dataset"].items())), said["model"]
    for what, word in (("data set", name), ("network", model["network"]), ("view", model["view"])):
        if not NAME.fullmatch(word):
            raise SpkdError(recorded.folder, f"the name of a {what}", repr(word), "do not use this record")
    made |= {"dataset": name, "fold": said["fold"], "train": _over(made["train"], said["train"])}
    made["datasets"][name], made["networks"][model["network"]] = dataset, said["network"]
    made["views"][model["view"]] = said["view"]
    made["teacher" if recorded.command == "teacher" else "student"] = model
    made["tracking"]["register"] = False
    if per_class := portable.probe_per_class(recorded.folder):
        made["tracking"]["probe_per_class"] = per_class
    if "distill" in said:
        made["distill"] = _over(made["distill"], said["distill"], whole=("beta",))
        made["losses"] = _over(made["losses"], said["losses"])
        if said.get("weighting"):
            made["weightings"][made["distill"]["weighting"]] = said["weighting"]
        order = teacher_order(recorded)
        made["distill"]["teachers"] = [
            f"run:{stored[f'teacher.{name}']}{'@early' if _is_early(name) else ''}" for name in order
        ]
        made["distill"]["init"] = f"run:{stored['init']}" if "init" in stored else "none"
    return made


def teacher_order(recorded: Recorded) -> list[str]:
    """Names of the run's teachers in the order of its alphas."""
    named = [n.removeprefix("teacher.") for n in portable.ancestors(recorded.tags) if n != "init"]
    if len(named) < 2:
        return named
    order = recorded.tags.get("teachers", "").split()
    if sorted(order) != sorted(named):
        raise SpkdError("teachers", "their order in the record", "none", "repeat a run that this version made")
    return order


def _over(below: dict[str, Any], above: Mapping[str, Any], whole: Collection[str] = ()) -> dict[str, Any]:
    """below with the values that above has for its keys; those named in `whole` are taken as they are."""
    made = dict(below)
    for key in (k for k in above if k in below):
        nested = key not in whole and isinstance(above[key], dict) and isinstance(below[key], dict) and below[key]
        made[key] = _over(below[key], above[key]) if nested else above[key]
    return made


def data(recorded: Recorded, project: Path, code: Path, python: Path, tree: dict[str, Any]) -> Wrong | None:
    """Give the checkout its data: the project's where they are the recorded ones, rebuilt with the old code otherwise.

    Returns what is wrong where rebuilt data are not the recorded ones; a detection run's are compared after the run.
    """
    if recorded.command == "detect":
        if (project / "data" / "coco").is_dir():
            _borrow(project, code)
        else:
            with _with_params(code, tree):
                checkout.lend_copies(project, code, python)
                checkout.repro(code, python, ["coco"])
        detect = tree["detect"]
        for name in (detect["data"], detect["model"], *detect["annotations"].values()):
            _lend(project, code, Path(name))
        return None
    name, wanted = recorded.dataset, recorded.tags["data.digest"]
    views = _stored_views(recorded, tree)
    folders = [project / prepared.FOLDER / name / view for view in views]
    if _digest(project / windowset.FOLDER / name) == wanted and all(_fits(f, wanted, tree) for f in folders):
        _borrow(project, code)
        return None
    stages = [f"windows@{name}"]
    stages += [f"views@{k}" for k, p in tree["prepare"].items() if p["dataset"] == name and p["view"] in views]
    with _with_params(code, tree):
        checkout.lend_copies(project, code, python)
        checkout.repro(code, python, stages)
    found = _digest(code / windowset.FOLDER / name)
    do = "the raw recordings or the code that reads them are not those of the run: bring them back, then dvc repro"
    return None if found == wanted else Wrong(f"data digest of {name}", wanted, found or "damaged", do)


def _stored_views(recorded: Recorded, tree: Mapping[str, Any]) -> set[str]:
    """Views of the run and its teachers that are prepared beforehand."""
    seen = {str(recorded.tags["view"])}
    for name in portable.ancestors(recorded.tags):
        seen.add(portable.tags_of(recorded.folder / "teachers" / name.removeprefix("teacher."))["view"])
    return seen & {p["view"] for p in tree["prepare"].values() if p["dataset"] == recorded.dataset}


def _digest(folder: Path) -> str:
    """The digest of prepared windows, computed from their content; "" where they are missing or damaged."""
    try:
        return windowset.load(folder).digest
    except SpkdError:
        return ""


def _fits(folder: Path, digest: str, tree: Mapping[str, Any]) -> bool:
    """Whether a prepared view is of these windows and settings."""
    try:
        _, manifest = arrays.load(folder, "")
    except SpkdError:
        return False
    return bool(manifest.get("digest") == digest and manifest.get("settings") == tree["views"][folder.name])


def _borrow(project: Path, code: Path) -> None:
    """Let the checkout read the project's data: links below a folder of its own, which git ignores as it does data/."""
    (code / "data").mkdir()
    for folder in (project / "data").iterdir():
        (code / "data" / folder.name).symlink_to(folder, target_is_directory=folder.is_dir())


def _lend(project: Path, code: Path, name: Path) -> None:
    """Let the checkout find a data set or network of the project that is not in its commit: a link where that ends.

    One beside the project (../datasets) is linked beside the checkout, in a folder that is removed with it.
    """
    name = Path(os.path.normpath(name))
    missing = next((at for at in [*reversed(name.parents), name] if not (code / at).exists()), None)
    if missing and name.parts[:2] != ("..", "..") and (project / missing).exists():
        (code / missing).symlink_to((project / missing).absolute())


@contextmanager
def _with_params(code: Path, tree: dict[str, Any]) -> Iterator[None]:
    """Let DVC see the run's settings of data and views; its files are put back, so that the code stays the run's."""
    files = {code / name: (code / name).read_text(encoding="utf-8") for name in FILES_OF_DVC if (code / name).is_file()}
    own = config.read(code / config.PARAMS)
    wanted = {**own, "preset": "none", "datasets": tree["datasets"], "views": tree["views"]}
    atomic.write_text(code / config.PARAMS, yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True))
    try:
        yield
    finally:
        for path, text in files.items():
            atomic.write_text(path, text)
