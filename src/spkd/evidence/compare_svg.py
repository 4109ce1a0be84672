"""Charts as SVG text: lines, scatter with Pareto front, bars, matrices. Every text that goes in is escaped here.

Contract: marks of run number k carry the class `r<k>`, by which the page hides a run everywhere.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WIDTH, HEIGHT = 400, 250
LEFT, RIGHT, TOP, BOTTOM = 50, 26, 14, 36
MOST_POINTS = 300
MOST_HOVERED = 60


def esc(value: object) -> str:
    """Text for HTML or SVG, in an attribute too."""
    return html.escape(str(value), quote=True)


@dataclass(frozen=True)
class Series:
    """Points of one run. number: of the run. points: (x, y), finite. marked: the x of the point to stress."""

    number: int
    name: str
    letter: str
    colour: str
    dash: str
    points: Sequence[tuple[float, float]]
    marked: float | None = None


@dataclass(frozen=True)
class Axis:
    """Values low..high laid on pixels start..end; logarithmic where log."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, high, v = (math.log10(x) if self.log else x for x in (self.low, self.high, value))
        return self.start + (v - low) / (high - low) * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Round values inside the axis: 1, 2 and 5 times powers of ten."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if self.high / self.low < 100 else (1,)
            found = [m * 10.0**d for d in decades for m in steps if self.low <= m * 10.0**d <= self.high]
            return (
                found
                if len(found) > 1
                else [float(f"{self.low * (self.high / self.low) ** q:.2g}") for q in (0.2, 0.8)]
            )
        step = _round_step((self.high - self.low) / 4.5)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return float(next(m for m in (1, 2, 5, 10) if m * power >= rough * 0.999) * power)


def axis(values: Sequence[float], start: float, end: float, log: bool = False, pad: float = 0.06) -> Axis:
    """An axis that holds the values with some room at both ends."""
    low, high = min(values), max(values)
    if log:
        room = max(10 ** (pad * math.log10(high / low)), 1.25)
        return Axis(low / room, high * room, start, end, True)
    room = pad * (high - low) or max(abs(high), 1e-9) * 0.1
    return Axis(low - room, high + room, start, end)


