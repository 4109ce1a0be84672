"""From the cells of a table to its report: reads what the runs left in MLflow, writes Markdown, CSV, LaTeX and HTML."""

import tempfile
from pathlib import Path
from typing import Any

from spkd import atomic, config
from spkd.errors import SpkdError
from spkd.evidence import tracking
from spkd.evidence.reports import blocks, document, findings, published
from spkd.evidence.reports.blocks import About
from spkd.evidence.reports.findings import Record
from spkd.experiment import cells, lineage, table_run
from spkd.experiment.cells import Board, State
from spkd.experiment.table import Cell

MOST_MAPS = 12
LONGEST = 60
KEYS = (*(f"{k}/{s}" for k in findings.RESULTS for s in findings.SCORES), findings.VALIDATION)
PLACE = ("run.seed", "fold")
CONTEXT = ["data.dataset", "data.digest", "data.window", "code.commit", "code.dirty", "headline"]
TEACHERS = {
    "first": "Teachers: one a fold, shared by all trials; the spread over trials holds none of the teachers'.",
    "same": "Teachers: one a fold and trial.",
}


def conclude(
    board: Board, failures: dict[str, str], folder: Path, parent: tracking.Run
) -> tuple[dict[str, State], Path]:
    """(the state of every cell at the end, the report's page); the table's runs are nested below the parent run."""
    states = table_run.standing(board)
    table_run.gather(board, states, parent.id)
    return states, write(board, states, failures, folder, parent)


def write(board: Board, states: dict[str, State], failures: dict[str, str], folder: Path, parent: tracking.Run) -> Path:
    """Write the report into a folder and as artifacts of the parent run; returns the page's path."""
    records = rows(board, states, failures)
    about = describe(board)
    files = {
        "report.md": blocks.markdown(records, about),
        "cells.csv": blocks.csv_trials(records),
        "summary.tex": blocks.latex(records, about),
        "report.html": document.page(records, about, maps(records)),
    }
    for name, text in files.items():
        atomic.write_text(folder / name, text)
        parent.text(text, f"report/{name}")
    counts = table_run.counts(board, states)
    parent.metrics({f"cells/{name}": float(n) for name, n in counts.items()}, 0)
    origins = sorted({r.origin for r in records if r.origin})
    parent.tags({"data.origin": " ".join(origins), **{f"cells.{name}": n for name, n in counts.items()}})
    parent.note(blocks.markdown_summary(records, about))
    return folder / "report.html"


def describe(board: Board) -> About:
    """The table in words."""
    definition = board.definition
    folds = sorted({cell.fold for cell in board.cells.values()})
    places = f"Folds {', '.join(map(str, folds))}; trials {', '.join(map(str, definition.trials))}."
    return About(
        board.name, definition.about, definition.baseline, tuple(definition.without_folds),
        TEACHERS[definition.teacher_trials], places,
    )  # fmt: skip


def rows(board: Board, states: dict[str, State], failures: dict[str, str]) -> list[Record]:
    """One record for every cell of every row, in the order of the table."""
    order = {name: k for k, name in enumerate(n for cell in board.cells.values() for n in cell.rows)}
    found = [
        record(cell, row, path, states[key], failures.get(key, ""), board)
        for key, cell in board.cells.items()
        for row, path in cell.rows.items()
    ]
    return sorted(found, key=lambda r: (order[r.row], r.fold, r.trial))


def record(cell: Cell, row: str, path: str, state: State, failure: str, board: Board) -> Record:
    """What the report needs of one cell. Its windows are the board's: its fingerprint holds their digest."""
    known = published.value(path) if path else None
    run = state.run
    if state.status != "done" or run is None:
        status = "failed" if failure else state.status
        return Record(row, cell.fold, cell.trial, status=status, reason=failure or state.reason, published=known,
                      run_id=run.id if run else "")  # fmt: skip
    results = {key: value for key in KEYS if (value := run.metrics.get(key)) is not None}
    chosen = {**cell.relevant, **taught(cell, board)}
    flat = {key: config.dump(value) for key, value in config.leaves(chosen) if key not in PLACE and value != {}}
    context = {key: run.tags[key][:LONGEST] for key in CONTEXT if key in run.tags}
    windows = board.windows[cells.dataset_of(cell)]
    context |= {"data.step": str(windows.manifest["step"]), "data.rule": str(windows.manifest["rule"])}
    context |= {"data.classes": str(len(windows.classes)), "data.subjects": str(len(windows.subjects))}
    context |= {key: value for key, value in run.params.items() if key.startswith("env/")}
    return Record(
        row, cell.fold, cell.trial, run.tags.get("test_subjects", ""), run_id=run.id, results=results,
        windows=int(run.tags.get("test_windows", 0)), seconds=table_run.seconds(run), settings=flat, context=context,
        curve=tracking.history(run.id, "test/accuracy"), rule=run.tags.get("headline", ""),
        origin=run.tags.get("data.origin", ""), published=known,
    )  # fmt: skip


def taught(cell: Cell, board: Board) -> dict[str, dict[str, Any]]:
    """The views and networks of the teachers that the table trains for a cell, by their names in params.yaml."""
    found: dict[str, dict[str, Any]] = {"views": {}, "networks": {}}
    for needed in (board.cells[key] for reference, key in cell.needs.items() if reference != lineage.INIT):
        model = needed.relevant["model"]
        found["views"][model["view"]] = needed.relevant["view"]
        found["networks"][model["network"]] = needed.relevant["network"]
    return found


def maps(records: list[Record]) -> dict[str, str]:
    """The last panel of similarity maps of the first done cell of each row, for the first rows."""
    first: dict[str, Record] = {}
    for r in records:
        if r.status == "done":
            first.setdefault(r.row, r)
    found = {}
    for row, r in list(first.items())[:MOST_MAPS]:
        with tempfile.TemporaryDirectory() as folder:
            try:
                panels = sorted(tracking.artifact(r.run_id, "maps", Path(folder)).glob("panel_*.svg"))
            except tracking.Away:
                raise
            except SpkdError:
                continue  # the run kept no maps
            if panels:
                found[f"{row}, fold {r.fold} ({r.subjects}), trial {r.trial}"] = panels[-1].read_text("utf-8")
    return found
