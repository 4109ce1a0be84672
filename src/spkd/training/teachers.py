"""Frozen teachers: what each says about a batch of windows, computed every step or once and remembered.

No gradient ever reaches a teacher, and none is part of an optimiser or a checkpoint. Each reads its own view of the
same windows with its own scaling: that one rule is cross-modal distillation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from spkd.data.batches import DeviceWindows
from spkd.training.taps import taps

Render = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Knowledge:
    """One teacher's answer for b windows: logits (b, n_classes), features {tap: (b, ...)}."""

    name: str
    logits: torch.Tensor
    features: dict[str, torch.Tensor]


class Teacher(Protocol):
    """Anything that answers for rows of the window set; `noise` (b, C, T) is added to the scaled signal."""

    name: str

    def __call__(self, rows: torch.Tensor, noise: torch.Tensor | None = None) -> Knowledge:
        """The knowledge about these rows."""
        ...


class LiveTeacher:
    """Runs the network for every batch."""

    def __init__(
        self, name: str, network: torch.nn.Module, render: Render, windows: DeviceWindows, tap_names: list[str]
    ) -> None:
        self.name, self.render, self.windows, self.tap_names = name, render, windows, tap_names
        self.network = network.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, rows: torch.Tensor, noise: torch.Tensor | None = None) -> Knowledge:
        """The knowledge about these rows, from one forward pass."""
        x = self.windows.batch(rows)
        if noise is not None:
            x = x + noise
        with taps(self.network, self.tap_names) as features:
            logits = self.network(self.render(x, rows))
        return Knowledge(self.name, logits, dict(features))


class RememberedTeacher:
    """Looks answers up that one pass over the training windows has filled; cost no longer depends on the teacher."""

    def __init__(self, teacher: LiveTeacher, rows: torch.Tensor, batch: int) -> None:
        self.name, self.rows = teacher.name, rows
        self.place = torch.full((len(teacher.windows),), -1, dtype=torch.int64, device=rows.device)
        self.place[rows] = torch.arange(len(rows), device=rows.device)
        self.logits = torch.empty(0)
        self.features: dict[str, torch.Tensor] = {}
        for start in range(0, len(rows), batch):
            part = teacher(rows[start : start + batch])
            if start == 0:
                self.logits = part.logits.new_empty((len(rows), *part.logits.shape[1:]))
                self.features = {tap: f.new_empty((len(rows), *f.shape[1:])) for tap, f in part.features.items()}
            self.logits[start : start + batch] = part.logits
            for tap, feature in part.features.items():
                self.features[tap][start : start + batch] = feature

    def __call__(self, rows: torch.Tensor, noise: torch.Tensor | None = None) -> Knowledge:
        """The remembered knowledge about these rows. Raises ValueError where noise would make it wrong."""
        if noise is not None:
            raise ValueError("remembered answers are for windows without noise; set train.teacher_cache false")
        at = self.place[rows]
        return Knowledge(self.name, self.logits[at], {tap: f[at] for tap, f in self.features.items()})


def remember(teacher: LiveTeacher, rows: torch.Tensor, batch: int, limit_bytes: float) -> tuple[Teacher, str]:
    """(the teacher with its answers for `rows` remembered, how), or the live teacher where they would not fit.

    rows: (n,) the training windows. batch: windows a forward pass. limit_bytes: largest memory for the answers.
    """
    one = teacher(rows[:1])
    per_window = sum(t.element_size() * t.numel() for t in (one.logits, *one.features.values()))
    needed = per_window * len(rows)
    if needed > limit_bytes:
        return teacher, f"every step: answers need {needed / 2**30:.1f} GiB, limit {limit_bytes / 2**30:.1f} GiB"
    return RememberedTeacher(teacher, rows, batch), f"once: {needed / 2**20:.0f} MiB"