def label(value: float) -> str:
    """A tick's text: 1200000 as 1.2M, short decimals otherwise."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.3g}" if abs(value) > 1e-12 else "0"


def frame(across: Axis, up: Axis, title: str, below: str, inside: str) -> str:
    """A whole chart: title, grid, ticks, and what is drawn inside."""
    lines = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT + 18}" role="img" aria-label="{esc(title)}">']
    lines.append(f'<text x="{LEFT}" y="12" class="title">{esc(title)}</text><g transform="translate(0 18)">')
    for value in up.ticks:
        y = f"{up.at(value):.1f}"
        lines.append(f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" class="grid"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{y}" dy="4" class="tick" text-anchor="end">{label(value)}</text>')
    for value in across.ticks:
        x = f"{across.at(value):.1f}"
        lines.append(f'<path d="M{x} {HEIGHT - BOTTOM}v4" class="edge"/>')
        lines.append(
            f'<text x="{x}" y="{HEIGHT - BOTTOM + 16}" class="tick" text-anchor="middle">{label(value)}</text>'
        )
    lines.append(f'<path d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}" class="edge"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    lines.append(f'<text x="{middle}" y="{HEIGHT - 3}" class="tick" text-anchor="middle">{esc(below)}</text>')
    return "".join([*lines, inside, "</g></svg>"])


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MOST_POINTS of the finite points, the last among them."""
    finite = [p for p in points if math.isfinite(p[1])]
    step = -(-len(finite) // MOST_POINTS) or 1
    kept = finite[::step]
    return kept if not finite or kept[-1] == finite[-1] else [*kept, finite[-1]]


def lines(title: str, below: str, series: Sequence[Series]) -> str:
    """Curves over each other, the marked point of each as a dot; "" where no point is finite."""
    drawn = [(s, thinned(s.points)) for s in series]
    drawn = [(s, points) for s, points in drawn if points]
    if not drawn:
        return ""
    across = axis([x for _, points in drawn for x, _ in points], LEFT, WIDTH - RIGHT, pad=0.0)
    up = axis([y for _, points in drawn for _, y in points], HEIGHT - BOTTOM, TOP)
    ends = apart([up.at(points[-1][1]) for _, points in drawn], 12.0)
    parts = []
    for (s, points), end in zip(drawn, ends, strict=True):
        place = [f"{across.at(x):.1f} {up.at(y):.1f}" for x, y in points]
        parts.append(f'<g class="r{s.number}"><title>{esc(s.name)}</title>')
        dash = f' stroke-dasharray="{s.dash}"' if s.dash else ""
        parts.append(f'<path d="M{"L".join(place)}" class="line" stroke="{s.colour}"{dash}/>')
        for x, y in points if len(points) <= MOST_HOVERED else []:
            note = esc(f"{s.name}\n{title} {y:.4g}, {below} {x:g}")
            parts.append(f'<circle cx="{across.at(x):.1f}" cy="{up.at(y):.1f}" r="6" class="hover">')
            parts.append(f"<title>{note}</title></circle>")
        at = dict(points).get(s.marked) if s.marked is not None else None
        if s.marked is not None and at is not None:
            parts.append(f'<circle cx="{across.at(s.marked):.1f}" cy="{up.at(at):.1f}" r="4" fill="{s.colour}"/>')
        parts.append(_letter(WIDTH - RIGHT + 5, end + 4, s) + "</g>")
    return frame(across, up, title, below, "".join(parts))


def apart(places: Sequence[float], distance: float) -> list[float]:
    """The places, moved as little as need be until neighbours are `distance` apart; their order and mean stay."""
    order = sorted(range(len(places)), key=lambda k: places[k])
    blocks: list[list[float]] = []  # [mean place, how many] of runs of touching labels, from the top down
    for k in order:
        blocks.append([places[k], 1])
        while len(blocks) > 1 and blocks[-1][0] - blocks[-2][0] < distance * (blocks[-1][1] + blocks[-2][1]) / 2:
            (b, m), (a, n) = blocks.pop(), blocks.pop()
            blocks.append([(a * n + b * m) / (n + m), n + m])
    moved = [mean + distance * (j - (n - 1) / 2) for mean, n in blocks for j in range(int(n))]
    return [place for _, place in sorted(zip(order, moved, strict=True))]


def _letter(x: float, y: float, s: Series) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="letter" fill="{s.colour}">{esc(s.letter)}</text>'


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the points (cost, worth) that no other beats: none costs less or the same and is worth more.

    In order of cost. Of equal points the first.
    """
    best, found = -math.inf, []
    for k in sorted(range(len(points)), key=lambda k: (points[k][0], -points[k][1])):
        if points[k][1] > best:
            best = points[k][1]
            found.append(k)
    return found


def scatter(title: str, below: str, series: Sequence[Series]) -> str:
    """One point a run on a logarithmic cost axis, the Pareto front as steps; "" where there is no run.

    title: what is good. below: what it costs. series: each with one point (cost > 0, worth).
    """
    if not series:
        return ""
    points = [s.points[0] for s in series]
    across = axis([x for x, _ in points], LEFT, WIDTH - RIGHT, log=True, pad=0.1)
    up = axis([y for _, y in points], HEIGHT - BOTTOM, TOP, pad=0.12)
    front = [points[k] for k in pareto(points)]
    path = f"M{across.at(front[0][0]):.1f} {up.at(front[0][1]):.1f}"
    path += "".join(f"H{across.at(x):.1f}V{up.at(y):.1f}" for x, y in front[1:]) + f"H{WIDTH - RIGHT}"
    parts = [f'<path d="{path}" class="front"/>']
    for s, (x, y) in zip(series, points, strict=True):
        note = esc(f"{s.name}\n{y:.4g}, {below} {x:.4g}")
        circle = f'<circle cx="{across.at(x):.1f}" cy="{up.at(y):.1f}" r="5.5" fill="{s.colour}"/>'
        parts.append(f'<g class="r{s.number}"><title>{note}</title>{circle}')
        parts.append(_letter(across.at(x) + 8, up.at(y) + 4, s) + "</g>")
    return frame(across, up, f"{title} against {below}", below, "".join(parts))


def bars(title: str, groups: Sequence[tuple[str, Sequence[tuple[Series, float]]]], highest: float) -> str:
    """Horizontal bars, a group of runs under each name. Values in 0..highest."""
    thick, gap, left, right = 15, 12, 130, 60
    height = 24 + sum(thick * len(rows) + gap for _, rows in groups)
    width = 620
    lines = [f'<svg class="bars" viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="{esc(title)}">']
    y = 8
    for name, rows in groups:
        middle = y + thick * len(rows) / 2
        lines.append(f'<text x="{left - 24}" y="{middle + 4}" class="tick" text-anchor="end">{esc(name)}</text>')
        for s, value in rows:
            length = (width - left - right) * value / highest
            lines.append(f'<g class="r{s.number}"><title>{esc(s.name)}</title>')
            lines.append(_letter(left - 16, y + 12, s))
            lines.append(f'<rect x="{left}" y="{y + 1}" width="{length:.1f}" height="{thick - 2}" fill="{s.colour}"/>')
            lines.append(f'<text x="{left + length + 5:.1f}" y="{y + 12}" class="tick">{100 * value:.1f}</text></g>')
            y += thick
        y += gap
    return "".join([*lines, "</svg>"])


def matrix(entries: np.ndarray, texts: np.ndarray, colours: np.ndarray, names: Sequence[str], title: str) -> str:
    """A square table of coloured cells, names on its left and below.

    entries: (k, k) shown when pointed at. texts: (k, k) written in the cells. colours: (k, k) CSS colours.
    """
    k, cell, left = len(names), (24 if len(names) <= 15 else 14), 108
    side = k * cell
    size = f'viewBox="0 0 {left + side + 4} {side + 84}" width="{left + side + 4}"'
    lines = [f'<svg class="matrix" {size} role="img" aria-label="{esc(title)}">']
    for i, name in enumerate(names):
        y, x = i * cell + cell / 2 + 4, left + i * cell + cell / 2 + 3
        short = esc(name if len(name) <= 17 else name[:16] + "…")
        lines.append(f'<text x="{left - 5}" y="{y}" class="tick" text-anchor="end">{short}</text>')
        turned = f'transform="rotate(-50 {x} {side + 10})"'
        lines.append(f'<text x="{x}" y="{side + 10}" class="tick" text-anchor="end" {turned}>{short}</text>')
        for j in range(k):
            note = esc(f"true {name}, predicted {names[j]}: {entries[i, j]}")
            place = f'x="{left + j * cell}" y="{i * cell}" width="{cell - 1}" height="{cell - 1}"'
            lines.append(f'<rect {place} fill="{colours[i, j]}"><title>{note}</title></rect>')
            if texts[i, j]:
                at = f'x="{left + j * cell + (cell - 1) / 2}" y="{y - 0.5}"'
                lines.append(f'<text {at} class="cell" text-anchor="middle">{esc(texts[i, j])}</text>')
    return "".join([*lines, "</svg>"])
