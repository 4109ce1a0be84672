"""Brings a table to its end: hands out the cells that can run, continues dead ones, and says how far it is.

Contract: a finished cell is never run again; a cell that failed in this call is not tried again by this call; a cell
that another process trains is waited for, and so is a store that does not answer.
"""

import contextlib
import json
import socket
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import psutil

from spkd.errors import SpkdError
from spkd.evidence import outbox, tracking
from spkd.evidence.outbox import Outbox
from spkd.evidence.tracking import RunInfo
from spkd.executor import Executor, Outcome
from spkd.experiment import cells
from spkd.experiment.cells import Board, State
from spkd.experiment.table import Cell
from spkd.meter import spoken

Answer = TypeVar("Answer")
POLL_S = 2.0
OPEN = ("failed", "killed", "missing")
COUNTED = ("done", "running", "failed", "killed", "missing")


def standing(board: Board) -> dict[str, State]:
    """The state of every cell as MLflow has it now."""
    return cells.survey(board, cells.index())


def patiently(asked: Callable[[], Answer]) -> Answer:
    """What the store answers; one that does not is waited for, as the cells in training do not need it."""
    told = False
    while True:
        try:
            return asked()
        except tracking.Away as away:
            if not told:
                print(f"spkd: the table waits: {away}", file=sys.stderr, flush=True)
            told = True
            time.sleep(POLL_S)


def _deliver(folder: Path) -> None:
    """Send what a trained cell could not: its run waits for a store some seconds only."""
    if Outbox(folder).ending() is not None:
        with contextlib.suppress(SpkdError, OSError):
            patiently(lambda: tracking.upload(folder))


def gather(board: Board, states: Mapping[str, State], parent: str) -> None:
    """Nest the runs that this table made in earlier, stopped calls under this call's parent."""
    runs = [state.run for state in states.values() if state.run and state.run.tags.get("table") == board.name]
    tracking.adopt([run.id for run in runs if run.tags.get("mlflow.parentRunId") != parent], parent)


def complete(
    board: Board,
    executor: Executor,
    parent: str,
    retries: int,
    at_once: int,
    survey: Callable[[Board], dict[str, State]] = standing,
    side_by_side: int = 1,
) -> dict[str, str]:
    """Run every cell that can be run; returns {cell key: why it failed}. survey: the states as they are now.

    at_once: cells that run at a time, for the time left. side_by_side: most cells that one job trains.
    """
    failures: dict[str, str] = {}
    deaths: dict[str, int] = {}
    jobs: dict[str, list[str]] = {}  # cells by the job's key, which is that of the first of them
    busy: set[str] = set()
    taken: set[str] = set()  # by another process, of whose run the store has not heard yet
    states = patiently(lambda: survey(board))
    print(status_line(board, states, at_once), flush=True)
    if any(state.status != "done" for state in states.values()):
        print(f"how far each cell is: {board.places.runs / cells.LOGS}, or spkd table-status", flush=True)
    while True:
        taken = {key for key in taken if states[key].status in OPEN and _is_elsewhere(board, states[key])}
        waiting = [cell for key, cell in board.cells.items() if key not in busy | taken | set(failures)]
        ready = [cell for cell in waiting if states[cell.key].status in OPEN]
        for group in cells.groups(ready, side_by_side):
            if executor.free():
                executor.submit(group[0].key, cells.job(board, group, states, parent))
                jobs[group[0].key] = [cell.key for cell in group]
                busy.update(jobs[group[0].key])
        elsewhere = [k for k, state in states.items() if state.status == "running" and k not in busy | set(failures)]
        if not busy and not elsewhere and not taken:
            return failures
        if not busy:
            time.sleep(POLL_S)
        outcomes = executor.collect(POLL_S)
        for key in [key for outcome in outcomes if outcome.ended == "done" for key in jobs[outcome.key]]:
            _deliver(board.places.runs / f"cell-{states[key].fingerprint}")
        if outcomes or elsewhere or taken:
            states = patiently(lambda: survey(board))
        for outcome in outcomes:
            for key in jobs.pop(outcome.key):
                busy.discard(key)
                if states[key].status != "done" and outcome.ended != "died" and _is_elsewhere(board, states[key]):
                    taken.add(key)
                    print(f"elsewhere: {board.cells[key].name}: another process trains it", flush=True)
                    continue
                _settle(board, key, outcome, states[key], failures, deaths, retries)
                print(_one_line(board.cells[key], outcome, states[key]), flush=True)
            print(status_line(board, states, at_once), flush=True)


