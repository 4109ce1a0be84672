"""The one training loop, for teachers, scratch students and students of any number of teachers.

Everything random derives from (seed, purpose), so a run that was killed and resumed ends with the same bits as one
that was not. The loop knows no files but its checkpoint, and no tracking: it calls `on_epoch`.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spkd import seeding
from spkd.data.batches import DeviceWindows, order
from spkd.errors import SpkdError
from spkd.settings import Train
from spkd.training import checkpoint
from spkd.training.interrupt import Stop, stop_between_steps
from spkd.training.metrics import scores
from spkd.training.objective import Objective
from spkd.training.progress import Progress
from spkd.training.schedule import learning_rate
from spkd.training.taps import taps
from spkd.training.teachers import Render, Teacher


@dataclass(frozen=True)
class Task:
    """What to train, on which rows of which windows, from whom. Rows are int64 tensors on the windows' device."""

    network: torch.nn.Module
    render: Render
    windows: DeviceWindows
    train: torch.Tensor
    validation: torch.Tensor
    test: torch.Tensor
    objective: Objective
    teachers: list[Teacher]
    tap_names: list[str]
    title: str


@dataclass(frozen=True)
class Epoch:
    """Numbers of one epoch. number counts from 1. losses: epoch mean of every term, unweighted, and `total`."""

    number: int
    lr: float
    losses: dict[str, float]
    train_accuracy: float
    validation: dict[str, float]
    test: dict[str, float]
    seconds: float
    windows_per_s: float


@dataclass
class State:
    """Everything that a checkpoint holds besides the weights. chosen: the weights of the best validation epoch."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    history: list[Epoch] = field(default_factory=list)
    sums: dict[str, torch.Tensor] = field(default_factory=dict)
    chosen: dict[str, torch.Tensor] = field(default_factory=dict)


def best_epoch(history: list[Epoch], split: str) -> Epoch:
    """The epoch with the highest accuracy on `validation` or `test`; the first of equals."""
    return max(history, key=lambda e: (getattr(e, split)["accuracy"], -e.number))


@torch.no_grad()
def predict(task: Task, rows: torch.Tensor, batch: int) -> tuple[np.ndarray, float]:
    """(predicted class (n,), mean cross entropy) of the network in eval mode on the given rows."""
    task.network.eval()
    predicted, loss = [], 0.0
    for part in torch.split(rows, batch):
        logits = task.network(task.render(task.windows.batch(part), part))
        loss += float(torch.nn.functional.cross_entropy(logits, task.windows.label[part], reduction="sum"))
        predicted.append(logits.argmax(1))
    return torch.cat(predicted).cpu().numpy(), loss / len(rows)


def evaluate(task: Task, rows: torch.Tensor, batch: int) -> dict[str, float]:
    """accuracy, macro_f1 and loss on the given rows."""
    predicted, loss = predict(task, rows, batch)
    return {**asdict(scores(task.windows.label[rows].cpu().numpy(), predicted)), "loss": loss}


def _trained(task: Task) -> dict[str, torch.nn.Parameter]:
    """Every parameter that learns, by name: of the network, then of the losses' own parts (`parts.<name>`)."""
    own = {f"parts.{n}": p for n, p in task.objective.parts.named_parameters()}
    return dict(task.network.named_parameters()) | own


def optimiser_of(learning: Iterable[torch.Tensor], settings: Train) -> torch.optim.SGD:
    """The optimiser of these parameters; fused: one kernel for all of them instead of four for each."""
    return torch.optim.SGD(
        learning, lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay, fused=True
    )


def save(path: Path, task: Task, optimiser: torch.optim.SGD, state: State, key: str) -> None:
    """Write the checkpoint: weights, momenta and state."""
    tensors = {f"network.{n}": t for n, t in task.network.state_dict().items()}
    tensors |= {f"parts.{n}": t for n, t in task.objective.parts.state_dict().items()}
    for name, parameter in _trained(task).items():
        momentum = optimiser.state.get(parameter, {}).get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{name}"] = momentum
    tensors |= {f"chosen.{n}": t for n, t in state.chosen.items()} | {f"sum.{n}": t for n, t in state.sums.items()}
    plain = {"epoch": state.epoch, "step": state.step, "seconds": state.seconds, "key": key}
    checkpoint.save(path, tensors, {**plain, "history": [asdict(e) for e in state.history]})


