"""The figures of a run: confusion matrix, F1 by class, accuracy by subject, curves. Returns matplotlib Figures.

Contract: no pyplot, so no global state and no window; a figure of simulated data says so.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

MOST_COUNTED = 15
BAR, WEAK, LINE = "#3b6ea5", "#b9cbe0", "#444444"


def _figure(width: float, height: float, title: str, origin: str) -> Figure:
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    figure.suptitle(f"{title}  [SIMULATED DATA]" if origin == "simulated" else title, fontsize=11)
    return figure


def confusion(counts: np.ndarray, classes: Sequence[str], title: str, origin: str) -> Figure:
    """Rows = true class, columns = predicted, colour = share of the row; the counts are written in up to 15 classes.

    counts: (k, k) windows. A row without windows stays blank.
    """
    counts = np.asarray(counts)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    side = max(3.6, 0.46 * len(classes) + 1.8)
    figure = _figure(side + 0.8, side, title, origin)
    axes = figure.subplots()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(classes)), classes, fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(classes) <= MOST_COUNTED:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.55 else "black"
            text = f"{counts[row, column]}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(drawn, ax=axes, shrink=0.8, label="share of the true class")
    return figure


def class_bars(f1: Sequence[float], support: Sequence[int], classes: Sequence[str], title: str, origin: str) -> Figure:
    """F1 of every class, and their mean. support: windows of the class; a class without any is drawn pale.

    The mean is over classes with windows, as macro-F1 is.
    """
    names = [f"{name} ({count})" for name, count in zip(classes, support, strict=True)]
    return _bars(f1, names, [count > 0 for count in support], "F1", "macro-F1", title, origin)


def subject_bars(accuracy: Mapping[str, float], windows: Mapping[str, int], title: str, origin: str) -> Figure:
    """Accuracy of every subject of the test split, and their mean (each subject counts once)."""
    names = [f"{subject} ({windows[subject]})" for subject in accuracy]
    return _bars(list(accuracy.values()), names, [True] * len(names), "accuracy", "mean of subjects", title, origin)


def _bars(
    values: Sequence[float], names: list[str], solid: list[bool], what: str, mean: str, title: str, origin: str
) -> Figure:
    figure = _figure(6.4, 0.28 * len(names) + 1.5, title, origin)
    axes = figure.subplots()
    axes.barh(range(len(names)), values, color=[BAR if s else WEAK for s in solid])
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.08)
    axes.set_xlabel(f"{what} (number of windows in brackets)")
    for place, value in enumerate(values):
        if np.isfinite(value):
            axes.text(value + 0.01, place, f"{value:.2f}", va="center", fontsize=7)
    counted = [v for v, s in zip(values, solid, strict=True) if s and np.isfinite(v)]
    if counted:
        centre = float(np.mean(counted))
        axes.axvline(centre, color=LINE, linestyle="--", linewidth=1)
        axes.set_title(f"{mean} {centre:.3f}", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def curves(
    history: Mapping[str, Sequence[tuple[int, float]]], title: str, origin: str, chosen: int | None = None
) -> Figure:
    """One small plot per quantity (`loss`, `accuracy`, ...), a line per split (`train`, `val`, `test`).

    history: "train/loss" -> (epoch, value) pairs. chosen: the epoch of the headline, drawn as a dashed line.
    """
    quantities: dict[str, dict[str, Sequence[tuple[int, float]]]] = {}
    for key, points in history.items():
        split, _, quantity = key.partition("/")
        quantities.setdefault(quantity, {})[split] = points
    columns = min(3, max(1, len(quantities)))
    rows = -(-len(quantities) // columns) or 1
    figure = _figure(3.6 * columns, 2.7 * rows + 0.4, title, origin)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (quantity, splits) in zip(grid, quantities.items(), strict=False):
        _lines(axes, quantity, splits, chosen)
    for unused in grid[len(quantities) :]:
        unused.set_axis_off()
    return figure


def _lines(axes: Any, quantity: str, splits: Mapping[str, Sequence[tuple[int, float]]], chosen: int | None) -> None:
    for split, points in splits.items():
        steps = [step for step, _ in points]
        axes.plot(steps, [v for _, v in points], label=split, linewidth=1.4, marker="." if len(steps) < 30 else None)
    if chosen is not None:
        axes.axvline(chosen, color=LINE, linestyle="--", linewidth=1)
    axes.set_title(quantity, fontsize=9)
    axes.set_xlabel("epoch", fontsize=8)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    if len(splits) > 1:
        axes.legend(fontsize=7, frameon=False)
