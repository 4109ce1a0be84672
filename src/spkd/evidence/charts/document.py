"""Charts as one SVG document that needs nothing else: opened alone, in a page, or among MLflow's artifacts."""

import textwrap
from collections.abc import Sequence

from spkd.evidence import simulated
from spkd.evidence.charts.plots import SOFT, STYLE, Chart
from spkd.evidence.charts.text import esc, text_px

MARGIN, GAP, LEAST_WIDTH, TITLE_PX = 16, 16, 360, 15
FONT = 'system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif'
ALONE = f"""svg{{font-family:{FONT}}}
svg svg{{overflow:visible}}
svg .head{{font-size:{TITLE_PX}px;font-weight:600;fill:#1c2330}}
svg .simulated{{font-size:12px;font-weight:700;fill:#b3261e}}
svg .row{{fill:{SOFT}}}
"""


def document(title: str, origin: str, rows: Sequence[Sequence[Chart]]) -> str:
    """The charts below a title, row by row. origin: of the data; simulated data are said to be so."""
    marked = origin == simulated.ORIGIN
    widest = max(sum(c.width for c in row) + GAP * (len(row) - 1) for row in rows)
    width = max(LEAST_WIDTH, widest) + 2 * MARGIN
    y = float(MARGIN)
    parts = []
    for line in _wrapped(title, width - 2 * MARGIN):
        y += TITLE_PX + 3
        parts.append(f'<text x="{MARGIN}" y="{y - 5:g}" class="head">{esc(line)}</text>')
    if marked:
        y += 16
        parts.append(f'<text x="{MARGIN}" y="{y - 3:g}" class="simulated">{simulated.MARK}</text>')
    for row in rows:
        y += GAP
        x = float(MARGIN)
        for chart in row:
            parts.append(chart.at(x, y))
            x += chart.width + GAP
        y += max(chart.height for chart in row)
    size = f'viewBox="0 0 {width:g} {y + MARGIN:g}" width="{width:g}" height="{y + MARGIN:g}"'
    named = esc(f"{title} {simulated.MARK}" if marked else title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><title>{named}</title><style>{ALONE}{STYLE}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _wrapped(title: str, most_px: float) -> list[str]:
    characters = max(1, int(len(title) * most_px / max(1.0, text_px(title, TITLE_PX))))
    return textwrap.wrap(title, characters)
