"""Teachers whose answers for all training windows are worked out once: distilling then costs what the student costs.

For every tap the smaller of two is kept: the features (n, d), or the products of all pairs of windows (n, n), of which
the sp loss needs nothing but the batch's own rows and columns. The products of one pair lie together: looking a pair up
waits for memory once, not once for every tap. What memory does not hold is mapped from a file.
"""

import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spkd.data import arrays
from spkd.errors import SpkdError
from spkd.training.teachers import Knowledge, LiveTeacher, Teacher

LOGITS, PRODUCTS = "logits", "products"
# The products of a pair are picked as one element of their size, whatever it means: faster than as a row of numbers.
ELEMENTS = {1: torch.float32, 2: torch.float64, 4: torch.complex128}
# Share of the free disk that answers may take: the run's checkpoint and outbox need room too.
OF_FREE_DISK = 0.8
# Numbers of one forward pass. On a CPU 6 images or 260 signals of 40 channels: more leave its cache and are slower. On
# a GPU 4000 such signals, or as many windows as the caller says if those are more: fewer wait for Python.
CPU_FLOATS, GPU_FLOATS = 2**20, 2**24
Wrap = Callable[[torch.Tensor], Any]
"""Makes of a batch's products (b, b) what the losses take in the place of features."""


@dataclass(frozen=True)
class Layout:
    """What is kept of one teacher. products: {tap kept as products: its d}.

    shapes: by name, "logits", every other tap, and "products", (n, n, k) of k taps, k rounded up to 1, 2 or a multiple
    of 4.
    """

    shapes: dict[str, tuple[int, ...]]
    products: dict[str, int]

    @property
    def n_bytes(self) -> int:
        """Bytes of everything kept, in float32."""
        return 4 * sum(math.prod(shape) for shape in self.shapes.values())


