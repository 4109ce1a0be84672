"""The plots of a table's page as SVG text: dots of every trial, curves of every row. Pure."""

import html
from collections.abc import Sequence

from spkd.evidence.charts.colours import of_line
from spkd.evidence.charts.plots import Axis
from spkd.evidence.reports import findings
from spkd.evidence.reports.findings import Record

DOT, DIAMOND = of_line(0)[0], of_line(1)[0]
Curve = list[tuple[int, float]]


def text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    """One label."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, ink: str = "var(--line)", width: float = 1) -> str:
    """One straight line."""
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{ink}" stroke-width="{width}"/>'


def drawing(width: float, height: float, parts: list[str]) -> str:
    """The parts as one SVG."""
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img">{"".join(parts)}</svg>'


def dots(records: Sequence[Record]) -> list[str]:
    """Every trial of every row as a dot (mean over folds), its mean as a bar, the published value as a diamond."""
    names = findings.rows(records)
    found = {row: findings.spread(records, row) for row in names}
    known = {r.row: r.published for r in records if r.published is not None}
    values = [100 * v for s in found.values() for v in s.values.values()] + list(known.values())
    if not values:
        return []
    margin = max(1.0, 0.06 * (max(values) - min(values)))
    left, bottom = 12 + 7 * max(len(n) for n in names), 24 * len(names) + 10
    axis = Axis(max(0.0, min(values) - margin), min(100.0, max(values) + margin), left, left + 760)
    parts = [line(axis.at(tick), 4, axis.at(tick), bottom) for tick in axis.ticks]
    parts += [text(axis.at(tick), bottom + 16, f"{tick:g}") for tick in axis.ticks]
    for k, row in enumerate(names):
        parts += [text(left - 8, 24 * k + 22, row, "end"), *_row(row, found[row], known.get(row), axis, 24 * k + 18)]
    parts.append(text(left + 380, bottom + 34, "test accuracy [%]"))
    note = "Dot: one trial, mean over its folds. Bar: their mean."
    note += " Diamond: published (best TEST epoch there)." if known else ""
    head = f"<h2>Trials at a glance</h2><p class=note>{note}</p>"
    return [head, drawing(left + 784, bottom + 40, parts)]


def _row(row: str, found: findings.Spread, known: float | None, axis: Axis, y: int) -> list[str]:
    parts = []
    for trial, value in found.values.items():
        title = f"<title>{html.escape(row)}, trial {trial}: {100 * value:.2f} %</title>"
        at = f'cx="{axis.at(100 * value):.1f}" cy="{y}" r="4.5"'
        parts.append(f'<circle {at} fill="{DOT}" fill-opacity=".55">{title}</circle>')
    if found.values:
        mean = axis.at(100 * found.mean)
        parts.append(line(mean, y - 9, mean, y + 9, "var(--ink)", 2.5))
    if known is not None:
        shape = f'd="M{axis.at(known):.1f} {y - 6}l6 6l-6 6l-6-6z" fill="none" stroke="{DIAMOND}" stroke-width="2"'
        parts.append(f"<path {shape}><title>published: {known:.2f} %</title></path>")
    return parts


def curves(records: Sequence[Record]) -> list[str]:
    """Mean test accuracy of every row by epoch; each row can be switched off."""
    lines = {row: findings.mean_curve(records, row) for row in findings.rows(records)}
    lines = {row: points for row, points in lines.items() if len(points) > 1}
    if not lines:
        return []
    epochs = [epoch for points in lines.values() for epoch, _ in points]
    every = [100 * v for points in lines.values() for _, v in points]
    across, up = Axis(min(epochs), max(epochs), 44, 864, whole=True), Axis(min(every), max(every) + 0.5, 308, 8)
    parts = [line(44, up.at(tick), 864, up.at(tick)) for tick in up.ticks]
    parts += [text(38, up.at(tick) + 4, f"{tick:g}", "end") for tick in up.ticks]
    parts += [text(across.at(tick), 326, f"{tick:g}") for tick in across.ticks]
    parts += [_curve(k, row, points, across, up) for k, (row, points) in enumerate(lines.items())]
    parts.append(text(454, 344, "epoch"))
    legend = "".join(_legend(k, row) for k, row in enumerate(lines))
    note = "Test accuracy [%] by epoch, mean over the cells of a row. Epochs are not chosen by it."
    head = f"<h2>Curves</h2><p class=note>{note}</p><p class=legend>{legend}</p>"
    return [head, drawing(884, 348, parts)]


def _curve(k: int, row: str, points: Curve, across: Axis, up: Axis) -> str:
    colour, dash = of_line(k)
    path = " ".join(f"{across.at(epoch):.1f},{up.at(100 * value):.1f}" for epoch, value in points)
    style = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"'
    return f'<polyline data-row="{k}" points="{path}" {style}><title>{html.escape(row)}</title></polyline>'


def _legend(k: int, row: str) -> str:
    colour, dash = of_line(k)
    sample = f'<path d="M0 6H26" stroke="{colour}" stroke-width="3" stroke-dasharray="{dash}"/>'
    drawn = f'<svg width="26" height="12" viewBox="0 0 26 12">{sample}</svg>'
    return f'<label><input type=checkbox checked value="{k}">{drawn} {html.escape(row)}</label> '
