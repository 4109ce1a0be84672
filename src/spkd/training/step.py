"""One step and one evaluation of a task: tensors in, tensors out, and no wait for the device.

Contract: nothing here knows of epochs, files or clocks, so that a GPU can record either call (`replay.py`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from spkd.data.batches import DeviceWindows
from spkd.training.objective import Objective
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


def dropping(network: torch.nn.Module) -> list[torch.nn.Module]:
    """The dropout layers of a network: what they forget is drawn anew in every step."""
    return [layer for layer in network.modules() if isinstance(layer, torch.nn.modules.dropout._DropoutNd)]


def train_step(
    task: Task, optimiser: torch.optim.SGD, sums: dict[str, torch.Tensor], rows: torch.Tensor,
    noise: torch.Tensor | None = None,
) -> None:  # fmt: skip
    """One update; adds each window's losses to sums. noise: (b, C, T), what is added to the scaled signal."""
    x = task.windows.batch(rows)
    x = task.render(x if noise is None else x + noise, rows)
    with taps(task.network, task.tap_names) as features:
        logits = task.network(x)
    knowledge = [teacher(rows, noise) for teacher in task.teachers]
    labels = task.windows.label[rows]
    total, parts = task.objective(logits, features, [(k.name, k.logits, k.features) for k in knowledge], labels)
    optimiser.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    correct = (logits.argmax(1) == labels).mean(dtype=total.dtype)
    _tally(sums, {**parts, "total": total.detach(), "correct": correct}, len(rows))


def _tally(sums: dict[str, torch.Tensor], batch: Mapping[str, torch.Tensor], n_windows: int) -> None:
    """Add a batch's means to sums over windows, and count the steps until a total is not finite."""
    for name in (*batch, "good_steps"):
        if name not in sums:
            sums[name] = torch.zeros_like(batch["total"], dtype=torch.float64)
    for name, value in batch.items():
        sums[name].add_(value, alpha=n_windows)
    sums["good_steps"] += sums["total"].abs() < math.inf  # in two kernels; isfinite takes four


@torch.no_grad()
def judged(task: Task, rows: torch.Tensor, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(predicted class (n,), mean cross entropy) of the network in eval mode on the given rows, on the device."""
    task.network.eval()
    predicted, loss = [], torch.zeros((), dtype=torch.float64, device=rows.device)
    for part in torch.split(rows, batch):
        logits = task.network(task.render(task.windows.batch(part), part))
        loss += torch.nn.functional.cross_entropy(logits, task.windows.label[part], reduction="sum")
        predicted.append(logits.argmax(1))
    return torch.cat(predicted), loss / len(rows)


def predict(task: Task, rows: torch.Tensor, batch: int) -> tuple[np.ndarray, float]:
    """(predicted class (n,), mean cross entropy) of the network in eval mode on the given rows."""
    predicted, loss = judged(task, rows, batch)
    return predicted.cpu().numpy(), float(loss)
