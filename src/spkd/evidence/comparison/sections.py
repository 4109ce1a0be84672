"""The parts of the comparison page that hold results: overview, curves, confusion, subjects, cost."""

import math
from collections.abc import Sequence

import numpy as np

from spkd.evidence.charts import colours, named_rows, plots
from spkd.evidence.charts.heatmaps import DIFFERENCE_COLOURS
from spkd.evidence.charts.named_rows import shares
from spkd.evidence.charts.plots import Series
from spkd.evidence.charts.text import esc
from spkd.evidence.comparison import plain_text
from spkd.evidence.comparison.record import Entry, Record

FIRST_CURVES = ("test/accuracy", "val/accuracy", "loss/cross_entropy", "val/mAP50-95", "val/mAP50", "train/box_loss")
COSTS = (
    ("cost/parameters", "parameters", 1.0),
    ("cost/macs", "MACs per window", 1.0),
    ("cost/gflops", "FLOPs per image", 1e9),
)
LOWER_IS_BETTER = ("parameters", "MMACs")
CLOCKS = ("ms/window",)
CHOSEN_ON_TEST = "best on test %"
UNRANKED = (*CLOCKS, CHOSEN_ON_TEST)  # they show the load of a machine, and the luck of an epoch
CLOCKS_TOLD = "wall time of one input on the run's own machine, its load included: equal networks cost the same."


def overview(shown: Sequence[Entry], columns: Sequence[plain_text.Column], every: Sequence[Entry]) -> str:
    """The table of runs: letter, name, results and costs; the best of a column is bold, but for UNRANKED."""
    heads = [head for head, _ in columns if head not in ("run", "id")]
    cells = {head: [value(e.record.run) for e in shown] for head, value in columns}
    head = "".join(f"<th{_quiet(h)}>{esc(h)}</th>" for h in heads)
    lines = [f"<tr class='head'><th></th><th>run</th>{head}<th>learned from</th><th>id</th></tr>"]
    ranked = [h for h in heads if h not in UNRANKED] if len(shown) > 1 else []
    best = {h: _best(cells[h], h in LOWER_IS_BETTER) for h in ranked}
    letters = {e.record.run.id: e for e in every}
    for k, entry in enumerate(shown):
        values = ""
        for h in heads:
            text = esc(cells[h][k])
            values += f"<td{_quiet(h)}>{f'<b>{text}</b>' if k in best.get(h, ()) else text}</td>"
        status = "" if entry.record.run.status == "FINISHED" else f" <em>{esc(entry.record.run.status.lower())}</em>"
        lines.append(
            f'<tr class="r{entry.number}"><td style="color:{entry.colour}"><b>{entry.letter}</b></td>'
            f"<td class='name' title='{esc(entry.record.run.name)}'>{esc(entry.title)}{status}</td>{values}"
            f"<td class='name'>{_teachers(entry.record, letters)}</td>"
            f"<td><code>{esc(entry.record.run.id[:8])}</code></td></tr>"
        )
    rules = sorted({e.record.run.tags["headline"] for e in shown if "headline" in e.record.run.tags})
    rule = "Different rules: " + "; ".join(rules) if len(rules) > 1 else "".join(f"Result: {r}" for r in rules)
    told = "".join(f" {h}: {CLOCKS_TOLD}" for h in heads if h in CLOCKS)
    return (
        f'<div class="wide"><table class="runs">{"".join(lines)}</table></div><p class="quiet">{esc(rule)}.{told}</p>'
    )


def _quiet(head: str) -> str:
    return ' class="quiet"' if head == CHOSEN_ON_TEST else ""


def _teachers(record: Record, letters: dict[str, Entry]) -> str:
    found = []
    for name, run_id in record.teachers.items():
        other = letters.get(run_id)
        at = f'<b style="color:{other.colour}">{other.letter}</b>' if other else f"<code>{esc(run_id[:8])}</code>"
        found.append(f"{esc(name)} {at}")
    return ", ".join(found)


def _best(texts: Sequence[str], lowest: bool) -> list[int]:
    """Places of the best values, as shown; none where all are equal or fewer than two are numbers."""
    values = {k: float(t.replace(",", "")) for k, t in enumerate(texts) if t != "-"}
    if len(set(values.values())) < 2:
        return []
    wanted = min(values.values()) if lowest else max(values.values())
    return [k for k, value in values.items() if value == wanted]


def series(entry: Entry, points: Sequence[tuple[float, float]], marked: float | None = None) -> Series:
    """Points of one run with its letter and colour."""
    return Series(entry.number, entry.name, entry.letter, entry.colour, entry.dash, points, marked)


def curves(shown: Sequence[Entry]) -> str:
    """A chart for every metric with a history; the first few are open, the others behind buttons."""
    keys = sorted({key for e in shown for key in e.record.curves}, key=lambda k: (_rank(k), k))
    found: list[str] = []
    buttons: dict[bool, list[str]] = {True: [], False: []}
    for key in keys:
        drawn = plots.lines(key, "epoch", [
            series(e, e.record.curves[key], e.record.run.metrics.get("headline/epoch"))
            for e in shown if key in e.record.curves
        ])  # fmt: skip
        if drawn:
            is_open = key in FIRST_CURVES
            pressed = "true" if is_open else "false"
            button = f'<button class="chip" data-chart="{esc(key)}" aria-pressed="{pressed}">{esc(key)}</button>'
            buttons[key.startswith("sim/")].append(button)
            found.append(f'<div data-key="{esc(key)}"{"" if is_open else " hidden"}>{drawn}</div>')
    if not found:
        return ""
    dot = "" if any(e.record.detection for e in shown) else '<p class="quiet">Dot: the epoch that is reported.</p>'
    folded = f"<details><summary>numbers of the similarity maps</summary>{''.join(buttons[True])}</details>"
    chips = "".join(buttons[False]) + (folded if buttons[True] else "")
    return f'<div class="charts">{"".join(found)}</div>{dot}<div class="chips">{chips}</div>'


