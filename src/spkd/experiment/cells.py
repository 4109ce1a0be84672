"""Where each cell of a table stands, by what MLflow has of it; and how one cell is run.

A cell is known by its fingerprint: its settings, the data's digest, the code of the parts that it uses, the hashes of
its teachers' weights. A finished run with that fingerprint is the cell, whoever ran it.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from spkd import config
from spkd.data import windowset
from spkd.errors import SpkdError
from spkd.evidence import prepared_data, tracking
from spkd.evidence.tracking import RunInfo
from spkd.experiment import har, lineage, plan, side_by_side, source, table
from spkd.experiment.har import Wanted
from spkd.experiment.plan import Places
from spkd.experiment.table import Cell
from spkd.settings import Settings, TableDefinition

TAG = "cell"
LOGS = "logs"  # the folder below that of runs: what a cell says while it is trained
Status = Literal["done", "running", "failed", "killed", "missing", "waiting"]


@dataclass(frozen=True)
class State:
    """Where a cell stands. fingerprint: "" while its teachers are not there (status waiting). run: the newest one."""

    status: Status
    fingerprint: str = ""
    run: RunInfo | None = None
    reason: str = ""


@dataclass(frozen=True)
class Board:
    """One table with everything that finding its cells takes. raw: params.yaml as read, without the tables.

    code: of each cell, {file: hash} as the first survey found it; the windows are mapped. What is changed in either
    while the table runs is for the next call: workers hold the modules that they began with, and read the windows anew.
    """

    name: str
    definition: TableDefinition
    cells: dict[str, Cell]
    raw: dict[str, Any]
    places: Places
    windows: dict[str, windowset.WindowSet]
    code: dict[str, dict[str, str]] = field(default_factory=dict)


def board(name: str, settings: Settings, raw: dict[str, Any], given: dict[str, Any], places: Places) -> Board:
    """The table of that name on the prepared data. Raises SpkdError where definition or data do not fit."""
    definition = table.definition(settings, name)
    raw = {**raw, "tables": {}}
    given = {key: value for key, value in given.items() if key.split(".")[0] not in ("table", "tables")}
    tree = config.resolve(raw, {**definition.set, **given})
    windows = {tree["dataset"]: windowset.load(places.project / windowset.FOLDER / tree["dataset"])}
    check_expected(name, definition, windows[tree["dataset"]])
    n_subjects = len(windows[tree["dataset"]].subjects)
    folds = list(range(n_subjects)) if definition.folds == "all" else definition.folds
    held_out = tree["datasets"][tree["dataset"]]["split"]["rule"] == "leave_one_subject_out"
    table.check(name, definition, given, folds, n_subjects if held_out else None)
    cells = table.cells(definition, raw, given, folds)
    for other in {dataset_of(cell) for cell in cells.values()} - set(windows):
        windows[other] = windowset.load(places.project / windowset.FOLDER / other)
    check_fresh(cells.values(), windows, places)
    return Board(name, definition, cells, raw, places, windows)


def check_expected(name: str, definition: TableDefinition, windows: windowset.WindowSet) -> None:
    """Raise SpkdError where the prepared windows are not those that the table is meant for."""
    got = {"classes": len(windows.classes), "subjects": len(windows.subjects)}
    got |= {"length": windows.length, "step": int(windows.manifest["step"])}
    for what, wanted in definition.expects.items():
        if got[what] != wanted:
            do = f"set datasets.{windows.manifest['dataset']}.windows in params.yaml and run `dvc repro`"
            if what == "subjects":
                do = "these are not all recordings (the sample?): docs/tables.md says what brings them"
            raise SpkdError(f"tables.{name}.expects", f"windows with {what} {wanted}", got[what], do)


def check_fresh(cells: Iterable[Cell], windows: Mapping[str, windowset.WindowSet], places: Places) -> None:
    """Raise SpkdError where the windows are older than the settings or the code of a cell: every one would stumble."""
    for cell in {str(cell.relevant["dataset"]): cell for cell in cells}.values():
        name = dataset_of(cell)
        wanted = cell.relevant["dataset"][name]["windows"]
        prepared_data.check_fresh(windowset.FOLDER / name, windows[name].manifest["settings"], wanted, places.project)


def dataset_of(cell: Cell) -> str:
    """The data set of a cell."""
    return str(next(iter(cell.relevant["dataset"])))


def _note_code(board: Board, cell: Cell, others: Iterable[str], known: dict[frozenset[str], dict[str, str]]) -> None:
    """Note the code of a cell on the board, unless an earlier survey did.

    others: teachers named by run. known: hashes by the names that decide which files are used; filled here, as hundreds
    of cells use the same files, and looking at each for every cell takes longer than a small training.
    """
    if cell.key in board.code:
        return
    more = lineage.parts(others)
    names = frozenset(table.words(cell.relevant) | more)
    if names not in known:
        known[names] = source.hashes(source.used(cell.relevant, board.raw["networks"], more=more))
    board.code[cell.key] = known[names]


def identity(board: Board, cell: Cell) -> list[Any]:
    """What a surveyed cell is apart from the weights of its teachers: settings, data, code."""
    data, code = board.windows[dataset_of(cell)].digest, source.digest(board.code[cell.key])
    return [plan.deciding(cell.relevant), data, code]


def index() -> dict[str, list[RunInfo]]:
    """Every run that was a cell of any table, by fingerprint, newest first."""
    found: dict[str, list[RunInfo]] = {}
    for run in tracking.find(f"tags.{TAG} != ''"):
        found.setdefault(run.tags[TAG], []).append(run)
    return found


def survey(
    board: Board, runs: Mapping[str, list[RunInfo]], alive: Callable[[Mapping[str, str]], bool] = tracking.is_alive
) -> dict[str, State]:
    """The state of every cell. runs: by fingerprint. alive: whether the process that a run's tags name still runs."""
    states: dict[str, State] = {}
    known: dict[frozenset[str], dict[str, str]] = {}
    for key, cell in board.cells.items():
        others = lineage.outside(cell.relevant.get("distill", {}))
        _note_code(board, cell, others.values(), known)
        before = [states[needed] for needed in cell.needs.values()]
        unmet = [board.cells[k].name for k, s in zip(cell.needs.values(), before, strict=True) if s.status != "done"]
        if unmet:
            states[key] = State("waiting", reason=f"needs {', '.join(unmet)}")
            continue
        weights = {name: _weights(states[needed].run) for name, needed in cell.needs.items()}
        weights |= {name: _weights(tracking.get(run_id)) for name, run_id in others.items()}
        fingerprint = table.digest([*identity(board, cell), weights])
        states[key] = _state(fingerprint, runs.get(fingerprint, []), alive)
    return states


