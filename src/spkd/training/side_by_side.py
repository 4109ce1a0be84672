"""Several runs at once on one device: their networks are one stack, and a step of all of them is one pass through it.

Contract: every run gets, up to rounding, what `loop.fit` alone gives it: its own order, noise, losses, checkpoint (the
same file, so either may finish what the other began) and calls of on_epoch. What fails in one run stays in it.
Of the runs furthest behind, those of one network shape and one batch size take their steps in one stack; a run that has
no batch left in its epoch waits outside. Meant for GPUs, where the number of kernels bounds a step of a small network:
on a CPU, processes are faster.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state

from spkd.errors import SpkdError
from spkd.settings import Train
from spkd.training import loop
from spkd.training.interrupt import Stop, stop_between_steps
from spkd.training.loop import State, Task
from spkd.training.progress import Progress
from spkd.training.stacked_losses import StackedLosses, kind, vmapped
from spkd.training.taps import taps

MOMENTUM = "momentum_buffer"


@dataclass(frozen=True)
class Run:
    """What `loop.fit` is given for one run, the settings aside."""

    task: Task
    seed: int
    path: Path
    key: str
    on_epoch: Callable[[State], None]


def fit_many(runs: Sequence[Run], settings: Train) -> list[State | SpkdError]:
    """Train all runs as `loop.fit` would; for each, in order, its final state, or why it failed.

    Each goes on from its checkpoint where it has one, so that they may stand at different epochs; those furthest behind
    are trained first. Raises SpkdError where torch cannot stack a network, KeyboardInterrupt after a signal (every
    checkpoint then holds the very step).
    """
    learners = [_Learner(run, settings) for run in runs]
    n_windows = sum(learner.n_windows for learner in learners)
    done = min((learner.state.epoch for learner in learners), default=0)
    title = f"{len(runs)} side by side"
    with stop_between_steps() as stop, Progress(title, settings.epochs, n_windows, done) as progress:
        while together := _together(learners):
            if together[0].batch_size:
                _stretch(together, settings, stop, progress)
            if stop:
                for learner in learners:
                    learner.keep()
                raise KeyboardInterrupt(
                    f"{stop.name}; the same command goes on from epoch {together[0].state.epoch + 1}"
                )
            for learner in together:
                if not learner.batch_size:
                    learner.end_epoch(progress)
    return [learner.failure or learner.state for learner in learners]


class _Learner:
    """One run on its way. failure: why it goes no further. batches: the rows of every step of its present epoch."""

    def __init__(self, run: Run, settings: Train) -> None:
        self.run, self.task, self.settings = run, run.task, settings
        self.state = State()
        self.batches: list[Tensor] = []
        self.failure: SpkdError | None = None
        try:
            self.optimiser, self.state = loop.begin(run.task, settings, run.path, run.key, run.on_epoch)
            self.batches = loop.batches_of(run.task, settings, run.seed, self.state.epoch)
            self.shape, self.kind = _shape(run.task), kind(run.task)
        except SpkdError as error:
            self.failure = error
        self.n_windows = sum(len(rows) for rows in self.batches)

    @property
    def open(self) -> bool:
        """Whether there is more to train."""
        return self.failure is None and self.state.epoch < self.settings.epochs

    @property
    def place(self) -> tuple[int, int]:
        """(epoch, step) of the next step, both from 0."""
        return self.state.epoch, self.state.step

    @property
    def batch_size(self) -> int:
        """Windows of the next step; 0 at the end of an epoch."""
        return len(self.batches[self.state.step]) if self.state.step < len(self.batches) else 0

    def momentum(self, name: str) -> dict[str, Any]:
        """The optimiser's state of one parameter of the network."""
        found: dict[str, Any] = self.optimiser.state[self.task.network.get_parameter(name)]
        return found

    def steps_alike(self) -> int:
        """How many of the next steps have batches of one size: only the last one of an epoch may be smaller."""
        return sum(len(rows) == self.batch_size for rows in self.batches[self.state.step :])

    def end_epoch(self, progress: Progress) -> None:
        """Evaluate, tell, save, and turn to the next epoch; or fail."""
        run, state, settings = self.run, self.state, self.settings
        for own in [*self.task.network.parameters(), *self.task.network.buffers()]:
            own.data = own.data.clone()  # out of the stack: who keeps this network shall not keep all of them
        try:
            loop.refuse_non_finite(run.task, state, run.path)
            lr = loop.set_rate(self.optimiser, settings, state.epoch)
            epoch = loop.finish_epoch(run.task, state, settings, lr, len(self.batches), self.n_windows)
            progress.epoch(epoch.number, epoch.losses["total"], epoch.validation["accuracy"], epoch.windows_per_s)
            run.on_epoch(state)
            if loop.is_due(state, settings):
                loop.save(run.path, run.task, self.optimiser, state, run.key)
        except SpkdError as error:
            self.failure = error
        self.batches = loop.batches_of(run.task, settings, run.seed, state.epoch)

    def keep(self) -> None:
        """Write the checkpoint at this very step, unless a loss is not finite: the last good one then stays."""
        if self.open:
            with contextlib.suppress(SpkdError):
                loop.refuse_non_finite(self.task, self.state, self.run.path)
                loop.save(self.run.path, self.task, self.optimiser, self.state, self.run.key)


def _shape(task: Task) -> tuple[object, ...]:
    """What networks and inputs must have in common to be stacked."""
    row = task.train[:1]
    tensors = [
        (n, t.shape, t.dtype, t.device, t.requires_grad) for n, t in task.network.state_dict(keep_vars=True).items()
    ]
    return repr(task.network), tensors, task.render(task.windows.batch(row), row).shape


