"""The network that a run trains, and its card: a plain one, or the one that a loss makes of student and teacher.

A loss with a constant STUDENT names the file of models/ that the student becomes (SimKD: its teacher's classifier
behind a projector); with it, the weights, their card and every result are those of the whole.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from spkd import plugin, seeding
from spkd.errors import SpkdError
from spkd.experiment import lineage, plan
from spkd.experiment.lineage import Ancestor
from spkd.experiment.plan import Plan
from spkd.settings import Distill, Settings
from spkd.training import weights
from spkd.training.objective import Objective
from spkd.training.taps import taps
from spkd.training.teachers import Render, Teacher
from spkd.training.weights import Card


def require(settings: Settings, raw: dict[str, Any]) -> None:
    """Raise SpkdError where `distill` is sure to fail later: after a missing teacher was trained, which takes hours."""
    distill, model = settings.distill, settings.student
    n_teachers = len(distill.teachers)
    for reference in distill.teachers:
        lineage.require_parts(reference, raw)
    plan.require_model("student", model, raw)
    if n_teachers:
        wanted = objective(distill, raw, n_teachers)
        wanted.shares(n_teachers)
        tap_names, teacher_taps = wanted.tapped()
        asked = tuple(distill.taps)
        if (remade := _remade(distill, n_teachers)) is not None:
            _require_made_of(remade, model.network, raw["networks"][model.network])
        else:
            entry = json.dumps(raw["networks"][model.network])
            _require_layers(model.network, entry, model.view, tuple(tap_names), asked)
        for taught in filter(None, map(lineage.wanted, distill.teachers)):
            entry = json.dumps(raw["networks"][taught.network])
            _require_layers(taught.network, entry, taught.view, tuple(dict.fromkeys([*teacher_taps, *asked])), asked)


@functools.lru_cache(maxsize=64)
def _require_layers(network: str, entry: str, view: str, names: tuple[str, ...], asked: tuple[str, ...]) -> None:
    """Raise SpkdError where the network cannot be built, or lacks a layer; a table asks the same for every trial.

    asked: layers that distill.taps names; the others are those that a loss itself looks at.
    """
    built = weights.build_of(network, json.loads(entry), view, 1, 2, torch.Generator())
    there = dict(built.named_modules())
    if lacking := [name for name in names if name not in asked and name not in there]:
        do = "choose a network with such a layer, or set that loss 0"
        expected = f"the layer {', '.join(lacking)}, at which a loss looks"
        raise SpkdError("distill.beta", expected, f"none in {network}", do)
    with taps(built, list(names)):
        pass


def objective(distill: Distill, raw: dict[str, Any], n_teachers: int) -> Objective:
    """What a run minimises; the plain cross entropy without teachers. raw: the settings tree.

    Raises SpkdError where the teachers would have no say: such a student is a scratch student, whatever it is called.
    """
    if not n_teachers:
        return Objective(0.0, [], {}, raw["losses"])
    weigh = betas(distill, n_teachers)
    if not weigh and distill.base * distill.lambda_ == 0:
        got = f"lambda {distill.lambda_:g}, beta {weigh}"
        raise SpkdError("distill", "weights above 0 for its teachers", got, "raise one, or set distill.teachers []")
    return Objective(
        distill.lambda_, list(distill.alphas), weigh, raw["losses"],
        distill.base, distill.weighting, raw["weightings"], list(distill.taps),
    )  # fmt: skip


def betas(distill: Distill, n_teachers: int) -> dict[str, float]:
    """The losses of features or logits that weigh something, with their weights; none without teachers."""
    return {name: beta for name, beta in distill.beta.items() if beta > 0 and n_teachers}


def _remade(distill: Distill, n_teachers: int) -> str | None:
    """The file of models/ that a loss makes of the student, or None. Raises SpkdError unless it has one teacher."""
    found = {name: getattr(plugin.load("losses", name), "STUDENT", None) for name in betas(distill, n_teachers)}
    for name, model in found.items():
        if model is not None:
            if n_teachers != 1:
                do = f"name one teacher, or set distill.beta.{name} 0"
                raise SpkdError(f"distill.beta.{name}", "one teacher, whose classifier is kept", n_teachers, do)
            return str(model)
    return None


def _require_made_of(model: str, network: str, entry: Mapping[str, Any]) -> None:
    """Raise SpkdError where the file of models/ that a loss names cannot be made of the student's network."""
    wanted = plugin.load("models", model).REMAKES
    if (own := entry.get("model")) != wanted:
        do = f"choose a network of `networks` with model {wanted}, or leave the loss out of distill.beta"
        raise SpkdError("student.network", f"a {wanted}, which {model} is made of", f"{network} ({own})", do)


def card(made: Plan, teachers: list[Ancestor], scratch: Ancestor | None) -> Card:
    """What travels with the weights of this run's network.

    Whom an ancestor was trained on, or its epoch chosen by, this network knows of too: they count as its own.
    """
    own, known = plan.card(made), [a.card for a in (*teachers, scratch) if a is not None]
    plain = replace(
        own,
        train_subjects=_joined([own.train_subjects, *(card.train_subjects for card in known)]),
        validation_subjects=_joined([own.validation_subjects, *(card.validation_subjects for card in known)]),
    )
    model = _remade(made.settings.distill, len(teachers))
    if model is None:
        return plain
    head = getattr(teachers[0].network, "head", None)
    if not isinstance(head, torch.nn.Linear):
        do = "call its classifier so, choose another teacher, or leave the loss out of distill.beta"
        expected = "a linear layer `head`, which the student keeps"
        raise SpkdError(f"teacher {teachers[0].name}", expected, type(head).__name__, do)
    more = {"model": model, "teacher_channels": head.in_features}
    return replace(plain, network_settings={**plain.network_settings, **more})


def _joined(lists: list[list[str]]) -> list[str]:
    return list(dict.fromkeys(name for names in lists for name in names))


def network(made: Plan, teachers: list[Ancestor], scratch: Ancestor | None) -> torch.nn.Module:
    """The network with its first weights: the seed's, the scratch student's where there is one, the teacher's head."""
    own, model = card(made, teachers, scratch), _remade(made.settings.distill, len(teachers))
    built = weights.build(own, seeding.torch_stream(made.settings.run.seed, "weights", made.role))
    if model is None:
        if scratch is not None:
            built.load_state_dict(scratch.network.state_dict())
        return built.to(made.device)
    if scratch is not None:
        encoder = {n: t for n, t in scratch.network.state_dict().items() if not n.startswith("head.")}
        built.load_state_dict(encoder, strict=False)
    plugin.load("models", model).reuse(built, teachers[0].network)
    return built.to(made.device)


@torch.no_grad()
def grow(
    objective: Objective, made: Plan, built: torch.nn.Module, seen: torch.Tensor, render: Render,
    rows: torch.Tensor, teachers: list[Teacher],
) -> None:  # fmt: skip
    """Make the losses' trainable parts, from the run's seed, for the shapes of a first look at `rows`.

    seen: (k, C, T) scaled windows of those rows. Eval mode: no batch norm learns from the look.
    """
    built.eval()
    with taps(built, objective.tapped()[0]) as features:
        built(render(seen, rows))
    known = [(k.name, k.logits, k.features) for k in (teacher(rows) for teacher in teachers)]
    generator = seeding.torch_stream(made.settings.run.seed, "weights", "losses")
    with seeding.global_from(generator):
        objective.grow(features, known, generator)
