"""The report of a table as blocks of text, and those as Markdown, CSV and LaTeX. Pure: records in, text out.

Every number is made from runs by `findings`; none is typed. Percent with two digits; `-` where there is nothing.
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from spkd.evidence.reports import conditions, findings
from spkd.evidence.reports.findings import RESULTS, Record, Spread

MACRO_F1 = (
    "macro-F1 of a cell: mean of the F1 of the classes that its test subjects have; scikit-learn's default, which also "
    "counts each class that is predicted and not there, as 0, is lower where subjects lack classes."
)


@dataclass(frozen=True)
class About:
    """What a table is, besides its records. without_folds: left out of a second mean. baseline: a row, or "".

    teachers: which trial of a teacher a student learns from, in words.
    """

    name: str
    text: str
    baseline: str = ""
    without_folds: tuple[int, ...] = ()
    teachers: str = ""
    folds: str = ""


@dataclass(frozen=True)
class Block:
    """One table of the report."""

    title: str
    note: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)


def percent(value: float | None, form: str = ".2f") -> str:
    """A fraction as percent, `-` for nothing."""
    return "-" if value is None or math.isnan(value) else format(100 * value, form)


def plus_minus(found: Spread) -> str:
    """mean +- sd (n), and how many trials are missing where some are."""
    n = f"n={found.n}" if found.n == found.wanted else f"n={found.n} of {found.wanted}"
    if found.n == 0:
        return f"- ({n})"
    sd = "" if math.isnan(found.sd) else f" ± {percent(found.sd)}"
    return f"{percent(found.mean)}{sd} ({n})"


def header(records: Sequence[Record], about: About) -> list[str]:
    """The sentences above the tables: what was run, by which rule, and what the figures mean."""
    rules = sorted({r.rule for r in records if r.rule})
    origins = sorted({r.origin for r in records if r.origin})
    cells, gaps = len(records), len(findings.absent(records))
    lines = [about.text]
    if "simulated" in origins:
        lines.append("SIMULATED recordings: these figures show that everything runs, not what a method is worth.")
    lines += conditions.sentences(records)
    lines.append(f"Headline: {' | '.join(rules) or 'no finished run'}.")
    lines.append(
        "Beside it: the last epoch, the one chosen on validation subjects, and the best TEST epoch, which looks at the "
        "answer and is too high; it is shown because the published line reports it."
    )
    lines.append(
        "a ± b (n): mean over trials of the mean over folds, sample standard deviation (n - 1) over the n trials. "
        "A trial that lacks a fold is in no mean over folds; every run is in the list of trials."
    )
    lines.append(MACRO_F1)
    if about.teachers:
        lines.append(about.teachers)
    done = f"{cells - gaps} of {cells} cells of the rows done, {gaps} not (listed at the end)"
    lines.append(f"{done}. Data: {', '.join(origins)}.")
    return lines


def blocks(records: Sequence[Record], about: About) -> list[Block]:
    """Every table of the report, the summary first."""
    found = [summary(records, about)]
    if len(findings.folds(records)) > 1:
        found += [over_folds(records, about), per_fold(records)]
    if about.baseline in findings.rows(records):
        found.append(against(records, about))
    found.append(differences(records, "settings", "Settings that differ between rows"))
    found.append(differences(records, "context", "Data, code and machines that differ"))
    return [*found, every_trial(records), missing(records)]


def summary(records: Sequence[Record], about: About) -> Block:
    """One line a row: the headline, the other choices of epoch, validation accuracy, and the published value."""
    columns = ["row", "accuracy %", "macro-F1 %", *(f"{t} %" for k, t in RESULTS.items() if k != "headline")]
    validated = any(findings.VALIDATION in r.results for r in records)
    columns += ["on validation subjects %"] if validated else []
    compared = any(r.published is not None for r in records)
    columns += ["published %", "headline - published", "best TEST - published"] if compared else []
    block = Block("Summary", about.folds, columns)
    for row in findings.rows(records):
        of = {k: findings.spread(records, row, f"{k}/accuracy") for k in RESULTS}
        f1 = findings.spread(records, row, "headline/macro_f1")
        known = next((r.published for r in records if r.row == row and r.published is not None), None)
        gaps = ["-" if known is None else percent(of[k].mean - known / 100, "+.2f") for k in ("headline", "best")]
        shown = [plus_minus(of["headline"]), plus_minus(f1), *(plus_minus(of[k]) for k in RESULTS if k != "headline")]
        if validated:
            shown.append(plus_minus(findings.spread(records, row, findings.VALIDATION)))
        beside = ["-" if known is None else f"{known:.2f}", *gaps] if compared else []
        block.rows.append([row, *shown, *beside])
    return block


def over_folds(records: Sequence[Record], about: About) -> Block:
    """The three means over folds side by side."""
    every = findings.folds(records)
    kept = [f for f in every if f not in about.without_folds]
    left_out = [f for f in every if f in about.without_folds]
    columns = ["row", f"mean of {len(every)} folds %"]
    columns += [f"without fold {' '.join(map(str, left_out))} %"] if left_out else []
    block = Block("Over folds", "Headline accuracy; pooled = share of all test windows.", [*columns, "window-pooled %"])
    for row in findings.rows(records):
        found = [findings.spread(records, row)]
        found += [findings.spread(records, row, among=kept)] if left_out else []
        found.append(findings.spread(records, row, scope=findings.pooled))
        block.rows.append([row, *(plus_minus(s) for s in found)])
    return block


def per_fold(records: Sequence[Record]) -> Block:
    """Every row and fold."""
    every = findings.folds(records)
    subjects = {r.fold: r.subjects for r in records if r.subjects}
    heads = [f"fold {f} ({subjects[f]}) %" if f in subjects else f"fold {f} %" for f in every]
    block = Block("Per fold", "Headline accuracy; in brackets of the head: the test subjects.", ["row", *heads])
    for row in findings.rows(records):
        block.rows.append([row, *(plus_minus(findings.spread(records, row, among=[f])) for f in every)])
    return block


def against(records: Sequence[Record], about: About) -> Block:
    """Paired tests against the baseline."""
    found = findings.tests(records, about.baseline)
    unit = found[0].unit if found else "pair"
    note = (
        f"Headline accuracy, paired by {unit}{' (mean over its trials)' if unit == 'fold' else ''}; two-sided paired "
        f"t test, p corrected for {len(found)} comparisons (Holm); dz = mean / sd of the differences. "
        f"No test below {findings.FEWEST_PAIRS} pairs. A large p is no proof of equality."
    )
    if unit == "trial":
        note += " Trials are seeds on the same test subjects: it says nothing of other subjects."
    if unit == "fold" and findings.overlap(records):
        note += " Folds are random draws of the same subjects: the variance is corrected for that (Nadeau, Bengio)."
    columns = ["row", "pairs", "difference (points)", "95 % interval", "dz", "p", "p (Holm)"]
    kept = [r for r in records if r.fold not in about.without_folds]
    fewer = {t.row: t for t in findings.tests(kept, about.baseline, unit)} if len(kept) < len(records) else {}
    if fewer:
        left_out = " ".join(str(f) for f in findings.folds(records) if f in about.without_folds)
        columns += [f"without fold {left_out} (points)", "p (Holm) without it"]
    block = Block(f"Against {about.baseline}", note, columns)
    for t in found:
        interval = "-" if math.isnan(t.low) else f"{percent(t.low, '+.2f')} to {percent(t.high, '+.2f')}"
        numbers = [_number(t.dz, "+.2f"), _number(t.p, ".3g"), _number(t.p_holm, ".3g")]
        other = fewer.get(t.row, findings.Test(t.row, unit, 0))
        without = [percent(other.difference, "+.2f"), _number(other.p_holm, ".3g")] if fewer else []
        block.rows.append([t.row, f"{t.n}", percent(t.difference, "+.2f"), interval, *numbers, *without])
    return block


def differences(records: Sequence[Record], of: str, title: str) -> Block:
    """What is not the same in every row: one line a key, one column a row."""
    names = findings.rows(records)
    found = findings.differing(records, of)
    note = "Compare rows with this in mind." if found else "None: the rows agree in all of it."
    return Block(title, note, ["key", *names], [[k, *(v.get(row, "-") for row in names)] for k, v in found.items()])


def every_trial(records: Sequence[Record]) -> Block:
    """One line a cell that is done."""
    keys = [f"{k}/{s}" for k in RESULTS for s in findings.SCORES]
    keys += [findings.VALIDATION] if any(findings.VALIDATION in r.results for r in records) else []
    columns = ["row", "fold", "test subjects", "trial", *(f"{k} %" for k in keys), "test windows", "seconds", "run"]
    block = Block("Every trial", "", columns)
    for r in records:
        if r.status == "done":
            place = [r.row, str(r.fold), r.subjects, str(r.trial)]
            numbers = [percent(r.results.get(key)) for key in keys]
            block.rows.append([*place, *numbers, str(r.windows), f"{r.seconds:.0f}", r.run_id])
    return block


def missing(records: Sequence[Record]) -> Block:
    """One line a cell that is not done, with its reason."""
    gaps = findings.absent(records)
    note = "" if gaps else "None."
    lines = [[r.row, str(r.fold), str(r.trial), r.status, r.reason or "-", r.run_id or "-"] for r in gaps]
    return Block("Cells that are not done", note, ["row", "fold", "trial", "status", "reason", "run"], lines)


def markdown(records: Sequence[Record], about: About) -> str:
    """The whole report."""
    lines = [f"# {about.name}", ""]
    for sentence in header(records, about):
        lines += [sentence, ""]
    for block in blocks(records, about):
        lines += [f"## {block.title}", "", *([block.note, ""] if block.note else [])]
        lines += [*_table(block), ""] if block.rows else []
    return "\n".join(lines)


def markdown_summary(records: Sequence[Record], about: About) -> str:
    """Header and summary, for the description of the parent run."""
    return "\n\n".join([*header(records, about), "\n".join(_table(summary(records, about)))]) + "\n"


def _table(block: Block) -> list[str]:
    rows = [block.columns, ["---"] * len(block.columns), *block.rows]
    return ["| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in row) + " |" for row in rows]


def csv_trials(records: Sequence[Record]) -> str:
    """Every cell, done or not, with its results as fractions, its settings and its context: nothing is averaged."""
    results = sorted({key for r in records for key in r.results})
    settings = sorted({key for r in records for key in r.settings})
    context = sorted({key for r in records for key in r.context})
    plain = ["row", "fold", "trial", "subjects", "status", "reason", "run_id", "windows", "seconds", "rule", "origin"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*plain, *results, *settings, *context])
    for r in records:
        own = [getattr(r, name) for name in plain]
        flat = [*(r.results.get(k, "") for k in results), *(r.settings.get(k, "") for k in settings)]
        writer.writerow([*own, *flat, *(r.context.get(k, "") for k in context)])
    return out.getvalue()


def latex(records: Sequence[Record], about: About) -> str:
    """The summary as a LaTeX table (booktabs) whose caption says the rule."""
    block = summary(records, about)
    lines = ["% made by `spkd table`; do not edit", r"\begin{table}", r"\centering"]
    lines += [rf"\caption{{{_tex(' '.join(header(records, about)))}}}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(block.columns) - 1)}}}", r"\toprule", _tex_row(block.columns)]
    lines += [r"\midrule", *(_tex_row(row) for row in block.rows), r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


TEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
       "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "<": r"$<$", ">": r"$>$",
       "|": r"\textbar{}"}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(TEX.get(letter, letter) for letter in text)


def _tex_row(cells: Sequence[str]) -> str:
    return " & ".join(_tex(cell) for cell in cells) + r" \\"


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)