def _weights(run: RunInfo | None) -> str:
    if run is None or "weights.sha256" not in run.tags:
        name = run.id if run else "none"
        raise SpkdError(f"run {name}", "a finished run with the tag weights.sha256", "none", "train it again")
    return run.tags["weights.sha256"]


def _state(fingerprint: str, runs: list[RunInfo], alive: Callable[[Mapping[str, str]], bool]) -> State:
    for status in ("FINISHED", "RUNNING", "FAILED", "KILLED"):
        for run in runs:
            if run.status != status:
                continue
            if status == "FINISHED":
                return State("done", fingerprint, run)
            if status == "FAILED":
                return State("failed", fingerprint, run, run.tags.get("failure", "no reason on record"))
            if status == "RUNNING" and alive(run.tags):
                return State("running", fingerprint, run, run.tags.get("process", ""))
            return State("killed", fingerprint, run, run.tags.get("ended", "its process is gone"))
    return State("missing", fingerprint)


def job(board: Board, group: Sequence[Cell], states: Mapping[str, State], parent: str) -> dict[str, Any]:
    """A cell, or several to train side by side, as plain data for `run`. Their teachers must be done."""
    jobs = [_job(board, cell, states, parent) for cell in group]
    return jobs[0] if len(jobs) == 1 else {"together": jobs}


def _job(board: Board, cell: Cell, states: Mapping[str, State], parent: str) -> dict[str, Any]:
    state = states[cell.key]
    known = {name: states[needed].run for name, needed in cell.needs.items()}
    return {
        "role": cell.role,
        "given": cell.given,
        "raw": board.raw,
        "places": [str(p) for p in (board.places.runs, board.places.project)],
        "parent": parent,
        "folder": f"cell-{state.fingerprint}",
        "tags": {TAG: state.fingerprint, "table": board.name, "table.rows": "; ".join(cell.rows) or "serves others"},
        "ancestors": {name: run.id for name, run in known.items() if run},
        "expected": {source.WINDOWS: board.windows[dataset_of(cell)].digest, **board.code[cell.key]},
    }


def last_said(board: Board, state: State) -> str:
    """The last line in the log of a running cell: how far it is. "" where none is here, as of one beside another."""
    with contextlib.suppress(FileNotFoundError):
        log = board.places.runs / LOGS / f"cell-{state.fingerprint}.log"
        return next(reversed(log.read_text(encoding="utf-8").splitlines()), "")
    return ""


def groups(ready: Sequence[Cell], most: int) -> list[list[Cell]]:
    """The cells in groups of at most `most` that can be trained side by side: one network, data set and training."""
    if most == 1:
        return [[cell] for cell in ready]
    alike: dict[str, list[Cell]] = {}
    for cell in ready:
        same = {name: cell.relevant[name] for name in ("dataset", "model", "network", "view", "train")}
        machine = {name: value for name, value in cell.relevant["run"].items() if name != "seed"}
        alike.setdefault(table.digest([same, machine]), []).append(cell)
    return [cells[k : k + most] for cells in alike.values() for k in range(0, len(cells), most)]


def run(job: dict[str, Any]) -> str:
    """Run one cell, or those in `together` side by side, in this process; returns the run ids.

    The progress goes to a log file that is kept where a cell fails.
    """
    jobs = job.get("together", [job])
    runs, project = (Path(p) for p in jobs[0]["places"])
    os.chdir(project)
    log = runs / LOGS / f"{jobs[0]['folder']}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    wanted = [_wanted(one) for one in jobs]
    with log.open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        try:
            ends = side_by_side.train_many(wanted) if len(wanted) > 1 else [har.train(wanted[0])]
        finally:
            torch.cuda.empty_cache()  # for the other workers on that GPU
    failures = [str(end) for end in ends if isinstance(end, Exception)]
    if failures:
        text = f"{len(failures)} failed: {'; '.join(failures)}"
        raise SpkdError(log, f"{len(ends)} cells trained side by side", text, "mend it and start the table again")
    log.unlink()
    return " ".join(str(end) for end in ends)


def _wanted(job: dict[str, Any]) -> Wanted:
    tree = config.resolve(job["raw"], job["given"])
    settings = config.check(Settings, tree, "")
    places = Places(*(Path(p) for p in job["places"]))
    decided = job["folder"], job["tags"], job["ancestors"], job["expected"]
    return Wanted(job["role"], settings, tree, places, job["parent"], *decided)
