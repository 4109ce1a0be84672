"""The markdown on a run's page: what ran, on what, what came out and by which rule, and how to do it again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spkd.evidence import simulated


@dataclass(frozen=True)
class Teacher:
    """A network that a run learned from. run_id: its run. sha256: of its weights."""

    name: str
    run_id: str
    sha256: str


@dataclass(frozen=True)
class Facts:
    """What description tells.

    what: one sentence. origin: "simulated" or the data's source. data: name and value of data facts. headline: the
    number as text. rule: how the epoch was chosen. results: rows of equal keys, for
    a table. experiment_id: for links to the teachers' runs.
    """

    what: str
    origin: str
    data: Mapping[str, Any]
    headline: str
    rule: str
    results: Sequence[Mapping[str, Any]]
    command: str
    commit: str
    dirty: bool
    experiment_id: str
    teachers: Sequence[Teacher] = field(default_factory=list)


def description(facts: Facts) -> str:
    """The markdown for `Run.note`."""
    parts = [facts.what]
    if facts.origin == simulated.ORIGIN:
        parts.append(simulated.NOTE)
    parts.append(f"**{facts.headline}** ({facts.rule})")
    if facts.results:
        parts.append(_table(facts.results))
    parts.append(
        "### Data\n" + "\n".join(f"- {key}: {value}" for key, value in {"origin": facts.origin, **facts.data}.items())
    )
    if facts.teachers:
        parts.append("### Teachers\n" + "\n".join(_teacher(t, facts.experiment_id) for t in facts.teachers))
    parts.append(_again(facts))
    return "\n\n".join(parts) + "\n"


def _teacher(teacher: Teacher, experiment_id: str) -> str:
    link = f"#/experiments/{experiment_id}/runs/{teacher.run_id}"
    return f"- {teacher.name}: [{teacher.run_id}]({link}), weights sha256 `{teacher.sha256[:16]}`"


def _again(facts: Facts) -> str:
    lines = ["### How to repeat it", "```", f"git checkout {facts.commit}"]
    if facts.dirty:
        lines.append("git apply code.patch    # an artifact of this run: the working tree was not clean")
    return "\n".join([*lines, "dvc repro", facts.command, "```"])


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of one shape as a markdown table; floats with four digits."""
    keys = list(rows[0])
    lines = ["| " + " | ".join(keys) + " |", "|" + "---|" * len(keys)]
    for row in rows:
        cells = [f"{row[k]:.4f}" if isinstance(row[k], float) else str(row[k]) for k in keys]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