def _together(learners: list[_Learner]) -> list[_Learner]:
    """The runs that take their next step in one stack; none where all have ended."""
    still = [learner for learner in learners if learner.open]
    if not still:
        return []
    first = min(still, key=lambda learner: learner.place)
    alike = (first.place, first.batch_size, first.shape)
    return [learner for learner in still if (learner.place, learner.batch_size, learner.shape) == alike]


def _groups(learners: list[_Learner]) -> list[list[_Learner]]:
    """The runs grouped by what one call can judge."""
    groups: list[list[_Learner]] = []
    for learner in learners:
        found = next((group for group in groups if group[0].kind == learner.kind), None)
        groups.append([learner]) if found is None else found.append(learner)
    return groups


def _stretch(together: list[_Learner], settings: Train, stop: Stop, progress: Progress) -> None:
    """Train the runs in one stack until the first of them needs another batch size or has none left."""
    started = time.monotonic()
    stack = _Stack(together, settings)
    for _ in range(min(learner.steps_alike() for learner in together)):
        progress.step(together[0].batch_size * len(together))
        stack.step()
        if stop:
            break
    stack.hand_back()
    share = (time.monotonic() - started) / len(together)
    for learner in together:
        learner.state.seconds += share


class _Stack:
    """The networks of n runs as one: every parameter, buffer and momentum has a new first axis of length n.

    The runs' own networks become views of the stack and see every step; at the end of an epoch each has its own memory.
    """

    def __init__(self, learners: list[_Learner], settings: Train) -> None:
        groups = _groups(learners)
        learners = [learner for group in groups for learner in group]
        self.losses = [StackedLosses([own.task for own in group], [own.state for own in group]) for group in groups]
        self.learners, self.settings = learners, settings
        networks = [learner.task.network.train() for learner in learners]
        self.network = networks[0]
        self.tap_names = list(dict.fromkeys(name for learner in learners for name in learner.task.tap_names))
        self.parameters, self.buffers = stack_module_state(networks)
        for network, tensors in zip(networks, self._unstacked(), strict=True):
            for name, own in [*network.named_parameters(), *network.named_buffers()]:
                own.data = tensors[name]
        self.optimiser = loop.optimiser_of(self.parameters.values(), settings)
        loop.set_rate(self.optimiser, settings, learners[0].state.epoch)
        for name, stacked in self.parameters.items():
            momenta = [learner.momentum(name)[MOMENTUM] for learner in learners if learner.momentum(name)]
            if momenta:
                self.optimiser.state[stacked][MOMENTUM] = torch.stack(momenta)
        for learner in learners:
            learner.task.objective.parts.train()
            loop.set_rate(learner.optimiser, settings, learner.state.epoch)

    def _unstacked(self) -> list[dict[str, Tensor]]:
        """Of each run, its parameters and buffers by name, as views."""
        whole = {name: tensor.detach().unbind(0) for name, tensor in (self.parameters | self.buffers).items()}
        return [{name: tensors[k] for name, tensors in whole.items()} for k in range(len(self.learners))]

    def step(self) -> None:
        """One update of every run. Parts of losses are not stacked: each run's own optimiser moves them."""
        rows = [learner.batches[learner.state.step] for learner in self.learners]
        with_parts = [learner.optimiser for learner in self.learners if len(learner.task.objective.parts)]
        for optimiser in (self.optimiser, *with_parts):
            optimiser.zero_grad(set_to_none=True)
        torch.cat(self._losses(rows)).sum().backward()  # type: ignore[no-untyped-call]
        for optimiser in (self.optimiser, *with_parts):
            optimiser.step()
        for learner in self.learners:
            learner.state.step += 1

    def _losses(self, rows: list[Tensor]) -> list[Tensor]:
        """The total losses of all runs for their own rows, with their graph."""
        seen = [
            loop.rendered(own.task, r, loop.noise_of(self.settings, own.run.seed, own.state, r.device))
            for own, r in zip(self.learners, rows, strict=True)
        ]
        logits, features = self._forward(torch.stack([x for x, _ in seen]))
        sizes = [len(losses.tasks) for losses in self.losses]
        parts = {name: torch.split(feature, sizes) for name, feature in features.items()}
        totals, first = [], 0
        for k, (losses, own_logits) in enumerate(zip(self.losses, torch.split(logits, sizes), strict=True)):
            own = slice(first, first + sizes[k])
            noise = [disturbance for _, disturbance in seen[own]]
            totals.append(losses(rows[own], noise, own_logits, {name: part[k] for name, part in parts.items()}))
            first = own.stop
        return totals

    def _forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(logits (n, b, n_classes), {tap: (n, b, ...)}). x: (n, b, ...) what each of the n networks sees."""

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Any:
            with taps(self.network, self.tap_names) as features:
                logits = functional_call(self.network, (parameters, buffers), (x,))
            return logits, features

        found: tuple[Tensor, dict[str, Tensor]] = vmapped(one, [learner.task for learner in self.learners])(
            self.parameters, self.buffers, x
        )
        return found

    def hand_back(self) -> None:
        """Give every run its sums and the momenta of its parameters."""
        for losses in self.losses:
            losses.hand_back()
        for name, stacked in self.parameters.items():
            momenta = self.optimiser.state[stacked].get(MOMENTUM)
            if momenta is not None:
                for learner, own in zip(self.learners, momenta.unbind(0), strict=True):
                    learner.momentum(name)[MOMENTUM] = own
