"""Similarity maps as charts: a map with lines between its classes, the names of its rows, its colour scale."""

from collections.abc import Sequence

import numpy as np

from spkd.evidence.charts import colours
from spkd.evidence.charts.colours import Limits
from spkd.evidence.charts.plots import Axis, Chart, labels
from spkd.evidence.charts.text import apart, esc, shortened, text_px

MAP_COLOURS, DIFFERENCE_COLOURS = "viridis", "RdBu_r"
NAMES_PX, LARGEST, MOST_NAMED = 104, 9.5, 30


def square(entries: np.ndarray, limits: Limits, name: str, classes: np.ndarray, side: float, signed: bool) -> Chart:
    """A map. entries: (b, b), rows sorted by class. classes: (b,). side: in pixels. signed: a difference of maps."""
    scale = side / len(entries)
    image = colours.png(entries, limits, DIFFERENCE_COLOURS if signed else MAP_COLOURS)
    between = [f"{scale * edge:.2f}" for edge in edges(classes)]
    path = "".join(f"M0 {e}H{side:g}M{e} 0V{side:g}" for e in between)
    inside = f'<image width="{side:g}" height="{side:g}" href="data:image/png;base64,{image}"/>'
    inside += f'<path d="{path}" class="edges"/>' if path else ""
    return Chart("diff" if signed else "map", name, side, side, inside)


def edges(classes: np.ndarray) -> list[int]:
    """Rows with which another class begins."""
    return [int(edge) for edge in np.flatnonzero(np.diff(classes)) + 1]


def row_names(classes: np.ndarray, names: Sequence[str], side: float) -> Chart | None:
    """Class names beside the rows of a map; None for more than can be read. names: by class index."""
    present = {int(c): float(np.flatnonzero(classes == c).mean()) + 0.5 for c in np.unique(classes)}
    if len(present) > MOST_NAMED or max(present) >= len(names):
        return None
    size = min(LARGEST, side / len(present))
    places = apart([centre / len(classes) * side for centre in present.values()], size, size / 2, side - size / 2)
    lines = []
    for index, y in zip(present, places, strict=True):
        words = f"{esc(shortened(names[index], NAMES_PX, size))}<title>{esc(names[index])}</title>"
        look = f'font-size="{size:.3g}" text-anchor="end" class="row"'
        lines.append(f'<text x="{NAMES_PX - 1}" y="{y + 0.33 * size:.1f}" {look}>{words}</text>')
    return Chart("names", "classes", NAMES_PX, side, "".join(lines))


def colour_bar(limits: Limits, colour_map: str, height: float, words: str = "") -> Chart:
    """A colour scale with its numbers; words: what they are."""
    up = Axis(*limits, height, 0.0)
    image = colours.png(np.linspace(1, 0, 128)[:, None], (0, 1), colour_map)
    size = f'width="12" height="{height:g}" preserveAspectRatio="none"'
    parts = [f'<image {size} href="data:image/png;base64,{image}"/>']
    told = labels(up.ticks)
    for value, number in zip(up.ticks, told, strict=True):
        y = f"{up.at(value):.1f}"
        parts.append(f'<path d="M12 {y}h3" class="edge"/><text x="18" y="{y}" dy="4" class="tick">{number}</text>')
    wide = 18 + max(text_px(number) for number in told)
    if words:
        wide += 16
        turned = f'transform="rotate(-90 {wide:g} {height / 2:g})"'
        parts.append(
            f'<text x="{wide:g}" y="{height / 2:g}" class="tick" text-anchor="middle" {turned}>{esc(words)}</text>'
        )
    return Chart("scale", words or "colour scale", wide + 4, height, "".join(parts))
