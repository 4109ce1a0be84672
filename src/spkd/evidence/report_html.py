"""The report of a table as one HTML page that needs nothing else: sortable tables, dots of every trial, curves, maps.

Pure: records in, text out. Opened from a file, sent by mail, it looks the same: no network, no library.
"""

import base64
import html
import math
from collections.abc import Mapping, Sequence

from spkd.evidence import report, report_text
from spkd.evidence.report import Record
from spkd.evidence.report_text import About, Block

COLOURS = ("#2563a8", "#c2571a", "#2b8a4b", "#a2347d", "#7a6200", "#5b4bb5", "#0f7f86", "#8f2d2d")
DASHES = ("", "6 3", "2 3")
STYLE = """
:root{--ink:#1d2733;--soft:#66727f;--line:#d9dfe5;--paper:#fff;--band:#f4f6f8;--loud:#b3261e}
@media (prefers-color-scheme:dark){:root{--ink:#e5eaf0;--soft:#9aa7b4;--line:#36414d;--paper:#151b22;--band:#1e262f;
--loud:#ff9c92}}
*{box-sizing:border-box}body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);
margin:0 auto;max-width:1500px;padding:24px}h1{font-size:26px;margin:0 0 8px}h2{font-size:18px;margin:32px 0 6px}
p{margin:4px 0;max-width:110ch}.note{color:var(--soft)}.loud{color:var(--loud);font-weight:600}
.scroll{overflow-x:auto;max-height:70vh;border:1px solid var(--line);border-radius:6px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:13.5px}
th,td{padding:5px 10px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--paper)}
th{position:sticky;top:0;background:var(--band)!important;cursor:pointer;z-index:1}th:hover{text-decoration:underline}
th[data-up="1"]::after{content:" \\2191"}th[data-up="0"]::after{content:" \\2193"}
tr:hover td{background:var(--band)}svg{max-width:100%;height:auto}svg text{fill:var(--ink);font:12px system-ui}
.legend label{margin-right:14px;white-space:nowrap;cursor:pointer}.maps{display:flex;flex-wrap:wrap;gap:16px}
figure{margin:0;max-width:680px}figure img{width:100%;border:1px solid var(--line);border-radius:6px}
"""
SCRIPT = """
document.querySelectorAll('th').forEach(function(th){th.tabIndex=0;function sort(){
 var table=th.closest('table'),body=table.tBodies[0],k=th.cellIndex,up=th.dataset.up==='1'?0:1;
 table.querySelectorAll('th').forEach(function(o){delete o.dataset.up});th.dataset.up=up;
 var value=function(r){var t=r.cells[k].textContent,n=parseFloat(t);return isNaN(n)?t:n};
 Array.from(body.rows).sort(function(a,b){var x=value(a),y=value(b);
  var c=typeof x===typeof y?(x<y?-1:x>y?1:0):(typeof x==='number'?-1:1);return up?c:-c;
 }).forEach(function(r){body.appendChild(r)})}
 th.onclick=sort;th.onkeydown=function(e){if(e.key==='Enter')sort()}});
document.querySelectorAll('.legend input').forEach(function(box){box.onchange=function(){
 document.querySelectorAll('[data-row="'+box.value+'"]').forEach(function(g){g.style.display=box.checked?'':'none'})}});
"""


def page(records: Sequence[Record], about: About, maps: Mapping[str, bytes]) -> str:
    """The whole page. maps: {caption: PNG}."""
    parts = [f"<h1>{html.escape(about.name)}</h1>"]
    for sentence in report_text.header(records, about):
        loud = ' class="loud"' if sentence.startswith("SIMULATED") else ""
        parts.append(f"<p{loud}>{html.escape(sentence)}</p>")
    first, *others = report_text.blocks(records, about)
    parts += [table(first), *dots(records), *curves(records), *(table(block) for block in others)]
    if maps:
        parts.append("<h2>Similarity maps</h2><p class=note>Last step, first fold and trial of each row.</p>")
        parts.append(f"<div class=maps>{''.join(_figure(name, png) for name, png in maps.items())}</div>")
    title = html.escape(f"{about.name} - spkd table")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    body = "\n".join(parts)
    return f"<!doctype html>\n<html lang=en><head>{head}<style>{STYLE}</style></head>\n<body>{body}\n<script>{SCRIPT}</script></body></html>\n"  # noqa: E501 - one template


def table(block: Block) -> str:
    """One sortable table with its title and note."""
    title = f"<h2>{html.escape(block.title)}</h2>" + (
        f"<p class=note>{html.escape(block.note)}</p>" if block.note else ""
    )
    if not block.rows:
        return title
    head = "".join(f"<th>{html.escape(c)}</th>" for c in block.columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in block.rows)
    return f"{title}<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Round numbers between two values, 1, 2 or 5 times a power of ten apart, at most so many."""
    span = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * m for m in (1, 2, 5, 10, 20) if span / (power * m) <= most)
    start = math.ceil(low / step - 1e-9)
    return [step * k for k in range(start, math.floor(high / step + 1e-9) + 1)]


