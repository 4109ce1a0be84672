"""From settings to everything a run needs: windows, split, scaling, view, network card, name and fingerprint.

No training and no tracking here: a plan can be made, printed and compared without running anything.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from spkd import config, plugin, seeding
from spkd.data import prepared, scaling, splits, windowset
from spkd.data.batches import DeviceWindows
from spkd.errors import SpkdError
from spkd.settings import Distill, Model, Settings
from spkd.training.teachers import Render
from spkd.training.weights import Card

Role = Literal["teacher", "student"]
# Of `train`: where things lie, and how often they are written down. The bits of a run are the same whatever they are.
SAME_BITS = ("cuda_graphs", "windows_gib", "checkpoint_every", "teacher_cache_gib", "teacher_cache_keep")


@dataclass(frozen=True)
class Places:
    """Folders. runs: unfinished runs. project: has data/, dvc.lock and requirements.lock."""

    runs: Path
    project: Path


def places_here(settings: Settings) -> Places:
    """The folders of the project checkout that the command runs in."""
    here = Path.cwd()
    return Places(here / settings.run.folder, here)


@dataclass(frozen=True)
class Plan:
    """One run on one split of one data set. raw: the settings tree that `settings` was made from."""

    role: Role
    settings: Settings
    raw: dict[str, Any]
    places: Places
    device: torch.device
    windows: windowset.WindowSet
    split: splits.Split
    scaling: scaling.Scaling
    model: Model

    @property
    def origin(self) -> str:
        """Where the recordings are from; `simulated` where they are not of people."""
        return str(self.windows.manifest["origin"])


def device(name: str) -> torch.device:
    """The device that a setting names; `auto` is the GPU where there is one. Raises SpkdError for an absent GPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chosen = torch.device(name)
    if chosen.type == "cuda":
        n = torch.cuda.device_count() if torch.cuda.is_available() else 0  # an old driver counts GPUs it cannot use
        if (chosen.index or 0) >= n:
            do = "use cpu or auto (`spkd reproduce` takes --device), or install a torch build for your driver"
            raise SpkdError("run.device", name, f"{n} CUDA devices (torch {torch.__version__})", do)
    return chosen


def make(role: Role, settings: Settings, raw: dict[str, Any], places: Places) -> Plan:
    """The plan of one run. Raises SpkdError where prepared data, split or settings do not fit."""
    name = settings.dataset
    part = config.part("datasets", name, raw)
    windows = windowset.load(places.project / windowset.FOLDER / name)
    split = splits.split(windows, part.split, settings.fold, seeding.numpy_stream(settings.fold, "split"))
    if settings.train.headline == "validation" and not len(split.validation):
        do = f"choose one of these, or set datasets.{name}.split.validation_subjects"
        raise SpkdError("train.headline", "last or paper, as no subjects validate", "validation", do)
    statistics = scaling.measure(windows, split.train, part.scaling)
    model = settings.teacher if role == "teacher" else settings.student
    return Plan(role, settings, raw, places, device(settings.run.device), windows, split, statistics, model)


def card(plan: Plan) -> Card:
    """What will travel with the weights of this plan's network."""
    view = plan.model.view
    return Card(
        network=plan.model.network,
        network_settings=dict(plan.raw["networks"][plan.model.network]),
        view=view,
        view_settings=config.part("views", view, plan.raw).model_dump(),
        dataset=plan.settings.dataset,
        data_digest=plan.windows.digest,
        length=plan.windows.length,
        channels=plan.windows.channels,
        classes=plan.windows.classes,
        scaling=plan.scaling.to_dict(),
        train_subjects=plan.split.train_subjects,
        validation_subjects=plan.split.validation_subjects,
        test_subjects=plan.split.test_subjects,
        fold=plan.settings.fold,
        seed=plan.settings.run.seed,
        origin=plan.origin,
    )


def render(plan: Plan, view: str, view_settings: dict[str, Any]) -> Render:
    """The view's rendering on the plan's device, with what it stored beforehand where it stores something.

    Raises SpkdError where noise is asked for, which would not reach what was stored.
    """
    module = plugin.load("views", view)
    settings = config.check(module.Settings, view_settings, f"views.{view}")
    folder = plan.places.project / prepared.FOLDER / plan.settings.dataset / view
    prepares = hasattr(module, "prepare")
    if prepares and plan.settings.train.noise > 0:
        do = f"set train.noise 0, or leave {view} out"
        raise SpkdError("train.noise", f"0: {view} is computed beforehand", plan.settings.train.noise, do)
    used = {key: getattr(settings, key) for key in module.PREPARED} if prepares else {}
    stored = prepared.load(folder, plan.windows, plan.device, used) if prepares else {}
    made: Render = module.view(settings, stored)
    return made


