"""Finds the runs that a student builds on: its teachers, and the scratch student it may start from.

A teacher is refused, with the reason, where its data, window, classes or training subjects do not fit; where there is
none yet the caller is told to train it first.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from spkd.errors import SpkdError
from spkd.evidence import provenance, tracking
from spkd.experiment.plan import Plan
from spkd.settings import Model
from spkd.training import weights
from spkd.training.weights import Card

WEIGHTS = "model/weights.safetensors"
EARLY_WEIGHTS = "model/early.safetensors"
EARLY = "@early"


@dataclass(frozen=True)
class Ancestor:
    """A trained network that a run builds on. sha256: of its weights. name: "<view>-<network>", unique in a run."""

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
    """The run id that run:<id> or model:<name>[/<version>] names; None for gaf:wrn16-3."""
    kind, _, rest = reference.removesuffix(EARLY).partition(":")
    name, _, version = rest.partition("/")
    return rest if kind == "run" else tracking.registered(name, version or None) if kind == "model" else None


def find(plan: Plan, reference: str) -> str | None:
    """The run id that a teacher reference means, or None where the latest match does not exist yet.

    @early behind a reference names other weights of the same run.
    """
    model = wanted(reference)
    return named(reference) if model is None else _latest(plan, "teacher", model)


def find_scratch(plan: Plan) -> str | None:
    """The run id that distill.init means, or None where the latest scratch student does not exist yet."""
    kind, _, run_id = plan.settings.distill.init.partition(":")
    return run_id if kind == "run" else _latest(plan, "scratch", plan.model)


def _latest(plan: Plan, kind: str, model: Model) -> str | None:
    clauses = {
        "kind": kind,
        "data.dataset": plan.settings.dataset,
        "data.digest": plan.windows.digest,
        "view": model.view,
        "network": model.network,
        "fold": str(plan.settings.fold),
        "test_subjects": " ".join(plan.split.test_subjects),
    }
    query = " AND ".join(f"tags.`{key}` = '{value}'" for key, value in clauses.items())
    runs = tracking.find(f"{query} AND attributes.status = 'FINISHED'", limit=1)
    return runs[0].id if runs else None


def load(plan: Plan, run_id: str, name: str, folder: Path, early: bool = False) -> Ancestor:
    """The weights of a run, or its early-stopped ones, checked against this plan. folder: where to download them."""
    if early and "weights.early_epoch" not in tracking.get(run_id).tags:
        do = "train the teacher again with train.early > 0, or leave @early out"
        raise SpkdError(f"run {run_id}", "a teacher that kept its early-stopped weights", "none of them", do)
    path = tracking.artifact(run_id, EARLY_WEIGHTS if early else WEIGHTS, folder)
    network, card = weights.load(path)
    check(plan, run_id, card)
    return Ancestor(name, run_id, network.to(plan.device), card, provenance.state_sha256(network.state_dict()))


def check(plan: Plan, run_id: str, card: Card) -> None:
    """Raise SpkdError where a network was trained on other data, windows or classes, or has seen this fold's test."""
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
    seen = set(card.train_subjects) | set(card.validation_subjects)
    leaked = sorted(seen & set(plan.split.test_subjects))
    if leaked:
        expected = f"no training on the test subjects of fold {plan.settings.fold}"
        raise SpkdError(f"run {run_id}", expected, f"subject {', '.join(leaked)} among its training subjects", do)


def check_shape(plan: Plan, ancestor: Ancestor) -> None:
    """Raise SpkdError where the annealing student has another shape or view than the student."""
    wanted_settings = dict(plan.raw["networks"][plan.model.network])
    expected, got = (plan.model.view, wanted_settings), (ancestor.card.view, ancestor.card.network_settings)
    if expected != got:
        do = "use distill.init latest, or a scratch run of the same view and network"
        what = f"{plan.model.view}:{plan.model.network} {wanted_settings}"
        found = f"{ancestor.card.view}:{ancestor.card.network} {ancestor.card.network_settings}"
        raise SpkdError(f"distill.init run:{ancestor.run_id}", what, found, do)
