"""What differs between runs in settings, their own and their teachers', data, environment and code: a table each."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spkd.evidence.charts.text import esc
from spkd.evidence.comparison.record import Entry, Record, differing, short

Facts = Callable[[Record], Mapping[str, Any]]
TEACHERS = "Settings of the teachers"
PARTS: dict[str, Facts] = {
    "Settings": lambda record: record.settings,
    TEACHERS: lambda record: record.taught,
    "Data": lambda record: record.data,
    "Environment": lambda record: record.environment,
    "Code": lambda record: record.code,
}


def section(shown: Sequence[Entry]) -> str:
    """The tables: keys that differ, and behind a button all keys."""
    return "".join(_part(name, facts, shown) for name, facts in PARTS.items())


def summary(shown: Sequence[Entry]) -> str:
    """One line: how many keys of each table differ."""
    counts = []
    for name, facts in PARTS.items():
        keys, unequal = _differing(name, [facts(entry.record) for entry in shown])
        if keys or name != TEACHERS:
            counts.append(f"{name.lower()} {len(unequal)} of {len(keys)}")
    return f'<p class="quiet">What differs: {esc(", ".join(counts))} keys.</p>'


def _differing(name: str, columns: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """(all keys, those that differ). The keys of a teacher that a run lacks do not: `distill.teachers` tells it."""
    return differing(columns, missing_counts=name != TEACHERS)


def _part(name: str, facts: Facts, shown: Sequence[Entry]) -> str:
    columns = [facts(entry.record) for entry in shown]
    keys, unequal = _differing(name, columns)
    if not keys and name == TEACHERS:
        return ""
    if not keys:
        return f'<h3>{esc(name)}</h3><p class="quiet">Not recorded.</p>'
    equal = len(keys) - len(unequal)
    button = f"<button data-all>show all {len(keys)}</button>" if equal else ""
    equal_told = f"all {len(keys)} are equal" if len(shown) > 1 else ""
    told = f"{len(unequal)} of {len(keys)} differ" if unequal else equal_told
    head = f"<h3>{esc(name)} <span class='quiet'>{told}</span> {button}</h3>"
    names = "".join(f'<th class="r{e.number}" style="color:{e.colour}">{e.letter}</th>' for e in shown)
    rows = [_row(key, columns, shown, key in set(unequal)) for key in keys]
    quiet = "" if unequal else " same"
    table = f'<table class="facts{quiet}"><tr class="head"><th>key</th>{names}</tr>{"".join(rows)}</table>'
    return f'<div class="part">{head}<div class="wide">{table}</div></div>'


def _row(key: str, columns: Sequence[Mapping[str, Any]], shown: Sequence[Entry], differs: bool) -> str:
    """One key. A value unlike most runs' is stressed."""
    texts = [short(column[key]) if key in column else "–" for column in columns]
    usual = Counter(texts).most_common(1)[0][0]
    cells = []
    for entry, column, text in zip(shown, columns, texts, strict=True):
        other = text != usual
        marks = f"r{entry.number}{' other' if other else ''}{' none' if key not in column else ''}"
        cells.append(f'<td class="{marks}">{esc(text)}</td>')
    return f'<tr class="{"differs" if differs else "equal"}"><th>{esc(key)}</th>{"".join(cells)}</tr>'