def on_device(plan: Plan, statistics: scaling.Scaling) -> DeviceWindows:
    """The windows, scaled by the given statistics, on the plan's device, or in a file where too large for it."""
    most = plan.settings.train.windows_gib
    seen = DeviceWindows(plan.windows, statistics, plan.device, most * 2**30, plan.places.runs)
    if seen.signal is None:
        size = f"{plan.windows.signal.nbytes / 2**30:.2g} GiB"
        print(
            f"signal of {size}, more than train.windows_gib {most:g}: read from a file in {plan.places.runs}",
            flush=True,
        )
    return seen


def name(plan: Plan) -> str:
    """A readable run name: network on its view, teachers, losses, data set, test subject, window and rate, trial.

    Lists cut names short: what tells a teacher, a scratch student and its distilled ones apart comes first.
    A headline that is chosen on the test subjects is named last, so that it is labelled wherever its run is shown.
    """
    settings = plan.settings
    subjects = plan.split.test_subjects
    held_out = f"s{subjects[0]}" if len(subjects) == 1 else f"f{settings.fold}"
    seen = plan.model.network if plan.model.view == "signal" else f"{plan.model.view}:{plan.model.network}"
    how = "teacher" if plan.role == "teacher" else learning(settings.distill)
    window = f"{plan.windows.length}@{plan.windows.rate_hz:.3g}Hz"
    chosen_on_test = ["best-TEST"] if settings.train.headline == "paper" else []
    return " ".join([seen, how, settings.dataset, held_out, window, f"t{settings.run.seed}", *chosen_on_test])


def learning(distill: Distill) -> str:
    """How a student learns, for names: its teachers and the terms that weigh something, or scratch; annealed."""
    soft = "kd" if distill.weighting == "fixed" else distill.weighting
    terms = [soft] * (distill.base * distill.lambda_ > 0) + [n for n, beta in distill.beta.items() if beta > 0]
    how = " ".join(["<-", "+".join(distill.teachers), *terms]) if distill.teachers else "scratch"
    return how if distill.init == "none" else f"{how} annealed"


def relevant(plan: Plan) -> dict[str, Any]:
    """The part of the settings that can change this run's numbers."""
    return relevant_settings(plan.role, plan.settings, plan.raw)


def relevant_settings(role: Role, settings: Settings, raw: dict[str, Any]) -> dict[str, Any]:
    """The part of a settings tree that can change the numbers of a run in this role.

    Raises SpkdError where the network or the view is no entry of params.yaml.
    """
    model = settings.teacher if role == "teacher" else settings.student
    require_model(role, model, raw)
    if "model" not in raw["networks"][model.network]:
        do = "write `model: wide_resnet`, or what file it is"
        raise SpkdError(f"params.yaml: networks.{model.network}", "a key `model`, a file of models/", "none", do)
    chosen: dict[str, Any] = {
        "role": role,
        "fold": settings.fold,
        "run": {k: v for k, v in raw["run"].items() if k != "folder"},
        "dataset": {settings.dataset: raw["datasets"][settings.dataset]},
        "model": raw["teacher" if role == "teacher" else "student"],
        "network": raw["networks"][model.network],
        "view": raw["views"][model.view],
        "train": raw["train"],
    }
    if role == "student":
        # Losses that the run does not use stay out: a new file on the shelf leaves finished runs what they were.
        used = ["cross_entropy", "kd", *(name for name, beta in settings.distill.beta.items() if beta > 0)]
        chosen["distill"] = raw["distill"]
        chosen["losses"] = {name: raw["losses"][name] for name in used if name in raw["losses"]}
        chosen["weighting"] = raw["weightings"].get(settings.distill.weighting)
    return chosen


def deciding(relevant: dict[str, Any]) -> dict[str, Any]:
    """What `relevant_settings` gave without what changes no bit: a run goes on, and a finished one counts, without."""
    return {**relevant, "train": {key: value for key, value in relevant["train"].items() if key not in SAME_BITS}}


def require_model(role: Role, model: Model, raw: dict[str, Any]) -> None:
    """Raise SpkdError where the network or the view is no entry of params.yaml."""
    for shelf, entry in (("networks", model.network), ("views", model.view)):
        if entry not in raw[shelf]:
            advice = plugin.nearest(entry, list(raw[shelf]))
            raise SpkdError(f"{role}.{shelf[:-1]}", f"an entry of `{shelf}` in params.yaml", repr(entry), advice)


def fingerprint(plan: Plan) -> str:
    """12 hex digits: equal for runs that would give equal numbers, teachers' weights aside."""
    text = json.dumps([deciding(relevant(plan)), plan.windows.digest, *_taught_by(plan)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _taught_by(plan: Plan) -> list[dict[str, Any]]:
    """[the settings of the views and networks that the teachers are named by]; [] where none is named so."""
    references = plan.settings.distill.teachers if plan.role == "student" else []
    names = {word for reference in references for word in re.split("[:@]", reference)}
    found = {shelf: {n: plan.raw[shelf][n] for n in names & set(plan.raw[shelf])} for shelf in ("views", "networks")}
    return [found] if any(found.values()) else []
