"""The similarity maps of one step in one picture, an SVG document: a row for a layer, a column for a network."""

from collections.abc import Mapping, Sequence

import numpy as np

from spkd.evidence.charts.colours import Limits
from spkd.evidence.charts.document import document
from spkd.evidence.charts.heatmaps import DIFFERENCE_COLOURS, MAP_COLOURS, NAMES_PX, colour_bar, row_names, square
from spkd.evidence.charts.plots import Chart
from spkd.evidence.charts.text import esc, shortened
from spkd.evidence.similarity import Layer

SIDE, BETWEEN, SCALE_PX = 180.0, 12.0, 62.0
HEADS, ROW = 16.0, SIDE + 14.0
LEFT = 20.0 + NAMES_PX + 4.0


def draw(layers: Mapping[str, Layer], labels: np.ndarray, classes: Sequence[str], title: str, origin: str) -> str:
    """All layers: a row each, columns = teachers, student, differences.

    labels: (b,) sorted classes of the probe. classes: names by class index. title: run and step. origin: of the data.
    A row has one colour scale for its maps, and one as wide to either side of 0 for its differences. All layers have
    the same teachers.
    """
    parts, width = [], 0.0
    for k, (name, layer) in enumerate(layers.items()):
        top = HEADS + k * ROW
        turned = f'transform="rotate(-90 12 {top + SIDE / 2:g})"'
        parts.append(
            f'<text x="12" y="{top + SIDE / 2:g}" class="title" text-anchor="middle" {turned}>{esc(name)}</text>'
        )
        named = row_names(labels, classes, SIDE)
        if named is not None:
            parts.append(named.at(20, top))
        drawn, end = _side_by_side(layer.maps, layer.limits, labels, (LEFT, top), k == 0, signed=False)
        parts += drawn
        if layer.teachers:
            differences = {f"student - {teacher}": d for teacher, d in layer.differences.items()}
            drawn, end = _side_by_side(
                differences, layer.signed_limits, labels, (end + BETWEEN, top), k == 0, signed=True
            )
            parts += drawn
        width = max(width, end)
    whole = Chart("panel", "similarity maps", width, HEADS + len(layers) * ROW, "".join(parts))
    return document(title, origin, [[whole]])


def _side_by_side(
    maps: Mapping[str, np.ndarray], limits: Limits, labels: np.ndarray, corner: tuple[float, float],
    headed: bool, signed: bool,
) -> tuple[list[str], float]:  # fmt: skip
    """Maps of one colour scale, and the scale; where they end. corner: the upper left one. headed: with their names."""
    x, y = corner
    parts = []
    for name, entries in maps.items():
        if headed:
            shown = f"{esc(shortened(name, SIDE + BETWEEN))}<title>{esc(name)}</title>"
            parts.append(f'<text x="{x + SIDE / 2:g}" y="{y - 6:g}" class="tick" text-anchor="middle">{shown}</text>')
        parts.append(square(entries, limits, name, labels, SIDE, signed).at(x, y))
        x += SIDE + BETWEEN
    scale = colour_bar(limits, DIFFERENCE_COLOURS if signed else MAP_COLOURS, SIDE)
    return [*parts, scale.at(x, y)], x + SCALE_PX
