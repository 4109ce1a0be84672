"""Looks and behaviour of the comparison page. Without scripts the page still shows everything but what is folded."""

from collections.abc import Sequence

from spkd.evidence.charts import plots

CSS = (
    f"""{plots.STYLE}"""
    """
:root{--ink:#1c2330;--soft:#6a7383;--line:#dfe3ea;--wash:#f6f7f9;--mark:#fff3d1}
*{box-sizing:border-box}
body{margin:0;font:14px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;color:var(--ink)}
main{max-width:1480px;margin:0 auto;padding:0 24px 60px}
header{padding:22px 0 4px}
h1{font-size:22px;margin:0 0 2px}
h2{font-size:17px;margin:38px 0 10px;padding-top:10px;border-top:1px solid var(--line)}
h3{font-size:14px;margin:16px 0 6px}
.quiet{color:var(--soft);font-weight:400}
p.quiet{margin:6px 0;font-size:13px}
.simulated{background:#ffe1dc;border-left:5px solid #d1402b;padding:9px 14px;margin:12px 0;font-weight:600}
.warn{background:var(--mark);padding:5px 10px;border-left:4px solid #e0a800;font-size:13px}
nav{position:sticky;top:0;z-index:2;background:#fffffff2;border-bottom:1px solid var(--line);padding:8px 0;
 display:flex;gap:6px 16px;flex-wrap:wrap;align-items:center}
section{scroll-margin-top:48px}
nav b{font-size:13px;color:var(--soft);font-weight:500}
nav a{color:var(--ink);text-decoration:none;font-size:13px}
nav a:hover{text-decoration:underline}
nav .toggles{display:flex;gap:8px;margin-left:auto;flex-wrap:wrap}
nav label{font-size:13px;font-weight:700;cursor:pointer;white-space:nowrap}
nav input{vertical-align:-2px;margin:0 2px 0 0}
table{border-collapse:collapse;font-size:13px}
.wide{overflow-x:auto}
td,th{padding:4px 12px;text-align:right;border-bottom:1px solid var(--line);vertical-align:top;white-space:nowrap}
th{font-weight:600}
.runs tr.head th{color:var(--soft);font-weight:500}
.runs td:first-child{text-align:center;padding:4px 6px}
.runs .name,.runs th:nth-child(2),.runs th:nth-last-child(2){text-align:left}
.runs td.quiet b{font-weight:400}
code{font:12px ui-monospace,Menlo,Consolas,monospace;color:var(--soft)}
.facts td,.facts th{text-align:left;padding:3px 12px}
.facts td{white-space:normal;max-width:280px;min-width:70px;overflow-wrap:anywhere}
.facts th{font-weight:500;color:#38404e;white-space:nowrap}
.facts td.other{background:var(--mark)}
.facts td.none{color:var(--soft)}
.facts tr.equal,.facts.same{display:none}
.all .facts tr.equal{display:table-row}
.all .facts.same{display:table}
button{font:inherit;font-size:12px;border:1px solid var(--line);background:#fff;border-radius:4px;padding:2px 9px;
 cursor:pointer;color:var(--ink)}
button:hover{background:var(--wash)}
.chips details{width:100%;font-size:12px;color:var(--soft)}
.chips summary{cursor:pointer;margin:2px 0 5px}
.chips details button{margin:0 5px 5px 0}
.chips{display:flex;flex-wrap:wrap;gap:5px;margin-top:8px}
.chip{color:var(--soft)}
.chip[aria-pressed=true]{background:#e6edf8;border-color:#a9c0e4;color:var(--ink)}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(380px,1fr));gap:14px 22px}
.chart{width:100%;max-width:520px}
.bars,.matrix{max-width:none}
.bar{display:flex;gap:6px 18px;align-items:center;flex-wrap:wrap;margin:4px 0 10px;font-size:13px}
.layer{display:flex;gap:8px;padding:8px 0 12px}
.layer .side{flex:0 0 108px}
.layer .side b{display:block;height:50px;text-align:right;padding-right:2px}
.names text{fill:var(--soft)}
.card{margin:0}
.layer .card{width:150px}
.layer .cards{gap:12px 14px}
.card figcaption{font-size:12px;line-height:1.25;height:46px;overflow:hidden;margin-bottom:4px}
.card small{color:var(--soft);font-size:11.5px;line-height:1.35;display:block}
.cards{display:flex;flex-wrap:wrap;gap:18px 22px}
.confusions .card figcaption{height:auto;max-width:400px}
svg.map,svg.diff{display:block}
.diff,.diffs .map{display:none!important}
.diffs .diff{display:block!important}
div.scale{flex:0 0 58px;margin-top:50px}
svg.scale{overflow:visible}
@media print{nav{position:static}}
"""
)

SCRIPT = """
const all=(q,f)=>document.querySelectorAll(q).forEach(f);
all('[data-run]',b=>b.onchange=()=>document.body.classList.toggle('hide'+b.dataset.run,!b.checked));
all('[data-all]',b=>{const name=b.textContent;b.onclick=()=>{
 b.textContent=b.closest('.part').classList.toggle('all')?'show what differs':name}});
all('[data-chart]',b=>b.onclick=()=>{const on=b.getAttribute('aria-pressed')!=='true';b.setAttribute('aria-pressed',on);
 b.closest('section').querySelectorAll('[data-key]').forEach(c=>{if(c.dataset.key===b.dataset.chart)c.hidden=!on})});
all('[data-class]',b=>b.onchange=()=>b.closest('.maps,.confusions').classList.toggle(b.dataset.class,b.checked));
all('[data-steps]',b=>b.onchange=()=>b.closest('.maps').querySelectorAll('[data-step]').forEach(
 c=>c.hidden=c.dataset.step!==b.value));
"""


def hiding(numbers: Sequence[int]) -> str:
    """The rules by which a class of the body hides a run everywhere."""
    return "".join(f".hide{n} .r{n}{{display:none!important}}" for n in numbers)
