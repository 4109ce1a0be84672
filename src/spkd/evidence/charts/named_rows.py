"""Charts with a name at every row: horizontal bars, and a square table of coloured cells.

Contract: as plots.py, whose Chart they return.
"""

import math
from collections.abc import Sequence

import numpy as np

from spkd.evidence.charts.plots import Axis, Chart, Series, label, letter
from spkd.evidence.charts.text import esc, shortened, text_px

THICK, BARS_RIGHT, BARS_WIDTH = 15, 60, 620
MOST_NAME_PX, MOST_CLASS_PX = 240, 150
MOST_WRITTEN = 15


def bars(
    title: str, groups: Sequence[tuple[str, Sequence[tuple[Series, float]]]], below: str = "",
    mean: tuple[str, float] | None = None,
) -> Chart:  # fmt: skip
    """Horizontal bars, a group of runs under each name, in per cent.

    groups: values in 0..1; NaN is written as a dash. below: what an axis under the bars is called, "" for none.
    mean: what a dashed line is called, and where it stands.
    """
    lettered = any(s.letter for _, rows in groups for s, _ in rows)
    gap, aside = (12, 24) if lettered else (7, 8)
    left = max(130.0, min(max((text_px(name) for name, _ in groups), default=0.0), MOST_NAME_PX) + aside + 4)
    across = Axis(0.0, 1.0, left, BARS_WIDTH - BARS_RIGHT)
    top = 8 + (16 if mean else 0)
    bottom = top + sum(THICK * len(rows) + gap for _, rows in groups)
    under = scale_below(across, top - 4, bottom, below) if below else ""
    drawn, told = [], []
    y = float(top)
    for name, rows in groups:
        shown, middle = f"{esc(shortened(name, MOST_NAME_PX))}<title>{esc(name)}</title>", y + THICK * len(rows) / 2
        drawn.append(f'<text x="{left - aside:g}" y="{middle + 4:g}" class="tick" text-anchor="end">{shown}</text>')
        for s, value in rows:
            drawn.append(_bar(s, value, across, y))
            told.append(_told(s, value, across, y))
            y += THICK
        y += gap
    line = _mean(*mean, across, top - 4, bottom) if mean else ""
    return Chart("bars", title, BARS_WIDTH, bottom + (36 if below else 16), "".join([under, *drawn, line, *told]))


def _bar(s: Series, value: float, across: Axis, y: float) -> str:
    length = across.at(value) - across.start if math.isfinite(value) else 0.0
    bar = f'<rect x="{across.start:g}" y="{y + 1:g}" width="{length:.1f}" height="{THICK - 2}" fill="{s.colour}"/>'
    return f'<g class="r{s.number}"><title>{esc(s.name)}</title>{letter(across.start - 16, y + 12, s)}{bar}</g>'


def _told(s: Series, value: float, across: Axis, y: float) -> str:
    end, words = (across.at(value), f"{100 * value:.1f}") if math.isfinite(value) else (across.start, "\u2013")
    return f'<text x="{end + 5:.1f}" y="{y + 12:g}" class="tick over r{s.number}">{words}</text>'


def _mean(name: str, value: float, across: Axis, top: float, bottom: float) -> str:
    x, anchor = f"{across.at(value):.1f}", "end" if value > across.high / 2 else "start"
    words = f'<text x="{x}" y="{top - 5:g}" class="tick" text-anchor="{anchor}">{esc(name)} {100 * value:.1f} %</text>'
    return f'<path d="M{x} {top:g}V{bottom:g}" class="chosen"/>{words}'


def scale_below(across: Axis, top: float, bottom: float, below: str) -> str:
    """Lines at round per cents of an axis of fractions, from top to bottom, their numbers, and what the axis is."""
    parts = []
    for tick in across.ticks:
        x = f"{across.at(tick):.1f}"
        parts.append(f'<path d="M{x} {top}V{bottom}" class="grid"/>')
        parts.append(f'<text x="{x}" y="{bottom + 14}" class="tick" text-anchor="middle">{label(100 * tick)}</text>')
    middle = (across.start + across.end) / 2
    return "".join(
        [*parts, f'<text x="{middle:g}" y="{bottom + 30}" class="tick" text-anchor="middle">{esc(below)}</text>']
    )


def matrix(entries: np.ndarray, texts: np.ndarray, shades: np.ndarray, names: Sequence[str], title: str) -> Chart:
    """A square table of coloured cells, true classes on its left, predicted ones below.

    entries: (k, k) shown when pointed at. texts: (k, k) written in the cells. shades: (k, k) colours `#rrggbb`.
    """
    k, cell = len(names), cell_px(texts)
    side, named = k * cell, min(max((text_px(name) for name in names), default=0.0), MOST_CLASS_PX)
    left = math.ceil(named) + 28
    parts = [f'<text x="11" y="{side / 2}" class="tick" text-anchor="middle" {_turned(-90, 11, side / 2)}>true</text>']
    for i, name in enumerate(names):
        y, x = i * cell + cell / 2 + 4, left + i * cell + cell / 2 + 3
        short = f"{esc(shortened(name, MOST_CLASS_PX))}<title>{esc(name)}</title>"
        parts.append(f'<text x="{left - 5}" y="{y}" class="tick" text-anchor="end">{short}</text>')
        turned = _turned(-50, x, side + 10)
        parts.append(f'<text x="{x}" y="{side + 10}" class="tick" text-anchor="end" {turned}>{short}</text>')
        for j in range(k):
            note = esc(f"true {name}, predicted {names[j]}: {entries[i, j]}")
            place = f'x="{left + j * cell}" y="{i * cell}" width="{cell - 1}" height="{cell - 1}"'
            parts.append(f'<rect {place} fill="{shades[i, j]}"><title>{note}</title></rect>')
            if texts[i, j]:
                at = f'x="{left + j * cell + (cell - 1) / 2}" y="{y - 0.5}"'
                look = "cell light" if _dark(shades[i, j]) else "cell"
                parts.append(f'<text {at} class="{look}" text-anchor="middle">{esc(texts[i, j])}</text>')
    below = side + 28 + 0.77 * named
    parts.append(f'<text x="{left + side / 2}" y="{below:.1f}" class="tick" text-anchor="middle">predicted</text>')
    return Chart("matrix", title, left + side + 4, math.ceil(below + 8), "".join(parts))


def cell_px(texts: np.ndarray) -> int:
    """The side of a cell of a matrix that shows these texts."""
    longest = max((len(str(text)) for text in texts.ravel()), default=0)
    return max(27, math.ceil(5 + 5.3 * longest)) if len(texts) <= MOST_WRITTEN else 14


def shares(counts: np.ndarray) -> np.ndarray:
    """(k, k) per cent of each true class; NaN for a class without windows."""
    totals = counts.sum(axis=1, keepdims=True)
    found: np.ndarray = np.divide(100.0 * counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    return found


def _turned(degrees: float, x: float, y: float) -> str:
    return f'transform="rotate({degrees:g} {x:g} {y:g})"'


def _dark(shade: str) -> bool:
    """Whether white text is easier to read on a colour than black."""
    red, green, blue = bytes.fromhex(shade[1:])
    return 0.3 * red + 0.59 * green + 0.11 * blue < 140
