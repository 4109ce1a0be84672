"""What a student minimises: weighted, named terms of the losses on the shelf. Tensors in, loss and parts out.

L = base ((1 - lambda) CE + lambda sum_k w_k KD_k) + sum_name beta_name sum_tap loss_name(tap)      (TPKD eq. 9, base 1)
w_k is alpha_k, or what a file of weightings/ says for each window; feature losses weigh teachers by alpha always.
A further loss is one file in losses/ and one entry under `losses` in params.yaml, weighted by its name in `beta`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spkd import config, plugin
from spkd.errors import SpkdError

TeacherOutput = tuple[str, Tensor, Mapping[str, Tensor]]
"""(name, logits (b, n_classes), features {tap: (b, ...)}) of one teacher for the batch."""


@dataclass(frozen=True)
class Term:
    """One loss of the shelf with its weight and its checked settings. The optional ones are None where it has none.

    summed: one loss of all layers and teachers. each: (teachers, b) losses from all teachers' logits, (teachers, b,
    n_classes).
    taps: {student's layer: teacher's layer} where the loss has layers of its own. parts: makes its trainable parts.
    """

    name: str
    sees: str
    weight: float
    settings: dict[str, Any]
    function: Callable[..., Tensor]
    summed: Callable[..., Tensor] | None
    each: Callable[..., Tensor] | None
    taps: Mapping[str, str] | None
    parts: Callable[..., nn.Module] | None


@dataclass(frozen=True)
class Weighting:
    """How much each teacher's logits count for each window. mixes: "logits" or "losses"; None = by alpha."""

    name: str
    mixes: str | None
    settings: dict[str, Any]
    function: Callable[..., Tensor] | None


