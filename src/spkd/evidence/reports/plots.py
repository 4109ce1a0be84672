"""The plots of a table's page: dots of every trial, curves of every row. Pure."""

from collections.abc import Sequence

from spkd.evidence.charts import plots
from spkd.evidence.charts.colours import of_line
from spkd.evidence.charts.named_rows import MOST_NAME_PX, scale_below
from spkd.evidence.charts.plots import Axis, Chart, Series
from spkd.evidence.charts.text import esc, shortened, text_px
from spkd.evidence.reports import findings
from spkd.evidence.reports.findings import Record

DOT, DIAMOND = of_line(0)[0], of_line(1)[0]
DOTS_WIDTH, ROW = 760, 24
CURVES_SIZE = (884, 348)


def dots(records: Sequence[Record]) -> list[str]:
    """Every trial of every row as a dot (mean over folds), its mean as a bar, the published value as a diamond."""
    names = findings.rows(records)
    found = {row: findings.spread(records, row) for row in names}
    known = {r.row: r.published / 100 for r in records if r.published is not None}
    values = [v for s in found.values() for v in s.values.values()] + list(known.values())
    if not values:
        return []
    margin = max(0.01, 0.06 * (max(values) - min(values)))
    left, bottom = 12 + min(max(text_px(n) for n in names), MOST_NAME_PX), ROW * len(names) + 10
    across = Axis(max(0.0, min(values) - margin), min(1.0, max(values) + margin), left, left + DOTS_WIDTH)
    parts = [scale_below(across, 4, bottom, "test accuracy [%]")]
    for k, row in enumerate(names):
        y = ROW * k + 18
        words = f"{esc(shortened(row, MOST_NAME_PX))}<title>{esc(row)}</title>"
        parts.append(f'<text x="{left - 8:g}" y="{y + 4}" class="tick" text-anchor="end">{words}</text>')
        parts += _row(row, found[row], known.get(row), across, y)
    note = "Dot: one trial, mean over its folds. Bar: their mean."
    note += " Diamond: published (best TEST epoch there)." if known else ""
    head = f"<h2>Trials at a glance</h2><p class=note>{note}</p>"
    return [head, str(Chart("dots", "trials at a glance", left + DOTS_WIDTH + 24, bottom + 36, "".join(parts)))]


def _row(row: str, found: findings.Spread, known: float | None, across: Axis, y: int) -> list[str]:
    parts = []
    for trial, value in found.values.items():
        title = f"<title>{esc(row)}, trial {trial}: {100 * value:.2f} %</title>"
        at = f'cx="{across.at(value):.1f}" cy="{y}" r="4.5"'
        parts.append(f'<circle {at} fill="{DOT}" fill-opacity=".7">{title}</circle>')
    if found.values:
        parts.append(f'<path d="M{across.at(found.mean):.1f} {y - 9}v18" class="mean"/>')
    if known is not None:
        shape = f'd="M{across.at(known):.1f} {y - 6}l6 6l-6 6l-6-6z" fill="none" stroke="{DIAMOND}" stroke-width="2"'
        parts.append(f"<path {shape}><title>published: {100 * known:.2f} %</title></path>")
    return parts


def curves(records: Sequence[Record]) -> list[str]:
    """Mean test accuracy of every row by epoch; each row can be switched off."""
    means = {row: findings.mean_curve(records, row) for row in findings.rows(records)}
    series = [
        Series(k, row, "", *of_line(k), [(epoch, 100 * value) for epoch, value in points])
        for k, (row, points) in enumerate((row, points) for row, points in means.items() if len(points) > 1)
    ]
    drawn = plots.lines("test accuracy [%]", "epoch", series, size=CURVES_SIZE)
    if drawn is None:
        return []
    note = "Mean over the cells of a row. Epochs are not chosen by it."
    head = f"<h2>Curves</h2><p class=note>{note}</p><p class=legend>{''.join(_switch(s) for s in series)}</p>"
    return [head, str(drawn)]


def _switch(s: Series) -> str:
    sample = f'<path d="M0 6H26" stroke="{s.colour}" stroke-width="3" stroke-dasharray="{s.dash}"/>'
    drawn = f'<svg width="26" height="12" viewBox="0 0 26 12">{sample}</svg>'
    return f'<label><input type=checkbox checked value="{s.number}">{drawn} {esc(s.name)}</label> '
