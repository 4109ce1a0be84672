"""What distilling costs beside training the student alone, and beside the loop that people write.

A study in small: 4096 training windows of 40 channels x 100 samples, batch 128, WRN28-3 teachers on the signal, its
64x64 Gramian field and its 64x64 persistence image, WRN16-1 student. CPU seconds, one thread. By wall clock, on all
cores as a run has them: three teachers once more, and the student beside a DataLoader with workers (an epoch of half of
PAMAP2). The peers' networks are plain layers of torch (tests/models/plain_wide_resnet.py), with the same weights.

    python benchmarks/distillation.py [repeats]
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import _measure
import _study
import _torchdistill
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from spkd import matmul
from spkd.losses import sp
from spkd.training import filling, loop
from spkd.training.remembered import RememberedTeacher, layout, remember
from spkd.training.taps import taps

N, MANY, BATCH, IMAGES = 4096, 11_008, 128, 48


def plain_sp(student, teacher):
    """SP as it is published, in four lines."""
    maps = [f.flatten(1) @ f.flatten(1).T for f in (student, teacher)]
    ours, theirs = (functional.normalize(m, dim=1) for m in maps)
    return (ours - theirs).square().sum() / len(student) ** 2


def plain_kd(student, teacher, temperature=4.0):
    """KD as it is published."""
    soft = functional.log_softmax(student / temperature, 1), functional.softmax(teacher / temperature, 1)
    return functional.kl_div(*soft, reduction="batchmean") * temperature**2


def usual_loop(seen, rows, teacher=None, workers: int = 0):
    """An epoch as public SPKD code has it: DataLoader over tensors, the teacher's forward pass in every step."""
    x, y = seen.batch(rows).contiguous().cpu(), seen.label[rows].cpu()
    data, kept = TensorDataset(x, y), workers > 0
    loader = DataLoader(data, BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=kept)
    student = _study.plain(_study.network(16, 1, 1)).to(seen.device)
    optimiser = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)

    def run() -> None:
        student.train()
        for batch in loader:
            inputs, labels = (tensor.to(seen.device) for tensor in batch)
            with taps(student, _study.TAPS if teacher else []) as features:
                logits = student(inputs)
            loss = functional.cross_entropy(logits, labels)
            if teacher is not None:
                with torch.no_grad(), taps(teacher, _study.TAPS) as known:
                    soft = teacher(inputs)
                pull = sum(plain_sp(features[t], known[t]) for t in _study.TAPS)
                loss = 0.3 * loss + 0.7 * plain_kd(logits, soft) + 200.0 * pull
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    return run


def own_products(task, settings, recorded: bool = False):
    """An epoch of the student alone that also works out SP's maps of its own features, and their gradient."""
    optimiser = loop.optimiser_of(task.network.parameters(), settings)

    def update(rows) -> None:
        with taps(task.network, _study.TAPS) as features:
            logits = task.network(task.render(task.windows.batch(rows), rows))
        loss = functional.cross_entropy(logits, task.windows.label[rows])
        loss = loss + 1e-9 * sp.own_maps(list(features.values())).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return _study.every_batch(task, settings, update, recorded)


