"""Finds the runs that a student builds on: its teachers, and the scratch student it may start from.

A reference such as gaf:wrn16-3 means the newest network that was trained as this run would train it: same data, view,
network and training settings. Where there is none the caller trains it first; one of other settings is named, and taken
only by its id. A teacher is refused, with the reason, where its data, window, classes or training subjects do not fit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spkd import plugin
from spkd.data import prepared
from spkd.errors import SpkdError
from spkd.evidence import prepared_data, provenance, selection, tracking
from spkd.experiment.plan import SAME_BITS, Plan
from spkd.settings import Model
from spkd.training import weights
from spkd.training.weights import Card

WEIGHTS = "model/weights.safetensors"
EARLY_WEIGHTS = "model/early.safetensors"
EARLY = "@early"
INIT = "init"
# Of `train`: these change no number, or its last bits alone.
NO_MATTER = (*SAME_BITS, "eval_batch", "teacher_cache", "early")
LOOKED_AT, TOLD = 50, 3


@dataclass(frozen=True)
class Ancestor:
    """A trained network that a run builds on. sha256: of its weights. name: "<view>-<network>", or with "-early"."""

    name: str
    run_id: str
    network: torch.nn.Module
    card: Card
    sha256: str


def wanted(reference: str) -> Model | None:
    """The view and network that a reference such as gaf:wrn16-3 asks for; None for run:<id> and model:<name>."""
    kind, _, rest = reference.removesuffix(EARLY).partition(":")
    return None if kind in ("run", "model") else Model(view=kind, network=rest)


def named(reference: str) -> str | None:
    """The run id that run:<id or its first digits> or model:<name>[/<version>] names; None for gaf:wrn16-3."""
    kind, _, rest = reference.removesuffix(EARLY).partition(":")
    name, _, version = rest.partition("/")
    if kind == "run":
        return selection.by_id(rest).id
    return selection.by_id(tracking.registered(name, version or None)).id if kind == "model" else None


def outside(distill: Mapping[str, Any]) -> dict[str, str]:
    """Run ids of teachers, by reference, and of the student to start from, as INIT, that are named by run or model.

    Raises SpkdError where one is not in the store.
    """
    start = distill.get("init", "none")
    named_so = {r: r for r in distill.get("teachers", [])} | ({INIT: start} if start not in ("none", "latest") else {})
    return {key: run_id for key, reference in named_so.items() if (run_id := named(reference)) is not None}


def parts(run_ids: Iterable[str]) -> set[str]:
    """The views and models of these runs' networks: code behind a student that names its teachers by their runs."""
    runs = [tracking.get(run_id) for run_id in run_ids]
    return {name for run in runs for name in (run.tags.get("view"), run.params.get("cfg/network.model")) if name}


def require_parts(reference: str, raw: dict[str, Any]) -> None:
    """Raise SpkdError where gaf:wrn16-3 names a view or a network that params.yaml does not have.

    So it does where @early asks for what such a teacher would not keep.
    """
    model = wanted(reference)
    for shelf, name in (("views", model.view), ("networks", model.network)) if model else ():
        if name not in raw[shelf]:
            advice = plugin.nearest(name, list(raw[shelf]))
            raise SpkdError(f"distill.teachers: {reference}", f"an entry of `{shelf}`", repr(name), advice)
    if model and reference.endswith(EARLY) and not raw["train"]["early"]:
        expected = "train.early above 0, so that the teacher keeps its early-stopped weights"
        raise SpkdError(f"distill.teachers: {reference}", expected, 0, "set it, or leave @early out")


def find(plan: Plan, reference: str) -> str | None:
    """The run id that a teacher reference means, or None where no such teacher was trained yet.

    @early behind a reference names other weights of the same run.
    """
    model = wanted(reference)
    return named(reference) if model is None else _latest(plan, "teacher", model, reference, {})


def find_scratch(plan: Plan) -> str | None:
    """The run id that distill.init means, or None where no such scratch student of this trial exists yet."""
    trial = {"trial": str(plan.settings.run.seed)}
    return named(plan.settings.distill.init) or _latest(plan, "scratch", plan.model, "scratch student", trial)


def _latest(plan: Plan, kind: str, model: Model, what: str, more: dict[str, str]) -> str | None:
    tags = more | {
        "kind": kind,
        "data.dataset": plan.settings.dataset,
        "data.digest": plan.windows.digest,
        "view": model.view,
        "network": model.network,
        "fold": str(plan.settings.fold),
        "test_subjects": " ".join(plan.split.test_subjects),
    }
    found = tracking.find(tracking.finished(tags), limit=LOOKED_AT)
    # A repetition is a copy for judging; an annealed student did not start from scratch.
    runs = [run for run in found if not run.repeats and "init.run_id" not in run.tags]
    recipe = tracking.logged(_recipe(plan, model, what.endswith(EARLY)))
    others = [[key for key, text in recipe.items() if run.params.get(key) != text] for run in runs]
    for run, other in zip(runs, others, strict=True):
        if not other:
            return run.id
    if runs:
        keys = others[0][:TOLD]
        gaps = ", ".join(f"{k.removeprefix('cfg/')} {runs[0].params.get(k)} (here {recipe[k]})" for k in keys)
        rest = f" and {len(others[0]) - TOLD} more" if len(others[0]) > TOLD else ""
        print(f"{what}: run {runs[0].id} has other settings: {gaps}{rest}; it is taken by run:<id> alone", flush=True)
    return None


