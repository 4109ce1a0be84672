"""Works out what is remembered of a teacher: one forward pass over the windows, and the products of all pairs of them.

Contract: the answers have the same bits whatever memory there is. Products are made of blocks of fixed size, and only
how many windows' features are held at a time depends on memory.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from spkd import atomic, matmul
from spkd.meter import Work
from spkd.training.teachers import Knowledge, LiveTeacher

LOGITS, PRODUCTS = "logits", "products"
# Numbers of one forward pass. On a CPU 6 images or 260 signals of 40 channels: more leave its cache and are slower. On
# a GPU 4000 such signals, or as many windows as the caller says if those are more: fewer wait for Python.
CPU_FLOATS, GPU_FLOATS = 2**20, 2**24
# Windows of a block of products: with fewer, features are read from memory more often than they are multiplied.
BLOCK = 512


def fastest_batch(teacher: LiveTeacher, row: torch.Tensor, batch: int) -> int:
    """Windows of one forward pass that the device is fastest with: a CPU at most `batch`, a GPU at least so many."""
    numbers = teacher.render(teacher.windows.batch(row), row).numel()
    if row.device.type == "cpu":
        return max(1, min(batch, CPU_FLOATS // numbers))
    return max(batch, GPU_FLOATS // numbers)


def kept_order(answer: torch.Tensor) -> torch.Tensor:
    """(b, *space, C) of features (b, C, *space), as networks leave them in a CPU's memory; logits as they are."""
    return answer.movedim(1, -1)


def fill(
    answers: Mapping[str, torch.Tensor], products: Mapping[str, int], teacher: LiveTeacher, rows: torch.Tensor,
    known: Knowledge, memory_bytes: float, scratch: Path | None,
) -> str:  # fmt: skip
    """Write every answer in place; returns how often the teacher ran, in words.

    answers: "logits" (n, ...), features (n, *space, C) by tap, "products" (n, n, k) of the taps that `products` names
    with their numbers of features. known: about the first of the rows, as many as one forward pass takes.
    Products need the features of two windows at once. As many as fit in memory_bytes are held, and multiplied with
    themselves and all later ones. Where they do not all fit, the later ones are read from a file in the folder
    `scratch` for each further lot; without one the teacher runs for them again.
    """
    n, batch = len(rows), len(known.logits)
    size = batch * max(1, BLOCK // batch)
    blocks = [slice(start, min(start + size, n)) for start in range(0, n, size)]
    bytes_of_block = 4 * size * sum(products.values())
    lot = max(1, int(memory_bytes / bytes_of_block)) if bytes_of_block else len(blocks)
    starts = range(0, len(blocks), lot)
    again = sum(len(blocks) - first for first in starts[1:])  # blocks that later lots meet once more
    to_do = {
        "asked": len(blocks) + (0 if scratch else again),
        "read": again if scratch else 0,
        "multiplied": len(blocks) * (len(blocks) + 1) // 2 if products else 0,
    }

    def passed(block: slice) -> dict[str, torch.Tensor]:
        """The features that products are made of, (b, d) by tap; everything else is kept on the way."""
        flat = {tap: rows.new_empty((block.stop - block.start, d), dtype=torch.float32) for tap, d in products.items()}
        for begin in range(block.start, block.stop, batch):
            own = slice(begin, min(begin + batch, block.stop))
            knowledge = known if begin == 0 else teacher(rows[own])
            for name, answer in {LOGITS: knowledge.logits, **knowledge.features}.items():
                kept = kept_order(answer)
                if name in products:
                    flat[name][begin - block.start : own.stop - block.start] = kept.flatten(1)
                else:
                    answers[name][own] = kept
        return flat

    in_file = _file(scratch if len(starts) > 1 else None, products, n)
    with in_file as file, Work(f"answers of {teacher.name}", to_do) as work:
        for first in starts:
            held: list[tuple[slice, dict[str, torch.Tensor]]] = []
            for block in blocks[first:]:
                if file and first > 0:
                    new = {tap: whole[block].to(rows.device, copy=True) for tap, whole in file.items()}
                    work.did("read")
                else:
                    new = passed(block)
                    for tap, whole in file.items():
                        whole[block] = new[tap]
                    work.did("asked")
                if len(held) < lot:
                    held.append((block, new))
                if products:
                    for own, features in held:
                        _multiply(answers[PRODUCTS], own, features, block, new)
                    work.did("multiplied", len(held))
    lots = len(starts)
    if lots == 1:
        return "one pass"
    fit = f"features of {lot * size} windows fit in memory"
    return f"one pass, {lots} lots from a file, as {fit}" if scratch else f"{(lots + 1) / 2:.1f} passes, as {fit}"


def _multiply(
    kept: torch.Tensor, own: slice, features: Mapping[str, torch.Tensor], block: slice, new: Mapping[str, torch.Tensor]
) -> None:
    """Keep the products of all pairs of two blocks' windows, in either order of the two."""
    made = torch.stack([matmul.by_rows(features[tap], flat) for tap, flat in new.items()], dim=2).to(kept.device)
    kept[block, own, : len(new)] = made.transpose(0, 1)
    kept[own, block, : len(new)] = made


@contextmanager
def _file(folder: Path | None, products: Mapping[str, int], n: int) -> Iterator[dict[str, torch.Tensor]]:
    """(n, d) by tap, mapped from files that are gone afterwards, even after a kill; {} without a folder."""
    if folder is None:
        yield {}
        return
    folder.mkdir(parents=True, exist_ok=True)
    mapped = {}
    for tap, d in products.items():
        with tempfile.TemporaryFile(dir=folder) as nameless, atomic.naming(folder):
            atomic.reserve(nameless.fileno(), 4 * n * d)
            mapped[tap] = torch.from_numpy(np.memmap(nameless, np.float32, "w+", shape=(n, d)))
    yield mapped