def students(repeats: int, folder: Path) -> list[dict]:
    """Epochs after the first: three teachers, one teacher, none; and the usual loop on the same data and models."""
    seen = _study.device_windows(_study.windows(N))
    rows, settings = torch.arange(N), _study.train(batch=BATCH)
    few = _study.device_windows(_study.windows(IMAGES))
    signal = _study.teacher("signal", seen)
    of_signal, how = remember(signal, rows, 512, 8 * 2**30, folder, sp.Products)
    print("signal teacher answers", how, flush=True)
    images = [_image_answers(name, few, of_signal, folder) for name in ("gaf", "persistence")]
    alone, one = _study.task(seen, [], rows), _study.task(seen, [of_signal], rows)
    three = _study.task(seen, [of_signal, *images], rows)
    calls = {
        "three": _study.epoch(three, settings), "alone": _study.epoch(alone, settings),
        "products": own_products(_study.task(seen, [], rows), settings),
        "one": _study.epoch(one, settings), "usual": usual_loop(seen, rows, _study.plain(signal.network)),
        "usual alone": usual_loop(seen, rows),
    }  # fmt: skip
    data, own = (seen.batch(rows).contiguous(), seen.label[rows]), _study.plain(_study.network(16, 1, 1))
    calls["peer"] = _torchdistill.epoch(*data, own, _study.plain(signal.network), _study.TAPS, BATCH)
    seconds = _measure.turns(calls, repeats)
    torch.set_num_threads(os.cpu_count() or 1)
    wall = _measure.turns({name: calls[name] for name in ("three", "alone", "products")}, repeats, time.perf_counter)
    _study.fair()
    usual, ours = "DataLoader and a teacher's forward pass each step", "epoch of three WRN28-3 teachers, later"
    plain, own = "the student alone in plain layers", "SP's maps of the student alone: the bound"
    return [
        _measure.faster("epoch of SPKD", "torchdistill", seconds, "one", "peer", 4),
        _measure.dearer(ours, "the student alone", seconds, "three", "alone", 1.15),
        _measure.dearer(own, "the student alone", seconds, "products", "alone", 1.15),
        _measure.dearer(f"{ours}, wall clock, all cores", "the student alone", wall, "three", "alone", 1.15),
        _measure.dearer(f"{own}, wall clock, all cores", "the student alone", wall, "products", "alone", 1.15),
        _measure.dearer(ours, plain, seconds, "three", "usual alone", 1.15),
        _measure.faster("epoch of SPKD", usual, seconds, "one", "usual", 4),
        _measure.faster("student's epoch", "DataLoader without workers", seconds, "alone", "usual alone", 1.5),
    ]


def with_workers(repeats: int) -> list[dict]:
    """The student alone beside a DataLoader of two workers, as both are by default: all cores."""
    seen = _study.device_windows(_study.windows(MANY))
    rows, settings = torch.arange(MANY), _study.train(batch=BATCH)
    calls = {"ours": _study.epoch(_study.task(seen, [], rows), settings), "usual": usual_loop(seen, rows, workers=2)}
    found = []
    for threads in (os.cpu_count() or 1, 1):
        torch.set_num_threads(threads)
        wall = _measure.turns(calls, repeats, time.perf_counter)
        what = f"student's epoch (wall clock, {threads} threads)"
        found.append(_measure.faster(what, "DataLoader, 2 workers", wall, "ours", "usual", 1.5))
    return found


def _image_answers(name: str, few, like, folder: Path):
    """Answers as an image teacher's are kept, (n, n) products of every tap, of a few real windows repeated."""
    real, _ = remember(_study.teacher(name, few), torch.arange(IMAGES), 512, 8 * 2**30, folder, sp.Products)
    assert isinstance(real, RememberedTeacher)
    real.name = name
    index = torch.arange(N) % IMAGES
    real.answers = {
        k: a[index][:, index].contiguous() if k == filling.PRODUCTS else a[index] for k, a in real.answers.items()
    }
    real.place = like.place
    return real


