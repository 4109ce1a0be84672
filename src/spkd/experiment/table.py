"""From the definition of a table to its cells, in an order in which each cell's teachers come before it. Pure.

A cell is one run. Cells that would give the same numbers are one cell, whatever rows they belong to: a teacher that ten
rows share is trained once, and the scratch student of a trial is also the start of that trial's annealed students.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from spkd import config, plugin
from spkd.errors import SpkdError
from spkd.experiment import lineage, plan, student
from spkd.experiment.plan import Role
from spkd.settings import Settings, TableDefinition, TableRow

# Sections of params.yaml that trainings on recordings read, and presets change.
READ = ("dataset", "views", "networks", "train", "teacher", "student", "distill", "losses")
ALONE = {"distill.teachers": [], "distill.alphas": [], "distill.init": "none"}


@dataclass(frozen=True)
class Cell:
    """One run of a table.

    key: 16 hex digits that are equal for equal numbers. given: overrides of params.yaml. relevant: the settings that
    can change its numbers. needs: {teacher reference, or "init": key of the cell that makes it}. rows: the rows that it
    stands in, with the path of a published value; empty where it only serves other cells.
    """

    key: str
    role: Role
    given: dict[str, Any]
    relevant: dict[str, Any]
    needs: dict[str, str]
    fold: int
    trial: int
    name: str
    rows: dict[str, str] = field(default_factory=dict)


def definition(settings: Settings, name: str) -> TableDefinition:
    """One table of params.yaml. Raises SpkdError with the nearest name where there is none."""
    if name not in settings.tables:
        raise SpkdError("table.name", "an entry of `tables`", repr(name), plugin.nearest(name, list(settings.tables)))
    return settings.tables[name]


def fill(value: Any, names: dict[str, Any]) -> Any:
    """The value with every `{name}` replaced; nothing but `{name}` becomes the thing itself, of its type."""
    if isinstance(value, dict):
        return {fill(k, names): fill(v, names) for k, v in value.items()}
    if isinstance(value, list):
        return [fill(v, names) for v in value]
    if not isinstance(value, str):
        return value
    if value[:1] == "{" and value[-1:] == "}" and value[1:-1] in names:
        return names[value[1:-1]]
    for name, word in names.items():
        value = value.replace(f"{{{name}}}", word if isinstance(word, str) else config.dump(word))
    return value


def rows(table: TableDefinition) -> Iterator[tuple[str, TableRow]]:
    """(name, row) of every row, with `each` multiplied out. Raises SpkdError where two rows get one name."""
    seen: set[str] = set()
    for pattern, row in table.rows.items():
        for values in itertools.product(*row.each.values()):
            names = dict(zip(row.each, values, strict=True))
            name = str(fill(f" {pattern}", names)).strip()
            if name in seen:
                do = "put every name of `each` in braces into the row's name"
                raise SpkdError(f"tables: row {pattern!r}", "a name of its own for each row", f"{name!r} twice", do)
            seen.add(name)
            published = str(fill(f" {row.published}", names)).strip()
            yield name, TableRow(role=row.role, set=fill(row.set, names), published=published)


class Grid:
    """Collects the cells of one table. raw: params.yaml as read."""

    def __init__(self, table: TableDefinition, raw: dict[str, Any]) -> None:
        self.table, self.raw = table, raw
        self.cells: dict[str, Cell] = {}

    def add(self, role: Role, wanted: dict[str, Any], row: str = "", published: str = "") -> str:
        """Add the cell, after the cells that it needs; returns its key."""
        tree = config.resolve(self.raw, wanted)
        config.require_expected(tree, READ)
        settings = config.check(Settings, tree, "")
        needs = self._needs(settings, tree, wanted) if role == "student" else {}
        relevant = canonical(plan.relevant_settings(role, settings, tree))
        key = digest([plan.deciding(relevant), needs])
        known = self.cells.get(key) or Cell(
            key, role, wanted, relevant, needs, settings.fold, settings.run.seed, _name(role, settings)
        )
        self.cells[key] = replace(known, rows={**known.rows, **({row: published} if row else {})})
        return key

    def _needs(self, settings: Settings, tree: dict[str, Any], chosen: dict[str, Any]) -> dict[str, str]:
        student.require(settings, tree)
        needs = {}
        trial = self.table.trials[0] if self.table.teacher_trials == "first" else settings.run.seed
        for reference in settings.distill.teachers:
            if (model := lineage.wanted(reference)) is not None:
                teacher = {"teacher.view": model.view, "teacher.network": model.network, "run.seed": trial}
                needs[reference] = self.add("teacher", {**chosen, **teacher})
        if settings.distill.init == "latest":
            needs[lineage.INIT] = self.add("student", {**chosen, **ALONE})
        return needs


def cells(table: TableDefinition, raw: dict[str, Any], given: dict[str, Any], folds: list[int]) -> dict[str, Cell]:
    """Every cell of the table by its key; those that others need come first.

    given: keys of the command line, over those of the table but under those of a row, which make the row what it is.
    folds: what `folds` of the table means. Raises SpkdError on settings that are not those of params.yaml.
    """
    grid = Grid(table, raw)
    for name, row in rows(table):
        for fold, trial in itertools.product(folds, table.trials):
            place = {"fold": fold, "run.seed": trial}
            published = f"{table.published}.{row.published}" if row.published else ""
            grid.add(row.role, {**table.set, **given, **row.set, **place}, name, published)
    needed = {key for cell in grid.cells.values() for key in cell.needs.values()}
    return dict(sorted(grid.cells.items(), key=lambda item: item[0] not in needed))


def check(
    name: str, definition: TableDefinition, given: Mapping[str, Any], folds: list[int], n_folds: int | None
) -> None:
    """Raise SpkdError where a table says one thing twice, or something that is not there.

    given: the command line's keys. n_folds: how many folds the data have; None = as many as one likes.
    """
    found = dict(rows(definition))
    for where, keys in [("command line", given), (f"tables.{name}.set", definition.set)] + [
        (f"tables.{name}.rows.{row}", content.set) for row, content in found.items()
    ]:
        for key in {"fold", "run.seed"} & set(keys):
            do = f"name them in tables.{name}.folds and tables.{name}.trials"
            raise SpkdError(where, "no key that the table itself counts through", key, do)
    for what, numbers in (("folds", folds), ("trials", definition.trials)):
        twice = sorted({n for n in numbers if numbers.count(n) > 1})
        if twice:
            raise SpkdError(f"tables.{name}.{what}", "each once", f"{twice} twice", "leave the repeated ones out")
    if n_folds is not None and max(folds, default=0) >= n_folds:
        do = f"name folds below {n_folds}, or prepare the data that the table is meant for"
        raise SpkdError(f"tables.{name}.folds", f"folds of {n_folds} subjects", max(folds), do)
    if not definition.published and (row := next((row for row, content in found.items() if content.published), "")):
        file = "src/spkd/evidence/reports/published.yaml"
        do = f"name the study's part in tables.{name}.published, such as pamap2 ({file})"
        raise SpkdError(f"tables.{name}.published", f"what row {row!r} looks its published value up in", "nothing", do)
    if definition.baseline and definition.baseline not in found:
        advice = plugin.nearest(definition.baseline, list(found))
        raise SpkdError(f"tables.{name}.baseline", "one of the table's rows", repr(definition.baseline), advice)


def canonical(relevant: dict[str, Any]) -> dict[str, Any]:
    """The relevant settings without what this run does not use: weights of 0, losses that are not asked for."""
    if "distill" not in relevant:
        return relevant
    distill = relevant["distill"]
    if not distill["teachers"]:
        rest = {key: value for key, value in relevant.items() if key not in ("distill", "weighting")}
        start = {} if distill["init"] == "none" else {"distill": {"init": distill["init"]}}
        return {**rest, **start, "losses": {"cross_entropy": relevant["losses"]["cross_entropy"]}}
    distill = {**distill, "beta": {name: beta for name, beta in distill["beta"].items() if beta > 0}}
    used = {"cross_entropy", *(["kd"] if distill["lambda"] > 0 else []), *words(distill)}
    losses = {name: value for name, value in relevant["losses"].items() if name in used}
    return {**relevant, "distill": distill, "losses": losses}


def words(value: Any) -> set[str]:
    """Every name in a tree of settings: its keys and the parts of its texts, `gaf:wrn16-3` being two."""
    if isinstance(value, dict):
        return {str(key) for key in value}.union(*(words(v) for v in value.values()))
    if isinstance(value, list):
        return set().union(*(words(v) for v in value))
    return set(re.split("[+:@]", value)) if isinstance(value, str) else set()


def digest(value: Any) -> str:
    """16 hex digits of any tree of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _name(role: Role, settings: Settings) -> str:
    model = settings.teacher if role == "teacher" else settings.student
    kind = "teacher" if role == "teacher" else plan.learning(settings.distill)
    return f"{model.view}:{model.network} {kind} {settings.dataset} f{settings.fold} t{settings.run.seed}"
