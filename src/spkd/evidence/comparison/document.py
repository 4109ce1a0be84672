"""Any runs as one self-contained HTML page: no network, no other file, every word of a run escaped.

Takes records (reading.read), returns text; knows no store.
"""

from collections.abc import Sequence

from spkd.evidence.charts.text import esc
from spkd.evidence.comparison import differences, map_cards, plain_text, sections
from spkd.evidence.comparison.record import Entry, Record, entries
from spkd.evidence.comparison.style import CSS, SCRIPT, hiding

SIMULATED = "SIMULATED data: these figures show that everything runs, not what a method is worth."
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def page(records: Sequence[Record], title: str) -> str:
    """The page. records: at least one run; runs on recordings and detection runs are kept apart."""
    har, detection = entries(records)
    every = [*har, *detection]
    both = bool(har and detection)
    links = held = ""
    for group, parts in (("Recordings", _har(har, every)), ("Detection", _detection(detection, every))):
        found = [part for part in parts if part[2]]
        links += f"<b>{group}</b>" if found and both else ""
        for key, head, text in found:
            place, full = f"{group}-{key}".lower(), f"{group}: {head}" if both else head
            links += f'<a href="#{place}">{esc(head)}</a>'
            held += f'<section id="{place}"><h2>{esc(full)}</h2>{text}</section>'
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{esc(title)}</title><style>{CSS}{hiding([e.number for e in every])}</style></head><body><main>"
        f"<header><h1>{esc(title)}</h1>{_warning(every)}</header>"
        f'<nav>{links}<span class="toggles">{"".join(_toggle(e) for e in every)}</span></nav>'
        f"{held}</main><script>{SCRIPT}</script></body></html>\n"
    )


def _warning(every: Sequence[Entry]) -> str:
    """That data are simulated, which must be known before any figure is read, and of which runs; "" where none are."""
    simulated = [e.letter for e in every if e.record.run.simulated]
    if not simulated:
        return ""
    of = "" if len(simulated) == len(every) else f" ({', '.join(simulated)})"
    return f'<p class="simulated">{esc(SIMULATED + of)}</p>'


def _toggle(entry: Entry) -> str:
    box = f'<input type="checkbox" data-run="{entry.number}" checked>'
    return f'<label style="color:{entry.colour}" title="{esc(entry.record.run.name)}">{box}{entry.letter}</label>'


def _har(shown: Sequence[Entry], every: Sequence[Entry]) -> list[tuple[str, str, str]]:
    """(id, heading, HTML) of each section on recordings; "" where no run has anything for it."""
    if not shown:
        return []
    return [
        ("runs", "Runs", sections.overview(shown, plain_text.HAR, every) + _data(shown) + _caveats(shown)),
        ("cost", "Accuracy against cost", sections.costs(shown, "headline/accuracy", "accuracy %", 100.0)),
        ("curves", "Curves", sections.curves(shown)),
        ("maps", "Similarity maps", map_cards.section(shown)),
        ("confusion", "Confusion", sections.confusions(shown)),
        ("subjects", "Subjects", sections.subjects(shown)),
        ("differences", "What differs", differences.section(shown)),
    ]


def _detection(shown: Sequence[Entry], every: Sequence[Entry]) -> list[tuple[str, str, str]]:
    """(id, heading, HTML) of each section on detection runs."""
    if not shown:
        return []
    return [
        ("runs", "Runs", sections.overview(shown, plain_text.DETECTION, every) + _data(shown) + _caveats(shown)),
        ("cost", "mAP against cost", sections.costs(shown, "best/mAP50-95", "mAP50-95", 1.0)),
        ("curves", "Curves", sections.curves(shown)),
        ("maps", "Similarity maps", map_cards.section(shown)),
        ("differences", "What differs", differences.section(shown)),
    ]


def _data(shown: Sequence[Entry]) -> str:
    return f'<p class="quiet">Data: {esc(plain_text.data([e.record.run for e in shown]))}.</p>'


def _caveats(shown: Sequence[Entry]) -> str:
    """How much differs, and a warning where results cannot be compared: other data or other held-out subjects."""
    told = differences.summary(shown) if len(shown) > 1 else ""
    unequal = [
        name
        for name, key in (("data", "data.digest"), ("test subjects", "test_subjects"), ("data set", "data.name"))
        if len({e.record.run.tags.get(key) for e in shown}) > 1
    ]
    if not unequal:
        return told
    return told + f'<p class="warn">The runs do not share the same {esc(" and ".join(unequal))}: see What differs.</p>'