def _recipe(plan: Plan, model: Model, early: bool) -> dict[str, Any]:
    """The settings that make a network what it is, its trial aside, under the names that its run logs them by.

    early: whether its early-stopped weights are meant.
    """
    raw, dataset = plan.raw, plan.settings.dataset
    return {
        "dataset": {dataset: raw["datasets"][dataset]},
        "network": raw["networks"][model.network],
        "view": raw["views"][model.view],
        "train": {k: v for k, v in raw["train"].items() if k not in NO_MATTER or (early and k == "early")},
    }


def load(plan: Plan, run_id: str, folder: Path, early: bool = False) -> Ancestor:
    """The weights of a run, or its early-stopped ones, checked against this plan. folder: where to download them.

    Raises SpkdError where they do not fit it, or are not those that the run recorded the hash of.
    """
    run = tracking.get(run_id)
    selection.require(run, (*selection.HAR_KINDS, *selection.COPIES), "teacher or distill", "name another one")
    tags = run.tags
    if early and "weights.early_epoch" not in tags:
        do = "train the teacher again with train.early > 0, or leave @early out"
        raise SpkdError(f"run {run_id}", "a teacher that kept its early-stopped weights", "none of them", do)
    path = tracking.artifact(run_id, EARLY_WEIGHTS if early else WEIGHTS, folder / run_id)
    network, card = weights.load(path)
    check(plan, run_id, card)
    sha256 = provenance.state_sha256(network.state_dict())
    if (recorded := tags.get("weights.early_sha256" if early else "weights.sha256", sha256)) != sha256:
        do = "its file in the store was changed after the run: bring it back, or train the network again"
        raise SpkdError(f"run {run_id}: weights", f"sha256 {recorded[:16]}, as it recorded", sha256[:16], do)
    name = "-".join([card.view, card.network, *["early"] * early])
    return Ancestor(name, run_id, network.to(plan.device), card, sha256)


def check(plan: Plan, run_id: str, card: Card) -> None:
    """Raise SpkdError where a network fits other data, windows or classes, or has seen who tests or chooses here.

    It may share this run's validation subjects, who chose its epoch too, but must not have been trained on them: they
    would then choose an epoch by what its teacher knows by heart.
    """
    windows = plan.windows
    do = "train a teacher on this data (`spkd teacher`), or name another run"
    for what, expected, got in (
        ("data set", plan.settings.dataset, card.dataset),
        ("window length", windows.length, card.length),
        ("classes", windows.classes, card.classes),
        ("channels", windows.channels, card.channels),
        ("data digest", windows.digest, card.data_digest),
    ):
        if expected != got:
            raise SpkdError(f"run {run_id}", f"{what} {expected}", got, do)
    check_view(plan, card.view)
    trained, chosen = set(card.train_subjects), set(card.validation_subjects)
    for what, seen, own in (
        ("test", trained | chosen, plan.split.test_subjects),
        ("validation", trained, plan.split.validation_subjects),
    ):
        if leaked := sorted(seen & set(own)):
            expected = f"no training on the {what} subjects of fold {plan.settings.fold}"
            got = f"subject {', '.join(leaked)} among its training subjects"
            do = "train a teacher on this data, fold and split (`spkd teacher`), or name another run"
            raise SpkdError(f"run {run_id}", expected, got, do)


def check_view(plan: Plan, view: str) -> None:
    """Raise SpkdError where a view was prepared by other code; its settings are compared where it is drawn."""
    dataset, project = plan.settings.dataset, plan.places.project
    prepared_data.check_code(prepared.FOLDER / dataset / view, f"run `dvc repro views@{dataset}-{view}`", project)


def check_shape(plan: Plan, ancestor: Ancestor) -> None:
    """Raise SpkdError where the annealing student has another shape or view than the student."""
    wanted_settings = dict(plan.raw["networks"][plan.model.network])
    expected, got = (plan.model.view, wanted_settings), (ancestor.card.view, ancestor.card.network_settings)
    if expected != got:
        do = "use distill.init latest, or a scratch run of the same view and network"
        what = f"{plan.model.view}:{plan.model.network} {wanted_settings}"
        found = f"{ancestor.card.view}:{ancestor.card.network} {ancestor.card.network_settings}"
        raise SpkdError(f"distill.init run:{ancestor.run_id}", what, found, do)
