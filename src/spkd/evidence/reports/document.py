"""The report of a table as one HTML page that needs nothing else: sortable tables, dots of every trial, curves, maps.

Pure: records in, text out. Opened from a file, sent by mail, it looks the same: no network, no library.
"""

import base64
from collections.abc import Mapping, Sequence

from spkd.evidence.charts import plots as charts
from spkd.evidence.charts.text import esc
from spkd.evidence.reports import blocks, plots
from spkd.evidence.reports.blocks import About, Block
from spkd.evidence.reports.findings import Record

OWN_STYLE = """
:root{--ink:#1d2733;--soft:#66727f;--line:#d9dfe5;--paper:#fff;--band:#f4f6f8;--loud:#b3261e}
@media (prefers-color-scheme:dark){:root{--ink:#e5eaf0;--soft:#9aa7b4;--line:#36414d;--paper:#151b22;--band:#1e262f;
--loud:#ff9c92;--grid:#36414d;--edge:#66727f}}
*{box-sizing:border-box}body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);
margin:0 auto;max-width:1500px;padding:24px}h1{font-size:26px;margin:0 0 8px}h2{font-size:18px;margin:32px 0 6px}
p{margin:4px 0;max-width:110ch}.note{color:var(--soft)}.loud{color:var(--loud);font-weight:600}
.scroll{overflow-x:auto;max-height:70vh;border:1px solid var(--line);border-radius:6px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:13.5px}
th,td{padding:5px 10px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--paper)}
th{position:sticky;top:0;background:var(--band)!important;cursor:pointer;z-index:1}th:hover{text-decoration:underline}
th[data-up="1"]::after{content:" \\2191"}th[data-up="0"]::after{content:" \\2193"}
tr:hover td{background:var(--band)}svg{max-width:100%;height:auto}.chart{width:884px}
.mean{stroke:var(--ink);stroke-width:2.5}
.legend label{margin-right:14px;white-space:nowrap;cursor:pointer}.maps{display:flex;flex-wrap:wrap;gap:16px}
figure{margin:0;max-width:680px}figure img{width:100%;border:1px solid var(--line);border-radius:6px}
"""
STYLE = charts.STYLE + OWN_STYLE
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
 document.querySelectorAll('.r'+box.value).forEach(function(g){g.style.display=box.checked?'':'none'})}});
"""


def page(records: Sequence[Record], about: About, maps: Mapping[str, str]) -> str:
    """The whole page. maps: {caption: SVG document}."""
    parts = [f"<h1>{esc(about.name)}</h1>"]
    for sentence in blocks.header(records, about):
        loud = ' class="loud"' if sentence.startswith("SIMULATED") else ""
        parts.append(f"<p{loud}>{esc(sentence)}</p>")
    first, *others = blocks.blocks(records, about)
    parts += [table(first), *plots.dots(records), *plots.curves(records), *(table(block) for block in others)]
    if maps:
        parts.append("<h2>Similarity maps</h2><p class=note>Last step, first fold and trial of each row.</p>")
        parts.append(f"<div class=maps>{''.join(_figure(name, svg) for name, svg in maps.items())}</div>")
    title = esc(f"{about.name} - spkd table")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    body = "\n".join(parts)
    return f"<!doctype html>\n<html lang=en><head>{head}<style>{STYLE}</style></head>\n<body>{body}\n<script>{SCRIPT}</script></body></html>\n"  # noqa: E501 - one template


def table(block: Block) -> str:
    """One sortable table with its title and note."""
    title = f"<h2>{esc(block.title)}</h2>" + (f"<p class=note>{esc(block.note)}</p>" if block.note else "")
    if not block.rows:
        return title
    head = "".join(f"<th>{esc(c)}</th>" for c in block.columns)
    body = "".join("<tr>" + "".join(f"<td>{esc(c)}</td>" for c in row) + "</tr>" for row in block.rows)
    return f"{title}<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _figure(name: str, svg: str) -> str:
    # As an image, not as part of the page: its styles stay its own, and no script in it runs.
    source = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
    return f'<figure><img alt="{esc(name)}" src="{source}"><figcaption>{esc(name)}</figcaption></figure>'
