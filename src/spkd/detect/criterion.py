"""The SPKD loss around ultralytics' detection loss. Nothing of the teacher enters the student's checkpoint.

ultralytics deep-copies the model for its moving average and pickles it into checkpoints; this object gives itself up
there (`__deepcopy__` returns None), so that validation uses the stock loss and a checkpoint is a plain YOLO
checkpoint.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spkd import plugin
from spkd.detect import features
from spkd.detect.plan import Plan
from spkd.errors import SpkdError

KEY = "sp_loss"


class SpCriterion:
    """Callable like ultralytics' criterion: stock loss with one more entry, gain x SP x batch size.

    base: the stock criterion. teacher: a frozen model. strides: of the student's levels [pixels]. plan: levels (both
    models must have them; their SP is summed), mode, gain, max_objects.
    """

    def __init__(self, base: Any, teacher: nn.Module, strides: Tensor, plan: Plan) -> None:
        self.base, self.teacher = base, teacher
        self.mode, self.gain, self.max_objects = plan.mode, plan.gain, plan.max_objects
        self.of_student = _positions(strides, plan.levels, "student")
        self.of_teacher = _positions(torch.as_tensor(teacher.stride), plan.levels, "teacher")
        self.summed = plugin.load("losses", "sp").summed
        self.checked = False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "base":
            raise AttributeError(name)
        return getattr(self.base, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        return None

    def __call__(self, predictions: Any, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """(loss terms to be summed, detached terms by name), as ultralytics' trainer expects them."""
        loss, items = self.base(predictions, batch)
        term = self.gain * self.gap(predictions, batch)
        size = batch["img"].shape[0]
        return torch.cat([loss, (term * size).reshape(1)]), {**items, KEY: term.detach()}

    def gap(self, predictions: Any, batch: dict[str, Tensor]) -> Tensor:
        """SP summed over the levels (scalar), without gain or batch size; 0 where too few things compare."""
        student = features.of(predictions)
        with torch.no_grad():
            teacher = features.of(self.teacher(batch["img"]))
        if not self.checked:
            self._refuse_dead(teacher)
        chosen = features.evenly(len(batch["bboxes"]), self.max_objects, batch["img"].device)
        boxes, image = batch["bboxes"][chosen].float(), batch["batch_idx"][chosen].long().view(-1)
        compared = len(boxes) if self.mode == "object" else len(batch["img"])
        if compared < (fewest := features.FEWEST[self.mode]):
            what = f"{fewest} {'objects' if self.mode == 'object' else 'images'}"
            warnings.warn(f"SPKD compares {what} or more: {compared} in this step, its loss is 0", stacklevel=2)
            return student[0].float().sum() * 0
        own = [features.rows(student[s], self.mode, boxes, image) for s in self.of_student]
        known = [[features.rows(teacher[t], self.mode, boxes, image)] for t in self.of_teacher]
        gap: Tensor = self.summed(own, known, [1.0])
        return gap

    def _refuse_dead(self, teacher: list[Tensor]) -> None:
        if len(teacher[0]) < 2:
            return
        for t in self.of_teacher:
            if why := features.is_dead(teacher[t]):
                do = "train a plain `detect` for longer, which is then the latest, or name trained weights or run:<id>"
                raise SpkdError("detect.distill.teacher", "a trained teacher", why, do)
        self.checked = True


def _positions(strides: Tensor, levels: Sequence[str], who: str) -> list[int]:
    names = features.level_names(strides)
    missing = [level for level in levels if level not in names]
    if missing:
        raise SpkdError(
            "detect.distill.levels", f"levels that the {who} has: {', '.join(names)}", missing, "leave them out"
        )
    return [names.index(level) for level in levels]
