"""Accuracy under disturbances as curves (SVG) and as markdown tables. Takes plain results; knows no network."""

from collections.abc import Mapping, Sequence

import numpy as np

from spkd.evidence.charts import plots
from spkd.evidence.charts.colours import of_line
from spkd.evidence.charts.document import document
from spkd.evidence.charts.plots import Series
from spkd.evidence.charts.text import letter, without_shared_words
from spkd.evidence.simulated import NOTE

ABREAST = 2
AXES = {
    "noise": "Gaussian noise [standard deviations of the run's scaling]",
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


def figure(found: Draws, origin: str) -> str:
    """An SVG document: a plot a kind, a line a run: mean over draws, its standard deviation as a band.

    origin: of the data; simulated data are said to be so.
    """
    series: dict[str, list[Series]] = {}
    for k, (name, title) in enumerate(zip(found, without_shared_words(list(found)), strict=True)):
        for kind, levels in found[name].items():
            points = [(level, 100 * float(np.mean(draws))) for level, draws in levels.items()]
            around = [100 * spread(draws) for draws in levels.values()]
            band = [(mean - sd, mean + sd) for (_, mean), sd in zip(points, around, strict=True)]
            series.setdefault(kind, []).append(Series(k, title, letter(k), *of_line(k), points, band=band))
    ends = [end for lines in series.values() for s in lines for edges in s.band for end in edges]
    drawn = [plots.lines(kind, AXES.get(kind, kind), lines, whole=False, holds=ends) for kind, lines in series.items()]
    shown = [chart for chart in drawn if chart is not None]
    rows = [shown[k : k + ABREAST] for k in range(0, len(shown), ABREAST)]
    names = [[plots.legend([(f"{s.letter}: {s.name}", s.colour, s.dash)])] for s in next(iter(series.values()))]
    return document("test accuracy [%] under disturbance (band: standard deviation over draws)", origin, rows + names)


def markdown(
    found: Draws, recorded: Mapping[str, float], draws: int, simulated: bool, data: str, scalings: Mapping[str, str]
) -> str:
    """A table a kind: mean and sample standard deviation of accuracy [%] at each level.

    recorded: run -> accuracy. data: which data these are, in words. scalings: run -> the rule that it scales by.
    """
    lines = ["# Test accuracy under disturbance", ""]
    if simulated:
        lines += [NOTE, ""]
    lines += [
        f"Data: {data}.",
        "",
        f"Accuracy in %, mean ± sample standard deviation over {draws} draws, the same draws for every run. Level 0 is",
        "undisturbed. Disturbances act on recorded units; scaling, view and class order are those of the weights.",
        _scaled_by(scalings),
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


def _scaled_by(scalings: Mapping[str, str]) -> str:
    """What noise and lost samples are measured in, and a warning where that is not the same for every run."""
    rules = list(dict.fromkeys(scalings.values()))
    told = (
        "The standard deviation of noise, and the mean that takes the place of what is lost, are those of the scaling"
    )
    if len(rules) < 2:
        return f"{told}: {''.join(rules)}."
    groups = [f"{rule} ({', '.join(name for name, own in scalings.items() if own == rule)})" for rule in rules]
    warning = "The same level is another disturbance under another scaling: compare the runs of one alone."
    return f"{told}: {' | '.join(groups)}. **{warning}**"


def _cell(values: Sequence[float]) -> str:
    mean = f"{100 * np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * spread(values):.2f}"
