"""What changed from YOLOv3 on, as far as the pinned ultralytics has it: size, cost, head, latency side by side.

A latency is comparable only within one table: all models are loaded at once and timed in turns, round by round, so
that a slow moment of the machine hits all of them. Published accuracy is quoted, never mixed with accuracy measured
here.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn
from ultralytics.utils.torch_utils import get_flops

from spkd.detect import evaluate, hardware
from spkd.errors import SpkdError

BLOCKS = (
    "Bottleneck", "C3", "RepVGG", "C2f", "RepNCSPELAN4", "ELAN1", "C2fCIB", "C3k2", "A2C2f", "PSA", "C2PSA", "SPPF",
)  # fmt: skip


@dataclass(frozen=True)
class Version:
    """One model. parameters, gflops (of one imgsz image), layers: of the fused network, which is the one that is timed.

    head: class name, and whether its class branch is depthwise. one_to_one: is trained with a second head, which needs
    no NMS. bins: of the distribution that a box edge is regressed with (1 = a plain number).
    blocks: what the backbone is built of.
    latency_ms, cpu_ms: wall and CPU time of every round, [] before timing. measured: {"mAP50": ..., "mAP50-95": ...}
    where weights were given.
    """

    name: str
    parameters: int
    gflops: float
    layers: int
    anchor_free: bool
    head: str
    one_to_one: bool
    bins: int
    blocks: str
    published: float | None
    latency_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    measured: Mapping[str, float] = field(default_factory=dict)

    @property
    def median_ms(self) -> float:
        """Median latency of one image."""
        return statistics.median(self.latency_ms) if self.latency_ms else float("nan")

    @property
    def cost_ms(self) -> float:
        """What ratios compare: on a CPU its time, which other programs do not lengthen; on a GPU the latency."""
        return statistics.median(self.cpu_ms) if self.cpu_ms else self.median_ms


def describe(name: str, model: Any, imgsz: int, published: float | None) -> Version:
    """The facts of a model as it was built that need no timing; it is left as it is."""
    head, lean = model.model[-1], evaluate.fused(model)
    kinds = [type(part).__name__ for part in model.modules()]
    return Version(
        name=Path(name).stem,
        parameters=sum(p.numel() for p in lean.parameters()),
        gflops=float(get_flops(lean, imgsz)),
        layers=sum(isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)) for part in lean.modules()),
        anchor_free=not hasattr(head, "anchor_grid"),
        head=type(head).__name__ + (", depthwise" if isinstance(head.cv3[0][0], nn.Sequential) else ""),
        one_to_one=getattr(head, "one2one_cv2", None) is not None,
        bins=int(head.reg_max),
        blocks=", ".join(block for block in BLOCKS if block in kinds),
        published=published,
    )


def require_classes(model: Any, names: Mapping[int, str], where: str) -> None:
    """Raise SpkdError where trained weights know other classes than a data set: their mAP on it would mean nothing.

    names: of the data set's classes, by index. where: the setting that holds the weights.
    """
    known, wanted = list(model.names.values()), list(names.values())
    if known != wanted:
        wrong = next((i for i, pair in enumerate(zip(known, wanted, strict=False)) if pair[0] != pair[1]), None)
        expected, got = f"weights of the {len(wanted)} classes of detect.data", f"{len(known)} classes"
        if wrong is not None:
            expected, got = f"{expected} (class {wrong}: {wanted[wrong]})", f"{got} (class {wrong}: {known[wrong]})"
        do = "name weights that were trained on these classes, or their data set in detect.data"
        raise SpkdError(where, expected, got, do)


Timing = tuple[list[float], list[float]]


def time_in_turns(
    models: Mapping[str, nn.Module], imgsz: int, rounds: int, device: str | torch.device
) -> dict[str, Timing]:
    """{name: (latency, CPU time) in ms of each round}: one image, fused, no NMS; every round times every model once.

    CPU time is left empty on a GPU.

    Two rounds before that are not counted.
    """
    fused = {name: evaluate.fused(model, device) for name, model in models.items()}
    with torch.no_grad():
        image = torch.zeros(1, 3, imgsz, imgsz, device=device)
        times: dict[str, Timing] = {name: ([], []) for name in fused}
        for turn in range(rounds + 2):
            for name in fused:
                hardware.wait(image.device)
                start, start_cpu = time.perf_counter(), time.process_time()
                fused[name](image)
                hardware.wait(image.device)
                if turn >= 2:
                    times[name][0].append((time.perf_counter() - start) * 1e3)
                    times[name][1].extend([] if image.is_cuda else [(time.process_time() - start_cpu) * 1e3])
    return times


def columns(versions: Sequence[Version], reference: str) -> dict[str, list[Any]]:
    """The table, a list per column. reference: the model whose cost is 1."""
    base = next((v.cost_ms for v in versions if v.name == reference), versions[0].cost_ms)
    return {
        "model": [v.name for v in versions],
        "parameters [M]": [round(v.parameters / 1e6, 2) for v in versions],
        "GFLOPs": [round(v.gflops, 1) for v in versions],
        "conv layers": [v.layers for v in versions],
        "anchor-free": [v.anchor_free for v in versions],
        "head": [v.head for v in versions],
        "one-to-one head": [v.one_to_one for v in versions],
        "box bins": [v.bins for v in versions],
        "blocks": [v.blocks for v in versions],
        "latency median [ms]": [round(v.median_ms, 1) for v in versions],
        "latency min-max [ms]": [f"{min(v.latency_ms):.1f}-{max(v.latency_ms):.1f}" for v in versions],
        "CPU time median [ms]": [round(statistics.median(v.cpu_ms), 1) if v.cpu_ms else None for v in versions],
        f"time / {reference}": [round(v.cost_ms / base, 2) for v in versions],
        "mAP50-95 measured [%]": [round(v.measured["mAP50-95"] * 100, 2) if v.measured else None for v in versions],
        "mAP50-95 published, full val2017 [%]": [v.published for v in versions],
    }


def markdown(table: Mapping[str, list[Any]]) -> str:
    """The table as markdown."""
    lines = ["| " + " | ".join(table) + " |", "|" + "---|" * len(table)]
    for row in zip(*table.values(), strict=True):
        lines.append("| " + " | ".join(_shown(cell) for cell in row) + " |")
    return "\n".join(lines) + "\n"


def _shown(cell: Any) -> str:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return "" if cell is None else str(cell)


def figure(versions: Sequence[Version], machine: str, imgsz: int) -> Figure:
    """Accuracy against measured time (left) and GFLOPs (right); filled = measured here, hollow = published."""
    drawn = Figure(figsize=(11, 4.6), dpi=110, layout="constrained")
    drawn.suptitle(f"YOLO versions, {imgsz} px, {machine}", fontsize=10)
    axes = drawn.subplots(1, 2, sharey=True)
    for axis, what, label in (
        (axes[0], "cost_ms", "time of one image here (CPU time on a CPU) [ms]"),
        (axes[1], "gflops", "GFLOPs"),
    ):
        for place, version in enumerate(versions):
            accuracy = version.measured["mAP50-95"] * 100 if version.measured else version.published
            if accuracy is not None:
                at = (getattr(version, what), accuracy)
                face = f"C{place % 10}" if version.measured else "none"
                axis.scatter(*at, s=50, edgecolors=f"C{place % 10}", facecolors=face)
                axis.annotate(version.name, at, fontsize=7, xytext=(5, 3), textcoords="offset points")
        axis.set_xscale("log")
        axis.set_xlabel(label, fontsize=8)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("mAP50-95 [%]  (hollow: published, full val2017)", fontsize=8)
    return drawn
