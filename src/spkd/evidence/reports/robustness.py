"""Accuracy under disturbances as curves and as markdown tables. Takes plain results; knows no network."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from spkd.evidence.charts.colours import of_line
from spkd.evidence.charts.text import without_shared_words
from spkd.evidence.simulated import MARK, NOTE

AXES = {
    "noise": "Gaussian noise [training standard deviations]",
    "gain": "spread of the gain around 1",
    "segments": "share of the window lost",
    "channels": "share of the channels lost",
}
# run -> kind -> level -> accuracy of each draw
Draws = Mapping[str, Mapping[str, Mapping[float, Sequence[float]]]]


def collected(rows: Sequence[tuple[str, str, float, float]]) -> dict[str, dict[str, dict[float, list[float]]]]:
    """(run, kind, level, accuracy) rows as Draws, in the order of the rows."""
    found: dict[str, dict[str, dict[float, list[float]]]] = {}
    for run, kind, level, accuracy in rows:
        found.setdefault(run, {}).setdefault(kind, {}).setdefault(level, []).append(accuracy)
    return found


def spread(draws: Sequence[float]) -> float:
    """Sample standard deviation over draws; 0 for one draw."""
    return float(np.std(draws, ddof=1)) if len(draws) > 1 else 0.0


def figure(found: Draws, simulated: bool) -> Figure:
    """One plot a kind, one line a run: mean over draws, shaded by their standard deviation."""
    kinds = list(next(iter(found.values())))
    drawn = Figure(figsize=(4.2 * len(kinds), 4.0 + 0.22 * len(found)), dpi=110, layout="constrained")
    drawn.suptitle("test accuracy under disturbance" + (f"  {MARK}" if simulated else ""), fontsize=11)
    every = drawn.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axes, kind in zip(every, kinds, strict=True):
        for number, (name, title) in enumerate(zip(found, without_shared_words(list(found)), strict=True)):
            levels = found[name][kind]
            x, mean = list(levels), np.array([100 * np.mean(v) for v in levels.values()])
            sd = np.array([100 * spread(v) for v in levels.values()])
            colour, dashes = of_line(number)
            style = (0, tuple(float(d) for d in dashes.split())) if dashes else "-"
            axes.plot(x, mean, color=colour, marker="o", markersize=3.5, linewidth=1.6, linestyle=style, label=title)
            axes.fill_between(x, mean - sd, mean + sd, color=colour, alpha=0.13, linewidth=0)
        axes.set_xlabel(AXES.get(kind, kind), fontsize=9)
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    every[0].set_ylabel("accuracy % (band: standard deviation over draws)", fontsize=9)
    drawn.legend(*every[0].get_legend_handles_labels(), loc="outside lower center", fontsize=8, frameon=False, ncols=2)
    return drawn


def markdown(found: Draws, recorded: Mapping[str, float], draws: int, simulated: bool) -> str:
    """A table a kind: mean and sample standard deviation of accuracy [%] at each level. recorded: run -> accuracy."""
    lines = ["# Test accuracy under disturbance", ""]
    if simulated:
        lines += [NOTE, ""]
    lines += [
        f"Accuracy in %, mean ± sample standard deviation over {draws} draws, the same draws for every run. Level 0 is",
        "undisturbed. Disturbances act on recorded units; scaling, view and class order are those of the weights.",
    ]
    for kind in next(iter(found.values())):
        levels = list(next(iter(found.values()))[kind])
        lines += ["", f"## {AXES.get(kind, kind)}", ""]
        lines.append("| run | recorded | " + " | ".join(f"{level:g}" for level in levels) + " |")
        lines.append("|---|---|" + "---|" * len(levels))
        for name, kinds in found.items():
            cells = [_cell(values) for values in kinds[kind].values()]
            lines.append(f"| {name} | {100 * recorded[name]:.2f} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float]) -> str:
    mean = f"{100 * np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * spread(values):.2f}"