def dots(records: Sequence[Record]) -> list[str]:
    """Every trial of every row as a dot (mean over folds), its mean as a bar, the published value as a diamond."""
    key = report_text.HEADLINE
    names = report.rows(records)
    found = {row: report.spread(records, row, key, report.mean_of_folds(key)) for row in names}
    known = {r.row: r.published for r in records if r.published is not None}
    values = [100 * v for s in found.values() for v in s.values.values()] + list(known.values())
    if not values:
        return []
    low, high = min(values), max(values)
    margin = max(1.0, 0.06 * (high - low))
    low, high = max(0.0, low - margin), min(100.0, high + margin)
    left, width, line = 12 + 7 * max(len(n) for n in names), 760, 24
    bottom = line * len(names) + 10

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * width

    svg = [f'<svg viewBox="0 0 {left + width + 24} {bottom + 40}" width="{left + width + 24}" role="img">']
    for tick in ticks(low, high):
        svg.append(f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="4" y2="{bottom}" stroke="var(--line)"/>')
        svg.append(f'<text x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
    for k, row in enumerate(names):
        y = line * k + 18
        svg.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{html.escape(row)}</text>')
        for trial, v in found[row].values.items():
            svg.append(
                f'<circle cx="{x(100 * v):.1f}" cy="{y}" r="4.5" fill="{COLOURS[0]}" fill-opacity=".55">'
                f"<title>{html.escape(row)}, trial {trial}: {100 * v:.2f} %</title></circle>"
            )
        if found[row].values:
            m = x(100 * found[row].mean)
            svg.append(
                f'<line x1="{m:.1f}" x2="{m:.1f}" y1="{y - 9}" y2="{y + 9}" stroke="var(--ink)" stroke-width="2.5"/>'
            )
        if row in known:
            p = x(known[row])
            svg.append(
                f'<path d="M{p:.1f} {y - 6}l6 6l-6 6l-6-6z" fill="none" stroke="{COLOURS[1]}" stroke-width="2">'
                f"<title>published: {known[row]:.2f} %</title></path>"
            )
    svg.append(f'<text x="{left + width / 2}" y="{bottom + 34}" text-anchor="middle">test accuracy [%]</text></svg>')
    note = "Dot: one trial, mean over its folds. Bar: their mean."
    note += " Diamond: published (best TEST epoch there)." if known else ""
    return [f"<h2>Trials at a glance</h2><p class=note>{note}</p>", "".join(svg)]


def curves(records: Sequence[Record]) -> list[str]:
    """Mean test accuracy of every row by epoch, each row to be switched off."""
    key = "test/accuracy"
    lines = {row: report.mean_curve(records, row, key) for row in report.rows(records)}
    lines = {row: points for row, points in lines.items() if len(points) > 1}
    if not lines:
        return []
    width, height, left = 820, 300, 44
    last = max(epoch for points in lines.values() for epoch, _ in points)
    first = min(epoch for points in lines.values() for epoch, _ in points)
    every = [100 * v for points in lines.values() for _, v in points]
    low, high = min(every), max(every) + 0.5

    def at(epoch: float, value: float) -> tuple[float, float]:
        return left + (epoch - first) / max(1, last - first) * width, 8 + (high - value) / (high - low) * height

    svg = [f'<svg viewBox="0 0 {left + width + 20} {height + 48}" width="{left + width + 20}" role="img">']
    for tick in ticks(low, high, 6):
        y = at(first, tick)[1]
        svg.append(f'<line x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>')
        svg.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in ticks(first, last):
        if tick == int(tick):
            svg.append(f'<text x="{at(tick, low)[0]:.1f}" y="{height + 26}" text-anchor="middle">{tick:g}</text>')
    legend = []
    for k, (row, points) in enumerate(lines.items()):
        colour, dash = COLOURS[k % len(COLOURS)], DASHES[k // len(COLOURS) % len(DASHES)]
        path = " ".join("{:.1f},{:.1f}".format(*at(epoch, 100 * v)) for epoch, v in points)
        style = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"'
        svg.append(f'<polyline data-row="{k}" points="{path}" {style}><title>{html.escape(row)}</title></polyline>')
        swatch = f'<span style="color:{colour}">{"&#9632;" if not dash else "&#9635;"}</span>'
        legend.append(f'<label><input type=checkbox checked value="{k}">{swatch} {html.escape(row)}</label>')
    svg.append(f'<text x="{left + width / 2}" y="{height + 44}" text-anchor="middle">epoch</text></svg>')
    note = "Test accuracy [%] by epoch, mean over the cells of a row. Epochs are not chosen by it."
    return [f"<h2>Curves</h2><p class=note>{note}</p><p class=legend>{''.join(legend)}</p>", "".join(svg)]


def _figure(name: str, png: bytes) -> str:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return (
        f'<figure><img alt="{html.escape(name)}" src="{source}"><figcaption>{html.escape(name)}</figcaption></figure>'
    )
