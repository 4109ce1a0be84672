"""The figures of a run: confusion matrix, F1 by class, accuracy by subject, curves. Returns SVG documents.

Contract: drawn by the charts of the comparison page; a figure of simulated data says so.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from spkd.evidence.charts import colours, named_rows, plots
from spkd.evidence.charts.document import document
from spkd.evidence.charts.heatmaps import colour_bar
from spkd.evidence.charts.plots import Chart, Series

FULL, WEAK, OTHER = "#3b6ea5", "#b9cbe0", "#6a7383"
SPLITS = {"train": ("#2563a8", ""), "val": ("#c2571a", "6 3"), "test": ("#2b8a4b", "2 3")}
ABREAST = 2
Points = Sequence[tuple[int, float]]


def confusion(counts: np.ndarray, classes: Sequence[str], title: str, origin: str) -> str:
    """Rows = true class, columns = predicted, colour = share of the row; the counts are written in up to 15 classes.

    counts: (k, k) windows. The row of a class without windows is grey.
    """
    counts = np.asarray(counts)
    shares = named_rows.shares(counts)
    written = len(classes) <= named_rows.MOST_WRITTEN
    texts = np.array([[str(n) if n and written else "" for n in row] for row in counts.tolist()], dtype=object)
    told = np.array(
        [[f"{n} windows ({share:.1f} %)" if n else "0" for n, share in zip(*rows, strict=True)]
         for rows in zip(counts.tolist(), shares.tolist(), strict=True)], dtype=object,
    )  # fmt: skip
    drawn = named_rows.matrix(told, texts, colours.shades(shares, (0, 100), "Blues"), classes, title)
    height = max(110, len(classes) * named_rows.cell_px(texts))
    scale = colour_bar((0.0, 100.0), "Blues", height, "% of the true class")
    return document(title, origin, [[drawn, scale]])


def class_bars(f1: Sequence[float], support: Sequence[int], classes: Sequence[str], title: str, origin: str) -> str:
    """F1 of every class, and their mean. support: windows of the class; a class without any is drawn pale.

    The mean is over classes with windows, as macro-F1 is.
    """
    solid = [count > 0 for count in support]
    drawn = _bars(f1, classes, support, solid, "F1", "macro-F1", title)
    return document(title, origin, [[drawn]])


def subject_bars(accuracy: Mapping[str, float], windows: Mapping[str, int], title: str, origin: str) -> str:
    """Accuracy of every subject of the test split, and their mean (each subject counts once)."""
    names, support = list(accuracy), [windows[subject] for subject in accuracy]
    values = list(accuracy.values())
    drawn = _bars(values, names, support, [True] * len(names), "accuracy", "mean of subjects", title)
    return document(title, origin, [[drawn]])


def _bars(
    values: Sequence[float], names: Sequence[str], windows: Sequence[int], solid: Sequence[bool], what: str, mean: str,
    title: str,
) -> Chart:  # fmt: skip
    groups = [
        (f"{name} ({count})", [(Series(k, name, "", FULL if s else WEAK, "", ()), float(value))])
        for k, (value, name, count, s) in enumerate(zip(values, names, windows, solid, strict=True))
    ]
    counted = [float(v) for v, s in zip(values, solid, strict=True) if s and math.isfinite(v)]
    line = (mean, float(np.mean(counted))) if counted else None
    return named_rows.bars(f"{what} of {title}", groups, f"{what} [%] (number of windows in brackets)", line)


def curves(history: Mapping[str, Points], title: str, origin: str, chosen: int | None = None) -> str:
    """One small plot per quantity (`loss`, `accuracy`, ...), a line per split (`train`, `val`, `test`).

    history: "train/loss" -> (epoch, value) pairs; a key of no split has a plot of its own, after the others.
    chosen: the epoch of the headline, drawn as a dashed line. A plot without a finite value is left out and named.
    """
    quantities: dict[str, list[Series]] = {}
    for key, points in sorted(history.items(), key=lambda item: item[0].partition("/")[0] not in SPLITS):
        split, _, quantity = key.partition("/")
        known = split in SPLITS
        series = Series(len(quantities), key, "", *SPLITS.get(split, (OTHER, "")), points)
        quantities.setdefault(quantity if known else key, []).append(series)
    drawn = {name: plots.lines(name, "epoch", series, chosen) for name, series in quantities.items()}
    shown = [chart for chart in drawn.values() if chart is not None]
    splits = {key.partition("/")[0] for key in history}
    entries = [(split, *look) for split, look in SPLITS.items() if split in splits]
    entries += [] if chosen is None else [(f"epoch {chosen}, chosen", "#444", "5 3")]
    rows = [[plots.legend(entries)]] if entries else []
    rows += [shown[k : k + ABREAST] for k in range(0, len(shown), ABREAST)]
    without = [name for name, chart in drawn.items() if chart is None]
    if without or not rows:
        rows.append([plots.note(f"Without a finite value: {', '.join(without) or 'everything'}.")])
    return document(title, origin, rows)
