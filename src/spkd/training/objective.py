"""What a student minimises: weighted, named terms of the losses on the shelf. Pure: tensors in, loss and parts out.

L = (1 - lambda) CE + lambda sum_k alpha_k KD_k + sum_name beta_name sum_tap loss_name(tap)      (TPKD eq. 9)
A further loss is one file in losses/ and one entry under `losses` in params.yaml, weighted by its name in `beta`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spkd import config, plugin
from spkd.errors import SpkdError

TeacherOutput = tuple[str, Tensor, Mapping[str, Tensor]]
"""(name, logits (b, n_classes), features {tap: (b, ...)}) of one teacher for the batch."""


@dataclass(frozen=True)
class Term:
    """One loss of the shelf with its weight and its checked settings. `mixed` is None where the loss has no such."""

    name: str
    sees: str
    weight: float
    settings: dict[str, Any]
    function: Callable[..., Tensor]
    mixed: Callable[..., Tensor] | None


class Objective:
    """Total loss and its parts for one batch.

    lambda_: share of KD against cross entropy, 0-1. alphas: weight of each teacher, in order; empty = equal.
    beta: {loss name: weight}; a weight of 0 leaves the loss out. losses: the `losses` tree of params.yaml.
    Raises SpkdError on an unknown loss, on settings that do not fit it, and on a loss that beta cannot weigh.
    """

    def __init__(
        self, lambda_: float, alphas: Sequence[float], beta: Mapping[str, float], losses: Mapping[str, Any]
    ) -> None:
        self.lambda_, self.alphas = lambda_, list(alphas)
        self.cross_entropy = _term("cross_entropy", 1 - lambda_, losses)
        self.kd = _term("kd", lambda_, losses)
        self.extra = [_term(name, weight, losses) for name, weight in beta.items() if weight > 0]
        for term in self.extra:
            if term.sees == "labels" or term.name == "kd":
                do = "set lambda for kd and cross_entropy; beta weighs losses between student and teacher"
                raise SpkdError(f"distill.beta.{term.name}", "a loss of features or of logits", term.name, do)

    @property
    def needs_features(self) -> bool:
        """Whether any loss looks at taps: without it neither student nor teachers need to be tapped."""
        return any(term.sees == "features" for term in self.extra)

    def shares(self, n_teachers: int) -> list[float]:
        """alpha of each teacher. Raises SpkdError where alphas were given for another number of teachers."""
        if not self.alphas:
            return [1 / n_teachers] * n_teachers
        if len(self.alphas) != n_teachers:
            raise SpkdError("distill.alphas", f"{n_teachers} weights, one per teacher", self.alphas, "or [] for equal")
        return self.alphas

    def __call__(
        self, logits: Tensor, features: Mapping[str, Tensor], teachers: Sequence[TeacherOutput], labels: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(total with its graph, {part: detached scalar, unweighted}).

        logits: (b, n_classes) of the student. features: {tap: (b, ...)} of the student, read only where
        needs_features. labels: (b,) int64. Without teachers the total is the plain cross entropy.
        Parts: "cross_entropy", "kd/<teacher>", "<loss>" (summed over taps) where the loss mixes teachers itself,
        else "<loss>/<teacher>". Raises SpkdError where teachers share a name or lack a tap.
        """
        plain = self.cross_entropy.function(logits, labels, **self.cross_entropy.settings)
        parts = {"cross_entropy": plain}
        if not teachers:
            return plain, {"cross_entropy": plain.detach()}
        names = [name for name, _, _ in teachers]
        if len(set(names)) < len(names):
            raise SpkdError("distill.teachers", "teachers of different names", names, "remove or rename one of them")
        shares = self.shares(len(teachers))
        total = self.cross_entropy.weight * plain
        for term in (self.kd, *self.extra):
            weighted, named = _distilled(term, logits, features, teachers, shares)
            # A weight of 0 leaves the term out of the sum, so that an infinite part cannot turn it into NaN.
            total = total + term.weight * weighted if term.weight > 0 else total
            parts |= named
        return total, {name: value.detach() for name, value in parts.items()}


def _term(name: str, weight: float, losses: Mapping[str, Any]) -> Term:
    """The loss of that name, found on the shelf and set up from its own entry."""
    module = plugin.load("losses", name)
    settings = config.part("losses", name, {"losses": losses}).model_dump()
    return Term(name, module.SEES, weight, settings, getattr(module, name), getattr(module, "mixed", None))


def _distilled(
    term: Term,
    logits: Tensor,
    features: Mapping[str, Tensor],
    teachers: Sequence[TeacherOutput],
    shares: Sequence[float],
) -> tuple[Tensor, dict[str, Tensor]]:
    """(the term over all teachers and layers, its parts by name): student and teachers meet here and nowhere else."""
    if term.sees == "features":
        pairs = _layers(features, teachers)
    else:
        pairs = [(logits, [teacher_logits for _, teacher_logits, _ in teachers])]
    if term.mixed is not None:
        value = _sum([term.mixed(student, known, shares, **term.settings) for student, known in pairs])
        return value, {term.name: value}
    parts = {}
    for k, (name, _, _) in enumerate(teachers):
        parts[f"{term.name}/{name}"] = _sum([term.function(s, known[k], **term.settings) for s, known in pairs])
    return _sum([share * value for share, value in zip(shares, parts.values(), strict=True)]), parts


def _layers(features: Mapping[str, Tensor], teachers: Sequence[TeacherOutput]) -> list[tuple[Tensor, list[Tensor]]]:
    """For every tap of the student: its feature and those of all teachers."""
    if not features:
        raise SpkdError("distill.taps", "at least one layer, since beta weighs a feature loss", "none", "name one")
    for name, _, known in teachers:
        for tap in features:
            if tap not in known:
                raise SpkdError(f"teacher {name}", f"a feature of {tap!r}", "none", plugin.nearest(tap, list(known)))
    return [(feature, [known[tap] for _, _, known in teachers]) for tap, feature in features.items()]


def _sum(values: Sequence[Tensor]) -> Tensor:
    """Sum of scalars, on their device."""
    return torch.stack(list(values)).sum()
