"""Frozen teachers: what each says about a batch of windows.

No gradient ever reaches a teacher, and none is part of an optimiser or a checkpoint. Each reads its own view of the
same windows with its own scaling: that one rule is cross-modal distillation. `remembered.py` saves the repetition.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from spkd.data.batches import DeviceWindows
from spkd.training.taps import taps

Render = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Knowledge:
    """One teacher's answer for b windows: logits (b, n_classes), {tap: features (b, ...) or sp's Products of them}."""

    name: str
    logits: torch.Tensor
    features: dict[str, Any]


class Teacher(Protocol):
    """Anything that answers for rows of the window set; `noise` (b, C, T) is added to the scaled signal.

    resident: whether it answers without leaving the device of the windows.
    """

    name: str
    resident: bool

    def __call__(self, rows: torch.Tensor, noise: torch.Tensor | None = None) -> Knowledge:
        """The knowledge about these rows."""
        ...


class LiveTeacher:
    """Runs the network for every batch."""

    def __init__(
        self, name: str, network: torch.nn.Module, render: Render, windows: DeviceWindows, tap_names: list[str]
    ) -> None:
        self.name, self.render, self.windows, self.tap_names = name, render, windows, tap_names
        self.resident = windows.signal is not None
        # Channels last: a forward pass over images takes a fifth less on a CPU, and signals have no such layout.
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(self, rows: torch.Tensor, noise: torch.Tensor | None = None) -> Knowledge:
        """The knowledge about these rows, from one forward pass."""
        x = self.windows.batch(rows)
        if noise is not None:
            x = x + noise
        with taps(self.network, self.tap_names) as features:
            logits = self.network(self.render(x, rows))
        return Knowledge(self.name, logits, dict(features))