def fillings(repeats: int, folder: Path) -> list[dict]:
    """Remembering against nothing but forward passes over the same windows, by view; images in a smaller number.

    Of a signal teacher, features are kept of many windows, and products of 1024. Of an image teacher also with memory
    for a third of the features, the rest in a file, and worked out for as many windows as PAMAP2 trains on.
    """
    rows = []
    for name, n, kept in (("signal", MANY, "features"), ("signal", 1024, "products"), ("gaf", IMAGES, "products")):
        seen = _study.device_windows(_study.windows(n))
        teacher, every = _study.teacher(name, seen), torch.arange(n)

        def forward(batch: int, teacher=teacher, every=every) -> None:
            with torch.no_grad():
                for part in torch.split(every, batch):
                    teacher.network(teacher.render(teacher.windows.batch(part), part))

        sizes = (64, 256, 512) if name == "signal" else (8, 16, 64)
        calls: dict[str, Callable[[], object]] = {f"pass {b}": partial(forward, b) for b in sizes}
        calls["fill"] = partial(remember, teacher, every, 512, 8 * 2**30, folder, sp.Products)
        calls["multiplying"] = multiplying(teacher, n)
        if name == "gaf":
            calls["lots"], calls["block"] = partial(in_lots, teacher, every, folder), one_block(teacher)
        seconds = _measure.turns(calls, repeats)
        best = min((k for k in calls if k.startswith("pass")), key=lambda k: min(seconds[k]))
        what, windows = f"filling the cache with {kept}, {name} teacher", "one pass at its best batch"
        size = {"best_batch": int(best.split()[1])}
        rows.append(size | _measure.dearer(f"{what}, {n} windows", windows, seconds, "fill", best, 1.1))
        if kept == "products":
            seconds["both"] = [a + b for a, b in zip(seconds[best], seconds["multiplying"], strict=True)]
            bound = f"that pass and the products' multiplications, {name} teacher, {n} windows: the bound"
            rows.append(_measure.dearer(bound, "the pass", seconds, "both", best, 1.1))
        if name == "gaf":
            lots = f"{what}, {n} windows, memory for a third of the features"
            rows.append(size | _measure.dearer(lots, windows, seconds, "lots", best, 1.1))
            rows.append(worked_out(what, n, seconds[best], seconds["block"], block_of(teacher)))
    return rows


def block_of(teacher) -> int:
    """Windows of a block of products."""
    lot = filling.fastest_batch(teacher, torch.arange(1), 512)
    return lot * max(1, filling.BLOCK // lot)


def multiplying(teacher, n: int):
    """The multiplications behind (n, n) products of every tap, and nothing else: of each pair of blocks once."""
    size = block_of(teacher)
    features = [torch.randn(n, f.numel()) for f in teacher(torch.arange(1)).features.values()]
    blocks = [slice(start, start + size) for start in range(0, n, size)]
    return lambda: [
        matmul.by_rows(f[own], f[new]) for f in features for k, new in enumerate(blocks) for own in blocks[: k + 1]
    ]


def one_block(teacher):
    """One block of products of every tap."""
    features = [torch.randn(block_of(teacher), f.numel()) for f in teacher(torch.arange(1)).features.values()]
    return lambda: [matmul.by_rows(f, f) for f in features]


def in_lots(teacher, every, folder: Path) -> str:
    """Filling in blocks of an eighth of the windows, of which memory holds three."""
    before, filling.BLOCK = filling.BLOCK, len(every) // 8
    try:
        known = teacher(every[: filling.fastest_batch(teacher, every[:1], len(every) // 8)])
        plan = layout(known, len(every), True)
        answers = {name: torch.zeros(shape) for name, shape in plan.shapes.items()}
        memory = 3.5 * 4 * len(every) / 8 * sum(plan.products.values())
        return filling.fill(answers, plan.products, teacher, every, known, memory, folder)
    finally:
        filling.BLOCK = before


def worked_out(what: str, n: int, passing: list[float], block: list[float], size: int) -> dict:
    """The row of as many windows as PAMAP2 trains on: passes grow with them, blocks of products with their square."""
    whole, blocks = _study.PAMAP2_TRAINING, -(-_study.PAMAP2_TRAINING // size)
    passes = [p * whole / n for p in passing]
    both = [p + b * blocks * (blocks + 1) / 2 for p, b in zip(passes, block, strict=True)]
    long = f"{what}, {whole} windows, worked out from a pass of {n} and one block of {size} x {size} products"
    return _measure.dearer(long, "the passes", {"passes": passes, "both": both}, "both", "passes", 1.1)


def main(words: list[str]) -> None:
    repeats = int(words[0]) if words else 5
    if not _torchdistill.available():
        raise SystemExit(_torchdistill.MISSING)
    _study.fair()
    with tempfile.TemporaryDirectory() as place:
        rows = students(repeats, Path(place)) + fillings(max(2, repeats // 2), Path(place)) + with_workers(repeats)
    notes = (
        f"{N} windows, batch {BATCH}; image teachers answer from products of {IMAGES} real windows repeated; "
        "a step reads the same number of bytes as it would of N."
    )
    _measure.keep("distillation", rows, ("torch", "numpy", "torchdistill"), notes)


if __name__ == "__main__":
    main(sys.argv[1:])
