"""Where a training stands: the epochs behind it, and all that its checkpoint holds."""

import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from spkd.errors import SpkdError
from spkd.training import checkpoint
from spkd.training.step import Task


@dataclass(frozen=True)
class Epoch:
    """Numbers of one epoch. number counts from 1. losses: window means of every term, unweighted, and of `total`."""

    number: int
    lr: float
    losses: dict[str, float]
    train_accuracy: float
    validation: dict[str, float]
    test: dict[str, float]
    seconds: float
    windows_per_s: float

    @cached_property
    def text(self) -> str:
        """As JSON; every checkpoint holds all epochs, and each is put into words once."""
        return json.dumps(asdict(self))


@dataclass
class State:
    """Everything that a checkpoint holds besides the weights. chosen: the weights of the best validation epoch, or of
    the last one where no subjects validate.

    sums: over the epoch's windows so far, of the losses by name and of `correct`; and `good_steps`, the number of steps
    before the first whose loss was not finite. They are float64 scalars in their place on the device: no step waits.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    history: list[Epoch] = field(default_factory=list)
    sums: dict[str, torch.Tensor] = field(default_factory=dict)
    chosen: dict[str, torch.Tensor] = field(default_factory=dict)


def best_epoch(history: list[Epoch], split: str) -> Epoch:
    """The epoch with the highest accuracy on `validation` or `test`; the first of equals."""
    return max(history, key=lambda e: (getattr(e, split)["accuracy"], -e.number))


def trained(task: Task) -> dict[str, torch.nn.Parameter]:
    """Every parameter that learns, by name: of the network, then of the losses' own parts (`parts.<name>`)."""
    own = {f"parts.{n}": p for n, p in task.objective.parts.named_parameters()}
    return dict(task.network.named_parameters()) | own


def save(path: Path, task: Task, optimiser: torch.optim.SGD, state: State, key: str) -> checkpoint.Saving:
    """Begin to write the checkpoint: weights, momenta and state as they are now."""
    tensors = {f"network.{n}": t for n, t in task.network.state_dict().items()}
    tensors |= {f"parts.{n}": t for n, t in task.objective.parts.state_dict().items()}
    for name, parameter in trained(task).items():
        momentum = optimiser.state.get(parameter, {}).get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{name}"] = momentum
    tensors |= {f"chosen.{n}": t for n, t in state.chosen.items()} | {f"sum.{n}": t for n, t in state.sums.items()}
    plain = json.dumps({"epoch": state.epoch, "step": state.step, "seconds": state.seconds, "key": key})
    history = ", ".join(epoch.text for epoch in state.history)
    return checkpoint.Saving(path, tensors, f'{plain[:-1]}, "history": [{history}]}}')


def restore(path: Path, task: Task, optimiser: torch.optim.SGD, key: str) -> State:
    """The state of a checkpoint, whose weights and momenta task and optimiser then have.

    Raises SpkdError where the checkpoint is damaged, or another run's.
    """
    tensors, plain = checkpoint.load(path)
    if plain["key"] != key:
        raise SpkdError(path, f"a checkpoint of this run ({key})", plain["key"], "delete the file or its folder")
    device = task.train.device

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {n.removeprefix(prefix): t.to(device) for n, t in tensors.items() if n.startswith(prefix)}

    task.network.load_state_dict(part("network."))
    task.objective.parts.load_state_dict(part("parts."))
    momentum = part("momentum.")
    for name, parameter in trained(task).items():
        if name in momentum:
            optimiser.state[parameter]["momentum_buffer"] = momentum[name]
    history = [Epoch(**e) for e in plain["history"]]
    return State(plain["epoch"], plain["step"], plain["seconds"], history, part("sum."), part("chosen."))