def _settle(
    board: Board, key: str, outcome: Outcome, state: State,
    failures: dict[str, str], deaths: dict[str, int], retries: int,
) -> None:  # fmt: skip
    """Note a cell as failed, unless it is done.

    One whose process died, or that met a store which was away, may be continued.
    """
    if state.status == "done":
        return
    folder = board.places.runs / f"cell-{state.fingerprint}"
    away = outcome.text.startswith(f"{tracking.Away.__name__}: ")
    if (outcome.ended == "died" or away) and deaths.get(key, 0) < retries:
        deaths[key] = deaths.get(key, 0) + 1
        tracking.sweep(folder)
        return
    failures[key] = outcome.text if outcome.ended != "done" else f"trained, but not in MLflow yet: spkd upload {folder}"


def _is_elsewhere(board: Board, state: State) -> bool:
    """Whether a process has the cell's run that is no worker of this one.

    A folder says so from the first moment, MLflow some seconds later. A worker of this one that is idle by now could
    not write the run's end, e.g. to a full disk; one on another machine of a cluster is not known here.
    """
    box = Outbox(board.places.runs / f"cell-{state.fingerprint}")
    if opened := box.opened():
        process = opened["process"]
        return box.ending() is None and outbox.is_alive(process) and not _is_ours(process["host"], process["pid"])
    if state.status != "running" or state.run is None:
        return False
    host, pid, _ = state.run.tags["process"].rsplit(":", 2)
    return not _is_ours(host, int(pid))


def _is_ours(host: str, pid: int) -> bool:
    return host == socket.gethostname() and pid in {child.pid for child in psutil.Process().children()}


def _one_line(cell: Cell, outcome: Outcome, state: State) -> str:
    if state.status != "done" or state.run is None:
        return f"{outcome.ended}: {cell.name}: {outcome.text}"
    accuracy = state.run.metrics.get("headline/accuracy", float("nan"))
    return f"done: {cell.name}: accuracy {accuracy:.4f}, {seconds(state.run):.0f} s"


def seconds(run: RunInfo) -> float:
    """How long a finished run took [s], without what it lay stopped before it went on; 0 where it is not finished."""
    took_s = (run.ended_ms - run.started_ms) / 1000 - float(run.tags.get("paused_s", 0))
    return max(0.0, took_s) if run.ended_ms else 0.0


def counts(board: Board, states: Mapping[str, State]) -> dict[str, int]:
    """How many cells are done, running, failed, killed and missing; waiting ones are missing."""
    found = dict.fromkeys(COUNTED, 0)
    for key in board.cells:
        found[states[key].status if states[key].status in COUNTED else "missing"] += 1
    return found


def left_s(board: Board, states: Mapping[str, State], workers: int) -> tuple[float, int]:
    """(time until every cell like a finished one is done [s], by the median of these; how many are like none).

    A teacher on images may take a hundred times as long as one on the signal, a student of three teachers ten times as
    long as a scratch student: cells are alike where network, view, training and teachers are.
    """
    times: dict[str, list[float]] = {}
    rest: list[str] = []
    for key, cell in board.cells.items():
        run, kind = states[key].run, _kind(cell)
        if states[key].status == "done" and run is not None:
            times.setdefault(kind, []).append(seconds(run))
        elif states[key].status != "done":
            rest.append(kind)
    known = [statistics.median(times[kind]) for kind in rest if kind in times]
    return sum(known) / min(workers, max(1, len(known))), len(rest) - len(known)


def _kind(cell: Cell) -> str:
    """What decides how long a cell takes, as text."""
    own = {key: cell.relevant[key] for key in ("dataset", "model", "network", "view", "train")}
    return json.dumps([cell.role, own, cell.relevant.get("distill", {}).get("teachers")], sort_keys=True, default=str)


def status_line(board: Board, states: Mapping[str, State], workers: int) -> str:
    """One line: how many cells are done, running, failed, missing, and the time left."""
    words = [f"{n} {name}" for name, n in counts(board, states).items() if n or name in ("done", "missing")]
    if all(state.status == "done" for state in states.values()):
        return f"table {board.name}: all {len(board.cells)} cells are done"
    left, unlike = left_s(board, states, workers)
    time_left = f"about {spoken(left)} left" if left else "time left unknown"
    if left and unlike:
        time_left += f", without {unlike} unlike any that is done"
    return f"table {board.name}: {len(board.cells)} cells: {', '.join(words)}; {time_left}"


def status_text(board: Board, states: Mapping[str, State], workers: int) -> str:
    """The status line, then every cell that runs, with how far it is, failed or was killed, with its reason."""
    lines = [status_line(board, states, workers)]
    for status in ("running", "failed", "killed"):
        for key, cell in board.cells.items():
            state = states[key]
            if state.status == status:
                run_id = f" (run {state.run.id})" if state.run else ""
                lines.append(f"  {status:<8}{cell.name}: {state.reason}{run_id}")
                if status == "running" and (said := cells.last_said(board, state)):
                    lines.append(f"    {said}")
    return "\n".join(lines)
