"""The similarity maps of several runs, side by side: one colour scale for everything of one layer at one step.

Maps of runs with another probe (other windows, other data) are not comparable and stand in a block of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from spkd.evidence import similarity
from spkd.evidence.charts import heatmaps
from spkd.evidence.charts.heatmaps import colour_bar
from spkd.evidence.charts.text import esc
from spkd.evidence.comparison.record import Entry, Map

LAST = -1
SIDE = 150


@dataclass
class Card:
    """One map. product: (b, b). letters: the runs that it is of, or, for a teacher, that learned from it."""

    title: str
    product: np.ndarray
    entry: Entry | None
    learners: list[Entry] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)


def section(shown: Sequence[Entry]) -> str:
    """A block for every probe; "" where no run has maps."""
    probes: dict[str, list[Entry]] = {}
    for entry in shown:
        if entry.record.maps:
            probes.setdefault(entry.record.rows, []).append(entry)
    blocks = [_block(group) for group in probes.values()]
    without = [e.letter for e in shown if not e.record.maps]
    if blocks and without:
        blocks.append(f'<p class="quiet">Without maps: {esc(", ".join(without))}.</p>')
    return "".join(blocks)


def steps(group: Sequence[Entry]) -> list[int]:
    """The steps to choose from, LAST first where the runs do not all end with the same one."""
    every = sorted({step for e in group for step in e.record.maps})
    ends = {max(e.record.maps) for e in group}
    return every if len(ends) == 1 else [LAST, *every]


def _block(group: Sequence[Entry]) -> str:
    choice = steps(group)
    start = LAST if LAST in choice else choice[-1]
    options = "".join(
        f'<option value="{s}"{" selected" if s == start else ""}>{"last of each" if s == LAST else s}</option>'
        for s in choice
    )
    first = group[0]
    bar = (
        f'<div class="bar"><label>epoch <select data-steps>{options}</select></label>'
        f'<label><input type="checkbox" data-class="diffs"> difference to {esc(first.letter)}</label>'
        '<span class="quiet">sorted by class; each row of a map is scaled to length 1, as the SP loss does; '
        "one colour scale a row; difference: red = more alike, blue = less</span></div>"
    )
    parts = [f'<div class="maps">{bar}']
    for step in choice:
        hidden = "" if step == start else " hidden"
        parts.append(f'<div data-step="{step}"{hidden}>{_at_step(group, step)}</div>')
    return "".join([*parts, "</div>"])


def _at_step(group: Sequence[Entry], step: int) -> str:
    found: dict[str, list[tuple[Entry, Map, int]]] = {}
    absent = []
    for entry in group:
        at = max(entry.record.maps) if step == LAST else step
        if at not in entry.record.maps:
            absent.append(entry.letter)
        for layer, drawn in entry.record.maps.get(at, {}).items():
            found.setdefault(layer, []).append((entry, drawn, at))
    rows = [_row(layer, parts, step == LAST, group[0]) for layer, parts in found.items()]
    note = f'<p class="quiet">No map at this epoch: {esc(", ".join(absent))}.</p>' if absent else ""
    return "".join(rows) + note


def cards(parts: Sequence[tuple[Entry, Map, int]], name_steps: bool) -> list[Card]:
    """Teachers first, one card for equal maps of several runs, then the runs."""
    teachers: dict[bytes, Card] = {}
    own = []
    for entry, drawn, step in parts:
        student = drawn.products["student"]
        numbers = [_contrast(student, drawn.labels)]
        for name, product in drawn.products.items():
            if name != "student":
                numbers.append(f"distance to {name}: {similarity.distance(student, product):.2g}")
                card = Card(name, product, None, numbers=[_contrast(product, drawn.labels)])
                teachers.setdefault(product.tobytes(), card).learners.append(entry)
        at = f", epoch {step}" if name_steps else ""
        own.append(Card(entry.title + at, student, entry, numbers=numbers))
    return [*teachers.values(), *own]


def _contrast(product: np.ndarray, labels: np.ndarray) -> str:
    within, between = similarity.contrast(product, labels)
    return f"contrast {within - between:.3f}"


def _row(layer: str, parts: Sequence[tuple[Entry, Map, int]], name_steps: bool, first: Entry) -> str:
    """The maps of one layer, and their differences to the first run's where it has one here."""
    labels = parts[0][1].labels
    shown = cards(parts, name_steps)
    maps = [similarity.normalised(card.product) for card in shown]
    limits = similarity.spread(maps)
    reference = next((m for m, card in zip(maps, shown, strict=True) if card.entry is first), None)
    differences = [] if reference is None else [m - reference for m in maps]
    signed = similarity.symmetric(differences) if differences else None
    names = heatmaps.row_names(labels, parts[0][0].record.classes, SIDE)
    lines = [f'<div class="layer"><div class="side"><b>{esc(layer)}</b>{names or ""}</div>']
    lines.append(f'<div class="scale map">{colour_bar(limits, heatmaps.MAP_COLOURS, SIDE)}</div>')
    if signed:
        lines.append(f'<div class="scale diff">{colour_bar(signed, heatmaps.DIFFERENCE_COLOURS, SIDE)}</div>')
    lines.append('<div class="cards">')
    for k, (card, entries) in enumerate(zip(shown, maps, strict=True)):
        pictures = str(heatmaps.square(entries, limits, card.title, labels, SIDE, signed=False))
        if signed:
            name = f"difference: {card.title}"
            pictures += str(heatmaps.square(differences[k], signed, name, labels, SIDE, signed=True))
        else:
            pictures += f'<div class="diff"><p class="quiet">no map of {esc(first.letter)}</p></div>'
        lines.append(_card(card, pictures))
    return "".join([*lines, "</div></div>"])


def _card(card: Card, pictures: str) -> str:
    if card.entry is None:
        of = ", ".join(dict.fromkeys(e.letter for e in card.learners))
        name = "teacher" if card.title == "teacher" else f"teacher {card.title}"
        head, hide = f"{esc(name)} <span class='quiet'>of {esc(of)}</span>", ""
    else:
        head = f'<b style="color:{card.entry.colour}">{card.entry.letter}</b> {esc(card.title)}'
        hide = f" r{card.entry.number}"
    numbers = "".join(f"<div>{esc(line)}</div>" for line in card.numbers)
    return f'<figure class="card{hide}"><figcaption>{head}</figcaption>{pictures}<small>{numbers}</small></figure>'
