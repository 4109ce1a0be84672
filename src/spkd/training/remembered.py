"""Teachers whose answers for all training windows are worked out once: distilling then costs what the student costs.

For every tap the smaller of two is kept: the features (n, d), or the products of all pairs of windows (n, n), of which
the sp loss needs nothing but the batch's own rows and columns. The products of one pair lie together: looking a pair up
waits for memory once, not once for every tap. What memory does not hold is mapped from a file.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spkd import atomic, memory
from spkd.data import arrays
from spkd.errors import SpkdError
from spkd.training import checkpoint
from spkd.training.filling import LOGITS, PRODUCTS, fastest_batch, fill, kept_order
from spkd.training.teachers import Knowledge, LiveTeacher, Teacher

# The products of a pair are picked as one element of their size, whatever it means: faster than as a row of numbers.
ELEMENTS = {1: torch.float32, 2: torch.float64, 4: torch.complex128}
# Shares of a device's free memory that answers, and the features that products are made of, may take: the rest is for
# the steps, and for the other worker of a table. Answers that a CPU maps from a file are as fast as those in memory.
OF_FREE_MEMORY = {"cpu": (0.4, 0.2), "cuda": (0.8, 0.4)}
# Answers whose forward passes take longer lie in a file although memory holds them: a run that was killed, and goes on,
# does not wait for them once more.
LONG_S = 60.0
HASH = "sha256"  # the file beside them with the hash of all answers, without which they are worked out anew
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
        # Rows that were not among them lie behind the last: no answer is there, and a step need not look.
        self.place = torch.full((len(teacher.windows),), len(rows), dtype=torch.int64, device=rows.device)
        self.place[rows] = torch.arange(len(rows), device=rows.device)
        self.resident = all(kept.device == rows.device for kept in answers.values())

    def __call__(self, rows: torch.Tensor, noise: torch.Tensor | None = None) -> Knowledge:
        """The remembered knowledge about these rows.

        Raises ValueError where noise would make it wrong, IndexError (on a GPU what torch makes of it, later) for a row
        that was not remembered.
        """
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
    wrap: Wrap | None = None, key: str = "", file_from_s: float = LONG_S,
) -> tuple[Teacher, str]:  # fmt: skip
    """(the teacher with its answers for `rows` remembered, how), or the live teacher where even the disk is too small.

    rows: (n,) the training windows. batch: windows of a forward pass, see `fastest_batch`. memory_bytes: most memory of
    the device for answers, and again for the features that products are made of; of what is free they take a share.
    Larger answers are mapped from a file in `folder`. They are the same to the bit wherever they lie.
    wrap: None where a loss needs the features themselves: no tap is then kept as products.
    key: digest of all that the answers depend on. Those in a file are then found there again, and those whose passes
    take a CPU at least file_from_s seconds lie in one wherever the disk has room.
    """
    place = folder / (f"{teacher.name}-{key}" if key else teacher.name)
    found = key and (place / HASH).is_file()
    some = rows[: 1 if found else fastest_batch(teacher, rows[:1], batch)]
    begun = time.perf_counter()
    first = teacher(some)
    # A GPU is not waited for: it works answers out again sooner than a disk would take them.
    passes_s = (time.perf_counter() - begun) * len(rows) / len(some) if rows.device.type == "cpu" else 0.0
    plan = layout(first, len(rows), wrap is not None)
    size = f"{plan.n_bytes / 2**20:.1f} MiB"
    free, (of_answers, of_features) = memory.free_bytes(rows.device), OF_FREE_MEMORY[rows.device.type]
    fits = plan.n_bytes <= min(memory_bytes, of_answers * free)
    if found:
        answers = _of_file(place, plan, rows.device, fits, (place / HASH).read_text(encoding="ascii"))
        return RememberedTeacher(teacher, rows, answers, plan.products, wrap), f"found: {size} in {place}"
    folder.mkdir(parents=True, exist_ok=True)
    atomic.sweep(place)  # what a killed process left takes room
    room = memory.disk_bytes(folder)
    in_memory = fits and not (key and passes_s >= file_from_s and plan.n_bytes <= room)
    held = min(memory_bytes, of_features * (free - plan.n_bytes if in_memory else free))

    def filled(answers: Mapping[str, torch.Tensor]) -> str:
        return fill(answers, plan.products, teacher, rows, first, held, _scratch(folder, plan, rows))

    if in_memory:
        answers = {name: torch.zeros(shape, device=rows.device) for name, shape in plan.shapes.items()}
        passes = filled(answers)
        return RememberedTeacher(teacher, rows, answers, plan.products, wrap), f"once ({passes}): {size} in memory"
    if plan.n_bytes > room:
        return teacher, f"every step: answers need {size}, the disk has {room / 2**20:.0f} MiB for them"
    with arrays.filling(place, {name: ("<f4", shape) for name, shape in plan.shapes.items()}, {}) as files:
        passes = filled({name: torch.from_numpy(file) for name, file in files.items()})
        sha256 = checkpoint.sha256(files)
    atomic.write_text(place / HASH, sha256)
    answers = _of_file(place, plan, rows.device, fits)
    return RememberedTeacher(teacher, rows, answers, plan.products, wrap), f"once ({passes}): {size} on disk"


def _scratch(folder: Path, plan: Layout, rows: torch.Tensor) -> Path | None:
    """Where features may lie that memory does not hold, if its disk has room for all; a GPU makes them again sooner."""
    needed = 4 * len(rows) * sum(plan.products.values()) + plan.n_bytes
    return folder if rows.device.type == "cpu" and needed <= memory.disk_bytes(folder) else None


def _of_file(place: Path, plan: Layout, device: torch.device, fits: bool, sha256: str = "") -> dict[str, torch.Tensor]:
    """The answers in a folder: on a GPU that they fit, else mapped privately, since torch wants to be able to write.

    sha256: that they must have, "" where they were written a moment ago.
    """
    do = f"rm -r {place}"
    found, _ = arrays.load(place, do, mode="c")
    if {name: array.shape for name, array in found.items()} != plan.shapes:
        raise SpkdError(place, f"answers of shapes {plan.shapes}", {n: a.shape for n, a in found.items()}, do)
    if sha256 and sha256 != checkpoint.sha256(found):
        raise SpkdError(place, "the answers that were written there", "bytes of them have changed since", do)
    mapped = {name: torch.from_numpy(array) for name, array in found.items()}
    return {name: answers.to(device) for name, answers in mapped.items()} if fits else mapped