def _restore(path: Path, task: Task, optimiser: torch.optim.SGD, key: str) -> State:
    tensors, plain = checkpoint.load(path)
    if plain["key"] != key:
        raise SpkdError(path, f"a checkpoint of this run ({key})", plain["key"], "delete the file or its folder")
    device = task.train.device

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {n.removeprefix(prefix): t.to(device) for n, t in tensors.items() if n.startswith(prefix)}

    task.network.load_state_dict(part("network."))
    task.objective.parts.load_state_dict(part("parts."))
    momentum = part("momentum.")
    for name, parameter in _trained(task).items():
        if name in momentum:
            optimiser.state[parameter]["momentum_buffer"] = momentum[name]
    history = [Epoch(**e) for e in plain["history"]]
    return State(plain["epoch"], plain["step"], plain["seconds"], history, part("sum."), part("chosen."))


def _train_step(task: Task, optimiser: torch.optim.SGD, state: State, rows: torch.Tensor, noise: Any) -> None:
    """One update; adds the batch's losses to state.sums."""
    x, disturbance = rendered(task, rows, noise)
    with taps(task.network, task.tap_names) as features:
        logits = task.network(x)
    knowledge = [teacher(rows, disturbance) for teacher in task.teachers]
    labels = task.windows.label[rows]
    total, parts = task.objective(logits, features, [(k.name, k.logits, k.features) for k in knowledge], labels)
    optimiser.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    tally(state.sums, state.step, parts, total.detach(), (logits.argmax(1) == labels).float().mean())