class Objective:
    """Total loss and its parts for one batch.

    lambda_: share of KD against cross entropy, 0-1. alphas: weight of each teacher, in order; empty = equal.
    beta: {loss name: weight}; a weight of 0 leaves the loss out. losses: the `losses` tree of params.yaml.
    base: weight of cross entropy and KD together. weighting: a file of weightings/, weightings: their tree.
    taps: layers that the feature losses compare; None = every one that a student's output holds.
    Raises SpkdError on an unknown loss, on settings that do not fit it, on a loss that beta cannot weigh, and where
    feature losses have no layers to compare.
    """

    def __init__(
        self,
        lambda_: float,
        alphas: Sequence[float],
        beta: Mapping[str, float],
        losses: Mapping[str, Any],
        base: float = 1.0,
        weighting: str = "fixed",
        weightings: Mapping[str, Any] | None = None,
        taps: Sequence[str] | None = None,
    ) -> None:
        self.alphas, self.taps = list(alphas), taps
        self.cross_entropy = _term("cross_entropy", base * (1 - lambda_), losses)
        self.kd = _term("kd", base * lambda_, losses)
        self.weighting = _weighting(weighting, weightings or {"fixed": {}})
        self.extra = [_term(name, weight, losses) for name, weight in beta.items() if weight > 0]
        self.parts = nn.ModuleDict()
        if base == 0 and not self.extra:
            raise SpkdError("distill.base", "more than 0, or a loss in distill.beta", base, "nothing would be learnt")
        for term in self.extra:
            if term.sees == "labels" or term.name == "kd":
                do = "set lambda for kd and cross_entropy; beta weighs losses between student and teacher"
                raise SpkdError(f"distill.beta.{term.name}", "a loss of features or of logits", term.name, do)
            if term.sees == "features" and taps is not None and not self._pairs(term, taps):
                raise _no_taps()

    @property
    def needs_parts(self) -> bool:
        """Whether any loss has trainable parts, which `grow` makes."""
        return any(term.parts is not None for term in self.extra)

    def tapped(self) -> tuple[list[str], list[str]]:
        """(layers of the student, layers of every teacher) that the losses look at, each once."""
        pairs = [pair for term in self.extra if term.sees == "features" for pair in self._pairs(term, self.taps or [])]
        return list(dict.fromkeys(own for own, _ in pairs)), list(dict.fromkeys(known for _, known in pairs))

    def grow(
        self, features: Mapping[str, Tensor], teachers: Sequence[TeacherOutput], generator: torch.Generator
    ) -> None:
        """Make the trainable parts of every loss that has such, in `parts`, for outputs of these shapes.

        features, teachers: as in a call, for any number of windows. The parts lie on the features' device.
        """
        for term in self.extra:
            if term.parts is None:
                continue
            for tap, feature, known in self._layers(term, features, teachers):
                for k, teacher in enumerate(known):
                    made = term.parts(feature, teacher, generator, **term.settings)
                    self.parts[_key(term.name, tap, k)] = made.to(feature.device)

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

        logits: (b, n_classes) of the student. features: {tap: (b, ...)} of the student, read only by
        feature losses. labels: (b,) int64. Without teachers the total is the plain cross entropy.
        Parts: "cross_entropy", "kd/<teacher>", "<loss>" (summed over taps) where the loss mixes teachers itself,
        else "<loss>/<teacher>"; with a weighting also the mean "weight/<teacher>", and one "kd" where it mixes logits.
        Raises SpkdError where teachers share a name or lack a tap.
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
            if term is self.kd and self.weighting.mixes is not None:
                weighted, named = self._weighed(logits, teachers, labels)
            else:
                weighted, named = self._distilled(term, logits, features, teachers, shares)
            # A weight of 0 leaves the term out of the sum, so that an infinite part cannot turn it into NaN.
            total = total + term.weight * weighted if term.weight > 0 else total
            parts |= named
        return total, {name: value.detach() for name, value in parts.items()}

    def _weighed(
        self, logits: Tensor, teachers: Sequence[TeacherOutput], labels: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(KD with the weighting's weight for each window and teacher, its parts by name)."""
        known = [teacher_logits.detach() for _, teacher_logits, _ in teachers]
        assert self.weighting.function is not None
        weights = self.weighting.function(known, labels, **self.weighting.settings)
        named = {f"weight/{name}": weight.mean() for (name, _, _), weight in zip(teachers, weights, strict=True)}
        if self.weighting.mixes == "logits":
            mixed = (weights.unsqueeze(2) * torch.stack(known)).sum(dim=0)
            value = self.kd.function(logits, mixed, **self.kd.settings)
            return value, {**named, "kd": value}
        assert self.kd.each is not None
        costs = self.kd.each(logits, torch.stack(known), **self.kd.settings)
        named |= {f"kd/{name}": cost.mean() for (name, _, _), cost in zip(teachers, costs, strict=True)}
        return (weights * costs).sum(dim=0).mean(), named

    def _distilled(
        self,
        term: Term,
        logits: Tensor,
        features: Mapping[str, Tensor],
        teachers: Sequence[TeacherOutput],
        shares: Sequence[float],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(the term over all teachers and layers, its parts by name)."""
        if term.sees == "features":
            layers = self._layers(term, features, teachers)
        else:
            layers = [("logits", logits, [teacher_logits for _, teacher_logits, _ in teachers])]
        if term.summed is not None:
            _, students, known = zip(*layers, strict=True)
            value = term.summed(students, known, shares, **term.settings)
            return value, {term.name: value}
        parts: dict[str, Tensor] = {}
        if term.each is not None:
            costs = term.each(logits, torch.stack([known for _, known, _ in teachers]), **term.settings).mean(dim=1)
            parts = {f"{term.name}/{name}": cost for (name, _, _), cost in zip(teachers, costs, strict=True)}
            return _sum([share * cost for share, cost in zip(shares, costs, strict=True)]), parts
        for k, (name, _, _) in enumerate(teachers):
            values = [
                term.function(s, known[k], **term.settings, **self._own(term, tap, k)) for tap, s, known in layers
            ]
            parts[f"{term.name}/{name}"] = _sum(values)
        return _sum([share * value for share, value in zip(shares, parts.values(), strict=True)]), parts

    def _own(self, term: Term, tap: str, k: int) -> dict[str, nn.Module]:
        """The trainable parts of one term, layer and teacher as an argument; nothing where the loss has none."""
        return {} if term.parts is None else {"parts": self.parts[_key(term.name, tap, k)]}

    def _pairs(self, term: Term, taps: Sequence[str]) -> list[tuple[str, str]]:
        """(student's layer, teacher's layer) that a feature loss compares: its own, or the same ones in both."""
        return [(tap, tap) for tap in taps] if term.taps is None else list(term.taps.items())

    def _layers(
        self, term: Term, features: Mapping[str, Tensor], teachers: Sequence[TeacherOutput]
    ) -> list[tuple[str, Tensor, list[Tensor]]]:
        """(tap, the student's feature, those of all teachers) for every layer that the term compares."""
        pairs = self._pairs(term, list(features) if self.taps is None else self.taps)
        if not pairs:
            raise _no_taps()
        found = [("student", features, own) for own, _ in pairs]
        found += [(f"teacher {name}", known, tap) for name, _, known in teachers for _, tap in pairs]
        for whose, known, tap in found:
            if tap not in known:
                raise SpkdError(whose, f"a feature of {tap!r}", "none", plugin.nearest(tap, list(known)))
        return [(own, features[own], [known[tap] for _, _, known in teachers]) for own, tap in pairs]


def _no_taps() -> SpkdError:
    return SpkdError("distill.taps", "at least one layer, since beta weighs a feature loss", "none", "name one")


def _term(name: str, weight: float, losses: Mapping[str, Any]) -> Term:
    """The loss of that name, found on the shelf and set up from its own entry."""
    module = plugin.load("losses", name)
    settings = config.part("losses", name, {"losses": losses}).model_dump()
    optional = {key: getattr(module, key, None) for key in ("summed", "each", "TAPS", "parts")}
    if module.SEES not in (sees := ("labels", "logits", "features")):
        do = "say there what the loss compares"
        raise SpkdError(f"src/spkd/losses/{name}.py", f"SEES, one of {', '.join(sees)}", repr(module.SEES), do)
    function = getattr(module, name)
    for called in (optional["summed"] or function, optional["each"], optional["parts"]):
        if called is not None:
            plugin.require_arguments("losses", name, called, settings)
    return Term(name, module.SEES, weight, settings, function, *optional.values())


def _weighting(name: str, weightings: Mapping[str, Any]) -> Weighting:
    """The weighting of that name, found on the shelf and set up from its own entry."""
    module = plugin.load("weightings", name)
    settings = config.part("weightings", name, {"weightings": weightings}).model_dump()
    function = getattr(module, name, None)
    if module.MIXES not in (None, "losses", "logits") or (module.MIXES and function is None):
        got = f"{module.MIXES!r} and {'no such function' if function is None else 'the function'}"
        expected = f'MIXES, "losses" or "logits", and a function `{name}`'
        raise SpkdError(f"src/spkd/weightings/{name}.py", expected, got, "write both there")
    if function is not None:
        plugin.require_arguments("weightings", name, function, settings)
    return Weighting(name, module.MIXES, settings, function)


def _key(term: str, tap: str, k: int) -> str:
    """The name of a term's trainable parts for one layer and teacher; a module's name has no dots."""
    return f"{term}-{tap}-{k}".replace(".", "_")


def _sum(values: Sequence[Tensor]) -> Tensor:
    """Sum of scalars, on their device; one of a single scalar costs nothing."""
    return sum(values[1:], start=values[0])
