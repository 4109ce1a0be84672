"""Charts as SVG: lines, scatter with Pareto front, their legend. Every text that goes in is escaped here.

Contract: marks of run number k carry the class `r<k>`, by which the page hides a run everywhere. A page that shows
charts holds STYLE.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from spkd.evidence.charts.text import apart, esc, text_px

WIDTH, HEIGHT = 400, 250
LEFT, RIGHT, TOP, BOTTOM = 50, 26, 14, 36
LETTER_PX, WIDE_PX = 12.0, 10.0
MOST_POINTS = 300
MOST_HOVERED = 60
INK, SOFT = "var(--ink,#1c2330)", "var(--soft,#6a7383)"  # a page may set them, and the others, for a dark theme
STYLE = f"""
svg text{{font-family:inherit}}
svg .title{{font-size:13px;font-weight:600;fill:{INK}}}
svg .tick{{font-size:11px;fill:{SOFT}}}
svg .letter{{font-size:12px;font-weight:700;stroke:var(--paper,#fff);stroke-width:2;paint-order:stroke}}
svg .grid{{stroke:var(--grid,#eceff3);fill:none}}
svg .edge{{stroke:var(--edge,#b6bdc9);fill:none}}
svg .line{{fill:none;stroke-width:1.8;stroke-linejoin:round}}
svg .hover{{fill:transparent}}
svg .hover:hover{{fill:#0002}}
svg .front{{fill:none;stroke:#c4cad4;stroke-width:1.5}}
svg .chosen{{fill:none;stroke:#444;stroke-width:1.2;stroke-dasharray:5 3}}
svg .cell{{font-size:9.5px;letter-spacing:-.2px;fill:#111}}
svg .light{{fill:#fff}}
svg .over{{stroke:#fff;stroke-width:3;stroke-linejoin:round;paint-order:stroke}}
svg image{{image-rendering:pixelated}}
svg .edges{{stroke:#fff9;stroke-width:.5;fill:none}}
svg .diff .edges,svg.diff .edges{{stroke:#0006}}
"""


@dataclass(frozen=True)
class Chart:
    """A drawing of its own coordinates, (0, 0) to (width, height) pixels. kind: its CSS class. fluid: as wide as fits.

    As text it stands in a page; `at` puts it into another drawing.
    """

    kind: str
    title: str
    width: float
    height: float
    inside: str
    fluid: bool = False

    def __str__(self) -> str:
        size = "" if self.fluid else f' width="{self.width:g}"'
        return self._open(size) + self.inside + "</svg>"

    def at(self, x: float, y: float) -> str:
        """The drawing with its upper left corner at a place of another one."""
        return (
            self._open(f' x="{x:g}" y="{y:g}" width="{self.width:g}" height="{self.height:g}"') + self.inside + "</svg>"
        )

    def _open(self, place: str) -> str:
        named = f'role="img" aria-label="{esc(self.title)}"'
        return f'<svg class="{self.kind}" viewBox="0 0 {self.width:g} {self.height:g}"{place} {named}>'


@dataclass(frozen=True)
class Series:
    """Points of one run. number: of the run. points: (x, y), finite. marked: the x of the point to stress.

    band: (low, high) around each point, or nothing.
    """

    number: int
    name: str
    letter: str
    colour: str
    dash: str
    points: Sequence[tuple[float, float]]
    marked: float | None = None
    band: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Axis:
    """Values low..high laid on pixels start..end; logarithmic where log. whole: no ticks between whole numbers."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    whole: bool = False

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
        step = max(_round_step((self.high - self.low) / 5.5), 1.0 if self.whole else 0.0)
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
    room = pad * (high - low) or (0.0 if high > low else 0.1 * abs(high) or 0.5)
    return Axis(low - room, high + room, start, end)


def label(value: float, digits: int = 3) -> str:
    """A tick's text: 1200000 as 1.2M, short decimals otherwise."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.{digits + 1}g}{unit}"
    return f"{value:.{digits}g}" if abs(value) > 1e-12 else "0"


def labels(values: Sequence[float]) -> list[str]:
    """The texts of an axis' ticks, with as many digits as tell them apart."""
    for digits in range(3, 9):
        found = [label(value, digits) for value in values]
        if len(set(found)) == len(values):
            break
    return found if values else []


def frame(across: Axis, up: Axis, title: str, below: str, inside: str) -> Chart:
    """A whole chart: title, grid, ticks, and what is drawn inside."""
    lines = [f'<text x="{LEFT}" y="12" class="title">{esc(title)}</text><g transform="translate(0 18)">']
    for value, words in zip(up.ticks, labels(up.ticks), strict=True):
        y = f"{up.at(value):.1f}"
        lines.append(f'<path d="M{LEFT} {y}H{across.end}" class="grid"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{y}" dy="4" class="tick" text-anchor="end">{words}</text>')
    for value, words in zip(across.ticks, labels(across.ticks), strict=True):
        x = f"{across.at(value):.1f}"
        lines.append(f'<path d="M{x} {up.start}v4" class="edge"/>')
        lines.append(f'<text x="{x}" y="{up.start + 16}" class="tick" text-anchor="middle">{words}</text>')
    lines.append(f'<path d="M{LEFT} {up.start}H{across.end}" class="edge"/>')
    middle, height = (LEFT + across.end) / 2, up.start + BOTTOM
    lines.append(f'<text x="{middle}" y="{height - 3}" class="tick" text-anchor="middle">{esc(below)}</text>')
    return Chart("chart", title, across.end + RIGHT, height + 18, "".join([*lines, inside, "</g>"]), fluid=True)


def thinned(points: Sequence[tuple[float, float]], marked: float | None = None) -> list[tuple[float, float]]:
    """At most MOST_POINTS of the finite points, evenly, besides the last one and the one at the x that is marked."""
    finite = [p for p in points if math.isfinite(p[1])]
    step = -(-len(finite) // MOST_POINTS) or 1
    last = len(finite) - 1
    return [point for k, point in enumerate(finite) if k % step == 0 or k == last or point[0] == marked]


def lines(
    title: str, below: str, series: Sequence[Series], chosen: float | None = None, *,
    size: tuple[int, int] = (WIDTH, HEIGHT), whole: bool = True, holds: Sequence[float] = (),
) -> Chart | None:  # fmt: skip
    """Curves over each other, the marked point of each as a dot; None where no point is finite.

    below: what runs across. chosen: where a dashed line stands, if inside. whole: across, in whole numbers only.
    holds: values that the axis has room for besides.
    """
    drawn = [(s, thinned(s.points, s.marked)) for s in series]
    drawn = [(s, points) for s, points in drawn if points]
    if not drawn:
        return None
    across = axis([x for _, points in drawn for x, _ in points], LEFT, size[0] - RIGHT, pad=0.0)
    across = replace(across, whole=whole)
    up = axis([*holds, *(y for _, points in drawn for _, y in points)], size[1] - BOTTOM, TOP)
    ends = [(across.at(points[-1][0]), up.at(points[-1][1])) for _, points in drawn]
    parts = []
    if chosen is not None and across.low <= chosen <= across.high:
        note = f"<title>{esc(below)} {chosen:g}, chosen</title>"
        parts.append(f'<path d="M{across.at(chosen):.1f} {TOP}V{up.start}" class="chosen">{note}</path>')
    for (s, points), (x, _), y in zip(drawn, ends, _beside(ends, up.start), strict=True):
        parts.append(f'<g class="r{s.number}"><title>{esc(s.name)}</title>')
        parts.append(_curve(s, points, across, up, (title, below)))
        parts.append(letter(x + 5, y + 4, s) + "</g>")
    return frame(across, up, title, below, "".join(parts))


def _curve(s: Series, points: Sequence[tuple[float, float]], across: Axis, up: Axis, names: tuple[str, str]) -> str:
    def laid(these: Sequence[tuple[float, float]]) -> list[tuple[str, str]]:
        return [(f"{across.at(x):.1f}", f"{up.at(y):.1f}") for x, y in these]

    def path(these: Sequence[tuple[str, str]]) -> str:
        return "M" + "L".join(" ".join(place) for place in these)

    dash = f' stroke-dasharray="{s.dash}"' if s.dash else ""
    parts = []
    if s.band:
        low, high = (laid([(x, ends[k]) for (x, _), ends in zip(s.points, s.band, strict=True)]) for k in (0, 1))
        parts.append(f'<path d="{path([*low, *high[::-1]])}Z" fill="{s.colour}" fill-opacity=".13"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="2.5" fill="{s.colour}"/>' for x, y in laid(s.points)]
    parts.append(f'<path d="{path(laid(points))}" class="line" stroke="{s.colour}"{dash}/>')
    for x, y in points if len(points) <= MOST_HOVERED else []:
        note = esc(f"{s.name}\n{names[0]} {y:.4g}, {names[1]} {x:g}")
        parts.append(f'<circle cx="{across.at(x):.1f}" cy="{up.at(y):.1f}" r="6" class="hover">')
        parts.append(f"<title>{note}</title></circle>")
    stressed = dict(points).get(s.marked) if s.marked is not None else None
    if s.marked is not None and stressed is not None:
        parts.append(f'<circle cx="{across.at(s.marked):.1f}" cy="{up.at(stressed):.1f}" r="4" fill="{s.colour}"/>')
    elif len(points) == 1:  # a line of one point would not be seen
        parts.append(
            f'<circle cx="{across.at(points[0][0]):.1f}" cy="{up.at(points[0][1]):.1f}" r="3" fill="{s.colour}"/>'
        )
    return "".join(parts)


def letter(x: float, y: float, s: Series) -> str:
    """The mark of a run beside what is drawn of it; "" for a series without one."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="letter" fill="{s.colour}">{esc(s.letter)}</text>' if s.letter else ""


def legend(entries: Sequence[tuple[str, str, str]]) -> Chart:
    """What lines mean, side by side. entries: (name, colour, dashes as SVG has them)."""
    parts, x = [], 0.0
    for name, colour, dash in entries:
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(f'<path d="M{x:g} 8h22" stroke="{colour}" stroke-width="2"{dashes}/>')
        parts.append(f'<text x="{x + 28:g}" y="12" class="tick">{esc(name)}</text>')
        x += 28 + text_px(name) + 18
    return Chart("legend", "legend", x, 16, "".join(parts))


def note(words: str) -> Chart:
    """One line of text."""
    return Chart("note", words, text_px(words), 16, f'<text y="12" class="tick">{esc(words)}</text>')


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


def scatter(title: str, below: str, series: Sequence[Series]) -> Chart | None:
    """One point a run on a logarithmic cost axis, the Pareto front as steps; None where there is no run.

    title: what is good. below: what it costs. series: each with one point (cost > 0, worth).
    """
    if not series:
        return None
    points = [s.points[0] for s in series]
    across = axis([x for x, _ in points], LEFT, WIDTH - RIGHT, log=True, pad=0.1)
    up = axis([y for _, y in points], HEIGHT - BOTTOM, TOP, pad=0.12)
    front = [points[k] for k in pareto(points)]
    path = f"M{across.at(front[0][0]):.1f} {up.at(front[0][1]):.1f}"
    path += "".join(f"H{across.at(x):.1f}V{up.at(y):.1f}" for x, y in front[1:]) + f"H{WIDTH - RIGHT}"
    parts = [f'<path d="{path}" class="front"/>']
    places = [(across.at(x), up.at(y)) for x, y in points]
    for s, (x, y), height in zip(series, points, _beside(places, up.start), strict=True):
        note = esc(f"{s.name}\n{y:.4g}, {below} {x:.4g}")
        circle = f'<circle cx="{across.at(x):.1f}" cy="{up.at(y):.1f}" r="5.5" fill="{s.colour}"/>'
        parts.append(f'<g class="r{s.number}"><title>{note}</title>{circle}')
        parts.append(letter(across.at(x) + 8, height + 4, s) + "</g>")
    return frame(across, up, f"{title} against {below}", below, "".join(parts))


def _beside(places: Sequence[tuple[float, float]], bottom: float) -> list[float]:
    """Heights of the letters beside points: apart, where points are so near across that their letters would meet."""
    heights, columns = [y for _, y in places], list[list[int]]()
    for k in sorted(range(len(places)), key=lambda k: places[k][0]):
        if columns and places[k][0] - places[columns[-1][0]][0] < WIDE_PX:
            columns[-1].append(k)
        else:
            columns.append([k])
    for column in columns:
        for k, height in zip(column, apart([heights[k] for k in column], LETTER_PX, 0.0, bottom), strict=True):
            heights[k] = height
    return heights