def _rank(key: str) -> int:
    return FIRST_CURVES.index(key) if key in FIRST_CURVES else len(FIRST_CURVES)


def confusions(shown: Sequence[Entry]) -> str:
    """A confusion matrix for every run, and behind a switch what it has more or less than the first run's."""
    having = [e for e in shown if e.record.confusion is not None and e.record.confusion.sum() > 0]
    if not having:
        return ""
    first = having[0]
    same = [e for e in having if list(e.record.classes) == list(first.record.classes)]
    switch = (
        f'<div class="bar"><label><input type="checkbox" data-class="diffs"> difference to {first.letter}</label>'
        '<span class="quiet">of the kept weights; rows: truth, columns: predicted, in % of the true class, white 0 to '
        "dark blue 100; difference in points, red = more, blue = less</span></div>"
    )
    notes = []
    if len(same) < len(having):
        left = ", ".join(e.letter for e in having if e not in same)
        notes.append(f"Other classes than {first.letter}, not subtracted: {left}.")
    if len({e.record.run.tags.get("test_subjects") for e in having}) > 1:
        notes.append("The runs were tested on different subjects.")
    figures = "".join(_confusion(e, first if e in same else None) for e in having)
    note = f'<p class="warn">{esc(" ".join(notes))}</p>' if notes else ""
    return f'<div class="confusions">{switch if len(having) > 1 else ""}{note}<div class="cards">{figures}</div></div>'


def _confusion(entry: Entry, first: Entry | None) -> str:
    names, counts = entry.record.classes, entry.record.confusion
    if counts is None:
        return ""
    own = shares(counts)
    pictures = f'<div class="map">{_cells(own, 0, "Blues", names, entry.name, counts)}</div>'
    if first is not None and first.record.confusion is not None:
        change = own - shares(first.record.confusion)
        title = f"{entry.name} minus {first.letter}"
        drawn = _cells(change, -100, DIFFERENCE_COLOURS, names, title, change)
        pictures += f'<div class="diff">{drawn}</div>'
    else:
        pictures += '<div class="diff"><p class="quiet">other classes</p></div>'
    head = f'<b style="color:{entry.colour}">{entry.letter}</b> {esc(entry.title)}'
    return f'<figure class="card r{entry.number}"><figcaption>{head}</figcaption>{pictures}</figure>'


def _cells(
    values: np.ndarray, low: float, colour_map: str, names: Sequence[str], title: str, told: np.ndarray
) -> plots.Chart:
    """A matrix of per cents from low to 100; small ones are coloured and not written."""
    sign = "+.0f" if low < 0 else ".0f"
    written = len(names) <= named_rows.MOST_WRITTEN
    texts = np.array(
        [[format(v, sign) if written and math.isfinite(v) and abs(v) >= 0.5 else "" for v in row] for row in values]
    )
    shown = np.array([["-" if not math.isfinite(v) else f"{v:.4g}" for v in row] for row in told.astype(float)])
    return named_rows.matrix(shown, texts, colours.shades(values, (low, 100), colour_map), names, title)


def subjects(shown: Sequence[Entry]) -> str:
    """Accuracy of every test subject of a data set, a bar for each run that was tested on it."""
    people: dict[tuple[str, str], list[Entry]] = {}
    for entry in shown:
        data = entry.record.run.tags.get("data.dataset", "") + (" simulated" if entry.record.run.simulated else "")
        for name in entry.record.subjects:
            people.setdefault((data, name), []).append(entry)
    if not people:
        return ""
    several = len({data for data, _ in people}) > 1
    groups = []
    for (data, name), tested in sorted(people.items()):
        windows = "/".join(str(n) for n in dict.fromkeys(e.record.subjects[name][1] for e in tested))
        words = f"{data} {name} ({windows})" if several else f"{name} ({windows})"
        groups.append((words, [(series(e, []), e.record.subjects[name][0]) for e in tested]))
    told = '<p class="quiet">Accuracy in %, of the kept weights; windows of the subject in brackets.</p>'
    return f"<div class='wide'>{named_rows.bars('accuracy by subject', groups)}</div>{told}"


def costs(shown: Sequence[Entry], worth: str, what: str, scale: float) -> str:
    """Result against parameters and operations, with the Pareto front. worth: the result's metric.

    Wall times are left out: their front would show the load of the machine.
    """
    drawn = []
    for key, name, factor in COSTS:
        having = [e for e in shown if e.record.run.metrics.get(key, 0) > 0 and worth in e.record.run.metrics]
        points = [(e.record.run.metrics[key] * factor, e.record.run.metrics[worth] * scale) for e in having]
        drawn.append(plots.scatter(what, name, [series(e, [p]) for e, p in zip(having, points, strict=True)]))
    if not any(drawn):
        return ""
    told = "Grey steps: the Pareto front (nothing cheaper is better)."
    return f'<div class="charts">{"".join(str(chart) for chart in drawn if chart)}</div><p class="quiet">{told}</p>'