def layout(some: Knowledge, n: int, may_multiply: bool) -> Layout:
    """The smaller form of every tap for n windows, of which some are known; features throughout unless may_multiply."""
    products = {tap: f[0].numel() for tap, f in some.features.items() if may_multiply and n < f[0].numel()}
    whole = {LOGITS: some.logits, **some.features}
    shapes = {name: (n, *kept_order(t).shape[1:]) for name, t in whole.items() if name not in products}
    if products:
        shapes[PRODUCTS] = (n, n, len(products) if len(products) < 3 else -(-len(products) // 4) * 4)
    return Layout(shapes, products)


def kept_order(answer: torch.Tensor) -> torch.Tensor:
    """(b, *space, C) of features (b, C, *space), as networks leave them in a CPU's memory; logits as they are."""
    return answer.movedim(1, -1)


class RememberedTeacher:
    """Looks up what one pass over the training windows has found.

    answers: as in Layout, in the order of rows, on the rows' device or, mapped from a file, on the CPU: "logits" and
    features (n, *space, C) by tap, and "products" (n, n, k) of the taps that `products` names, in its order.
    """

    def __init__(
        self, teacher: LiveTeacher, rows: torch.Tensor, answers: Mapping[str, torch.Tensor],
        products: Mapping[str, int], wrap: Wrap | None,
    ) -> None:  # fmt: skip
        self.name, self.answers, self.products, self.wrap = teacher.name, answers, products, wrap
        self.place = torch.full((len(teacher.windows),), -1, dtype=torch.int64, device=rows.device)
        self.place[rows] = torch.arange(len(rows), device=rows.device)
        self.resident = all(kept.device == rows.device for kept in answers.values())

    def __call__(self, rows: torch.Tensor, noise: torch.Tensor | None = None) -> Knowledge:
        """The remembered knowledge about these rows. Raises ValueError where noise would make it wrong."""
        if noise is not None:
            raise ValueError("remembered answers are for windows without noise; set train.teacher_cache false")
        at = self.place[rows]
        found: dict[str, Any] = {}
        for name, kept in self.answers.items():
            if name == PRODUCTS:
                assert self.wrap is not None
                grams = _pairs(kept, at.to(kept.device)).to(rows.device)
                found |= {tap: self.wrap(grams[..., k]) for k, tap in enumerate(self.products)}
            else:
                found[name] = kept[at.to(kept.device)].to(rows.device).movedim(-1, 1)
        return Knowledge(self.name, found.pop(LOGITS), found)


def _pairs(kept: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """(b, b, k) of kept (n, n, k): all pairs of b windows, by one index of the flattened pairs."""
    n, _, k = kept.shape
    element = ELEMENTS.get(k, torch.complex128)
    elements = kept.view(element).view(n * n, -1).squeeze(1)
    pairs = (at.unsqueeze(1) * n + at).flatten()
    return elements.index_select(0, pairs).view(len(at), len(at), -1).view(kept.dtype)


def remember(
    teacher: LiveTeacher, rows: torch.Tensor, batch: int, memory_bytes: float, folder: Path,
    wrap: Wrap | None = None, key: str = "",
) -> tuple[Teacher, str]:  # fmt: skip
    """(the teacher with its answers for `rows` remembered, how), or the live teacher where even the disk is too small.

    rows: (n,) the training windows. batch: windows of a forward pass, see `fastest_batch`. memory_bytes: most memory of
    the device for answers, and for the features that products are made of; larger answers are mapped from a file in
    `folder`.
    wrap: None where a loss needs the features themselves: no tap is then kept as products.
    key: digest of all that the answers depend on: they then stay in `folder` for later runs, and are found there.
    """
    place = folder / (f"{teacher.name}-{key}" if key else teacher.name)
    found = key and place.exists()
    first = teacher(rows[: 1 if found else fastest_batch(teacher, rows[:1], batch)])
    plan = layout(first, len(rows), wrap is not None)
    size = f"{plan.n_bytes / 2**20:.1f} MiB"
    if found:
        return RememberedTeacher(teacher, rows, _mapped(place, plan), plan.products, wrap), f"found: {size} in {place}"
    if not key and plan.n_bytes <= memory_bytes:
        answers = {name: torch.zeros(shape, device=rows.device) for name, shape in plan.shapes.items()}
        passes = fill(answers, plan, teacher, rows, first, memory_bytes - plan.n_bytes)
        return RememberedTeacher(teacher, rows, answers, plan.products, wrap), f"once ({passes}): {size} in memory"
    folder.mkdir(parents=True, exist_ok=True)
    free = OF_FREE_DISK * shutil.disk_usage(folder).free
    if plan.n_bytes > free:
        return teacher, f"every step: answers need {size}, the disk has {free / 2**20:.0f} MiB for them"
    with arrays.filling(place, {name: ("<f4", shape) for name, shape in plan.shapes.items()}, {}) as files:
        answers = {name: torch.from_numpy(file) for name, file in files.items()}
        passes = fill(answers, plan, teacher, rows, first, memory_bytes)
    return RememberedTeacher(
        teacher, rows, _mapped(place, plan), plan.products, wrap
    ), f"once ({passes}): {size} on disk"


def fastest_batch(teacher: LiveTeacher, row: torch.Tensor, batch: int) -> int:
    """Windows of one forward pass that the device is fastest with: a CPU at most `batch`, a GPU at least so many."""
    numbers = teacher.render(teacher.windows.batch(row), row).numel()
    if row.device.type == "cpu":
        return max(1, min(batch, CPU_FLOATS // numbers))
    return max(batch, GPU_FLOATS // numbers)


def _mapped(place: Path, plan: Layout) -> dict[str, torch.Tensor]:
    """The answers in a folder, mapped privately: torch wants to be able to write, the file stays as it is."""
    do = f"rm -r {place}"
    found, _ = arrays.load(place, do)
    if {name: array.shape for name, array in found.items()} != plan.shapes:
        raise SpkdError(place, f"answers of shapes {plan.shapes}", {n: a.shape for n, a in found.items()}, do)
    return {name: torch.from_numpy(np.load(place / f"{name}.npy", mmap_mode="c", allow_pickle=False)) for name in found}


def fill(
    answers: Mapping[str, torch.Tensor], plan: Layout, teacher: LiveTeacher, rows: torch.Tensor, known: Knowledge,
    memory_bytes: float,
) -> str:  # fmt: skip
    """Write every answer of the plan in place; returns how often the teacher ran, in words.

    known: about the first of the rows, as many as one forward pass takes. Products need the features of
    two windows at once. As many windows as fit in memory_bytes are held, and multiplied with themselves and all later
    ones; where they do not all fit, the later ones are run again for the next lot.
    """
    n, batch = len(rows), len(known.logits)
    of_one = 4 * sum(plan.products.values())
    held_rows = n if not of_one else max(batch, int(memory_bytes / of_one) // batch * batch)
    for first in range(0, n, held_rows):
        last = min(first + held_rows, n)
        held = {tap: rows.new_empty((last - first, d), dtype=torch.float32) for tap, d in plan.products.items()}
        for start in range(first, n, batch):
            stop = min(start + batch, n)
            if start > 0:
                known = teacher(rows[start:stop])
            blocks = []
            for name, answer in {LOGITS: known.logits, **known.features}.items():
                kept = kept_order(answer)
                if name not in plan.products:
                    answers[name][start:stop] = kept
                    continue
                flat = kept.reshape(len(kept), -1)
                if start < last:
                    held[name][start - first : stop - first] = flat
                blocks.append(held[name][: min(stop, last) - first] @ flat.T)
            if blocks:
                block = torch.stack(blocks, dim=2).to(answers[PRODUCTS].device)
                own = slice(first, first + len(block)), slice(start, stop), slice(len(blocks))
                answers[PRODUCTS][own] = block
                answers[PRODUCTS][own[1], own[0], own[2]] = block.transpose(0, 1)
    lots = -(-n // held_rows)
    return "one pass" if lots == 1 else f"{(lots + 1) / 2:.1f} passes, as features of {held_rows} windows fit in memory"
