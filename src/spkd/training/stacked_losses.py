"""The losses of several runs whose objectives are alike, as one call: n runs cost the kernels of one.

Contract: totals, gradients and sums are those of each run's own objective, up to rounding. A run whose losses have
trainable parts, or that torch cannot stack, is alone in its call.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from spkd.errors import SpkdError
from spkd.training import loop
from spkd.training.loop import State, Task
from spkd.training.taps import taps
from spkd.training.teachers import Knowledge


def kind(task: Task) -> tuple[object, ...]:
    """What runs must have in common to be judged by one call: losses, layers, and what their teachers answer."""
    known = [teacher(task.train[:2]) for teacher in task.teachers]
    if len(task.objective.parts) or not _can_be_stacked(task):
        return (object(),)  # is equal to nothing else
    answers = [(k.name, k.logits.shape, [(tap, type(f), _shape(f)) for tap, f in k.features.items()]) for k in known]
    own = {name: value for name, value in vars(task.objective).items() if name != "parts"}
    return own, task.tap_names, answers


def _can_be_stacked(task: Task) -> bool:
    """Whether torch can stack the run's losses, tried on two windows; says so where it cannot."""
    rows = task.train[:2]
    with taps(task.network.eval(), task.tap_names) as features:
        logits = task.network(task.render(task.windows.batch(rows), rows))
    twice = {name: torch.stack([feature] * 2) for name, feature in features.items()}
    try:
        StackedLosses([task] * 2, [State(), State()])([rows] * 2, [None] * 2, torch.stack([logits] * 2), twice)
    except SpkdError as error:
        print(f"{task.title}: its losses are worked out apart from those of the other runs: {error.got}", flush=True)
        return False
    return True


class StackedLosses:
    """Of runs of one kind. sums: as State.sums, but (n,); the states have them after `hand_back`."""

    def __init__(self, tasks: Sequence[Task], states: Sequence[State]) -> None:
        self.tasks, self.states = tasks, states
        self.objective, self.tap_names = tasks[0].objective, tasks[0].tap_names
        self.sums = {name: torch.stack([state.sums[name] for state in states]) for name in states[0].sums}

    def __call__(
        self, rows: Sequence[Tensor], noise: Sequence[Tensor | None], logits: Tensor, features: Mapping[str, Tensor]
    ) -> Tensor:
        """(n,) total losses of a batch of each run, with their graph.

        rows, noise: of each run, (b,) and (b, C, T) or None. logits: (n, b, n_classes). features: {tap: (n, b, ...)}.
        """
        labels = torch.stack([task.windows.label[r] for task, r in zip(self.tasks, rows, strict=True)])
        known = [[t(r, x) for t in task.teachers] for task, r, x in zip(self.tasks, rows, noise, strict=True)]
        layers = {tap: features[tap] for tap in self.tap_names}
        judge = self._apart if len(known) == 1 else self._together
        total, parts = judge(logits, layers, known, labels)
        right = (logits.argmax(2) == labels).float().mean(dim=1)
        loop.tally(self.sums, self.states[0].step, parts, total.detach(), right)
        return total

    def _apart(
        self, logits: Tensor, layers: Mapping[str, Tensor], known: Sequence[Sequence[Knowledge]], labels: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(total (1,), parts (1,)) of the only run, by its objective itself."""
        teachers = [(k.name, k.logits, k.features) for k in known[0]]
        total, parts = self.objective(logits[0], {tap: f[0] for tap, f in layers.items()}, teachers, labels[0])
        return total.unsqueeze(0), {name: value.unsqueeze(0) for name, value in parts.items()}

    def _together(
        self, logits: Tensor, layers: Mapping[str, Tensor], known: Sequence[Sequence[Knowledge]], labels: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(totals (n,), parts (n,)) of n runs by one call. known: what each run's teachers say."""

        def judge(own: Tensor, own_layers: Mapping[str, Tensor], taught: list[Any], truth: Tensor) -> Any:
            teachers = [
                (k.name, told, {tap: _closed(features[tap], like) for tap, like in k.features.items()})
                for k, (told, features) in zip(known[0], taught, strict=True)
            ]
            return self.objective(own, own_layers, teachers, truth)

        answers = [_stacked(of_one) for of_one in zip(*known, strict=True)]
        found: tuple[Tensor, dict[str, Tensor]] = vmapped(judge, self.tasks)(logits, layers, answers, labels)
        return found

    def hand_back(self) -> None:
        """Give every state its own sums."""
        for k, state in enumerate(self.states):
            state.sums = {name: of_all[k] for name, of_all in self.sums.items()}


def vmapped(function: Any, tasks: Sequence[Task]) -> Any:
    """torch.vmap of a function; where torch refuses, a SpkdError that names the runs and says what to do."""

    def call(*arguments: Any) -> Any:
        try:
            with warnings.catch_warnings():
                # An operation that torch cannot stack, as kl_div, runs once for every run: slower, and as right.
                warnings.filterwarnings("ignore", "There is a performance drop because")
                return torch.vmap(function)(*arguments)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            titles = ", ".join(task.title for task in tasks)
            do = "train them alone: table.side_by_side 1"
            expected = "networks and losses that torch.vmap can stack"
            raise SpkdError(titles, expected, str(error).split("\n")[0], do) from error

    return call


def _stacked(known: Sequence[Knowledge]) -> tuple[Tensor, dict[str, Any]]:
    """(logits (n, b, n_classes), {tap: features (n, b, ...)}) of one teacher of each of n runs."""
    features: dict[str, Any] = {}
    for tap in known[0].features:
        opened = [_opened(k.features[tap]) for k in known]
        features[tap] = {name: torch.stack([tensors[name] for tensors in opened]) for name in opened[0]}
    return torch.stack([k.logits for k in known]), features


def _opened(feature: Any) -> dict[str, Tensor]:
    """The tensors in a feature, which may be a loss's own form of it (sp's Products)."""
    return {"": feature} if isinstance(feature, Tensor) else vars(feature)


def _closed(tensors: dict[str, Tensor], like: Any) -> Any:
    """The feature again, in the form of `like`."""
    return tensors[""] if isinstance(like, Tensor) else type(like)(**tensors)


def _shape(feature: Any) -> dict[str, torch.Size]:
    """Of each tensor of a feature."""
    return {name: tensor.shape for name, tensor in _opened(feature).items()}