def rendered(task: Task, rows: torch.Tensor, noise: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(what the network sees of these rows, the noise that was added to their scaled signal)."""
    x = task.windows.batch(rows)
    disturbance = None if noise is None else noise(x)
    return task.render(x if disturbance is None else x + disturbance, rows), disturbance


def tally(
    sums: dict[str, torch.Tensor],
    step: int,
    parts: Mapping[str, torch.Tensor],
    total: torch.Tensor,
    right: torch.Tensor,
) -> None:
    """Add a batch's losses and its share of right answers to sums, and note the first step that is not finite.

    All scalars, or (n,) of n runs. Sums are float64 on the device: no wait for the GPU.
    """
    for name, value in {**parts, "total": total, "correct": right}.items():
        sums[name] = sums.get(name, torch.zeros_like(total, dtype=torch.float64)) + value
    bad = sums.setdefault("first_bad_step", torch.full_like(total, math.inf, dtype=torch.float64))
    sums["first_bad_step"] = torch.where(torch.isfinite(total) | torch.isfinite(bad), bad, float(step))


def refuse_non_finite(task: Task, state: State, path: Path) -> None:
    """Raise SpkdError where a loss of this epoch was not finite."""
    step = float(state.sums.get("first_bad_step", torch.tensor(math.inf)))
    if math.isfinite(step):
        parts = {n: float(v) for n, v in state.sums.items() if n not in ("correct", "first_bad_step")}
        broken = [n for n, v in parts.items() if not math.isfinite(v)]
        raise SpkdError(
            f"{task.title}: epoch {state.epoch + 1}, step {int(step)}",
            "a finite loss",
            f"{', '.join(broken)} not finite",
            f"lower train.lr or the weight of that term; the last good weights are in {path}",
        )


def batches_of(task: Task, settings: Train, seed: int, epoch: int) -> list[torch.Tensor]:
    """The training rows of every step of one epoch. Raises SpkdError where not one batch is full."""
    shuffled = order(task.train, seed, epoch)
    batches = list(torch.split(shuffled, settings.batch))
    short = len(batches[-1]) < (settings.batch if settings.last_batch == "drop" else 2)
    batches = batches[:-1] if short else batches
    if not batches:
        raise SpkdError("train.batch", f"at most {len(shuffled)} (training windows)", settings.batch, "lower it")
    return batches


def noise_of(
    settings: Train, seed: int, state: State, device: torch.device
) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """What makes this step's noise for a batch; None without noise."""
    if settings.noise == 0:
        return None
    generator = seeding.torch_stream(seed, "noise", state.epoch, state.step, device=device)
    return lambda x: settings.noise * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


def finish_epoch(task: Task, state: State, settings: Train, lr: float, n_steps: int, n_windows: int) -> Epoch:
    """Evaluate, remember the weights if they are the best so far, and turn to the next epoch."""
    validation = evaluate(task, task.validation, settings.eval_batch)
    test = evaluate(task, task.test, settings.eval_batch)
    means = {n: float(v) / n_steps for n, v in state.sums.items() if n != "first_bad_step"}
    accuracy = means.pop("correct")
    rate = n_windows / max(state.seconds, 1e-9)
    epoch = Epoch(state.epoch + 1, lr, means, accuracy, validation, test, state.seconds, rate)
    state.history.append(epoch)
    if best_epoch(state.history, "validation") is epoch:
        state.chosen = {n: t.detach().clone() for n, t in task.network.state_dict().items()}
    state.epoch, state.step, state.seconds, state.sums = state.epoch + 1, 0, 0.0, {}
    return epoch


def begin(
    task: Task, settings: Train, path: Path, key: str, on_epoch: Callable[[State], None]
) -> tuple[torch.optim.SGD, State]:
    """(optimiser, state) from the checkpoint at `path`, or a first one written there; arguments as of `fit`."""
    optimiser = optimiser_of(_trained(task).values(), settings)
    if path.exists():
        return optimiser, _restore(path, task, optimiser, key)
    state = State()
    on_epoch(state)
    save(path, task, optimiser, state, key)
    return optimiser, state


def fit(task: Task, settings: Train, seed: int, path: Path, key: str, on_epoch: Callable[[State], None]) -> State:
    """Train the task's network from its present weights, or from the checkpoint at `path`; returns the final state.

    key: identifies settings, data and teachers; a checkpoint with another key is refused.
    on_epoch: called before the first epoch (history empty) and after each; not called again for restored epochs.
    Raises SpkdError on a non-finite loss (the checkpoint keeps the last good weights), KeyboardInterrupt after a
    signal (the checkpoint then holds this very step).
    """
    optimiser, state = begin(task, settings, path, key, on_epoch)
    n_windows = sum(len(b) for b in batches_of(task, settings, seed, 0))
    with stop_between_steps() as stop, Progress(task.title, settings.epochs, n_windows, state.epoch) as progress:
        while state.epoch < settings.epochs:
            _epoch(task, optimiser, state, settings, seed, stop, progress, path, key)
            on_epoch(state)
            if is_due(state, settings):
                save(path, task, optimiser, state, key)
    return state


def is_due(state: State, settings: Train) -> bool:
    """Whether a checkpoint is written after the epoch that just ended."""
    return state.epoch % settings.checkpoint_every == 0 or state.epoch == settings.epochs


def set_rate(optimiser: torch.optim.SGD, settings: Train, epoch: int) -> float:
    """The learning rate of an epoch (counted from 0), which the optimiser has from now on."""
    lr = learning_rate(epoch, settings.epochs, settings.lr, settings.lr_final, settings.schedule)
    for group in optimiser.param_groups:
        group["lr"] = lr
    return lr


def _epoch(
    task: Task, optimiser: torch.optim.SGD, state: State, settings: Train, seed: int,
    stop: Stop, progress: Progress, path: Path, key: str,
) -> None:  # fmt: skip
    """Train from state.step to the end of the epoch and evaluate it."""
    task.network.train()
    task.objective.parts.train()
    lr = set_rate(optimiser, settings, state.epoch)
    batches = batches_of(task, settings, seed, state.epoch)
    started = time.monotonic()
    for rows in batches[state.step :]:
        _train_step(task, optimiser, state, rows, noise_of(settings, seed, state, rows.device))
        state.step += 1
        progress.step(len(rows))
        if stop:
            state.seconds += time.monotonic() - started
            refuse_non_finite(task, state, path)
            save(path, task, optimiser, state, key)
            raise KeyboardInterrupt(f"{stop.name}; the same command goes on from epoch {state.epoch + 1}")
    refuse_non_finite(task, state, path)
    state.seconds += time.monotonic() - started
    epoch = finish_epoch(task, state, settings, lr, len(batches), sum(len(b) for b in batches))
    progress.epoch(epoch.number, epoch.losses["total"], epoch.validation["accuracy"], epoch.windows_per_s)
