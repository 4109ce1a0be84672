"""Run a whole table of `tables` in params.yaml, or what is left of it, and write its report."""

from typing import Any

from spkd import config, executor, seeding
from spkd.evidence import machine, tracking
from spkd.experiment import cells, plan, side_by_side, table_report, table_run
from spkd.settings import Settings

SECTIONS = ("table", "tables", "run", "tracking")
RESOLVES = True


def main(words: list[str], raw: dict[str, Any], given: dict[str, Any]) -> int:
    """Train every cell that is not there yet; 1 where some are missing in the end."""
    settings = config.check(Settings, config.resolve(raw, given), "")
    chosen, here = settings.table, plan.places_here(settings)
    tracking.sweep(here.runs)
    most = side_by_side.most(settings)
    at_once = chosen.workers * most
    if chosen.executor == "local":
        seeding.require_threads(settings.run.threads)
        wanted = settings.run.device
        print(machine.line(plan.device(wanted), wanted), flush=True)
    board = cells.board(chosen.name, settings, raw, given, here)
    folder, tags = here.runs / "tables" / chosen.name, {"kind": "table", "table": chosen.name}
    with tracking.open_run(f"table {chosen.name}", folder, settings.tracking.experiment, tags=tags) as parent:
        parent.json({"definition": raw["tables"][chosen.name], "given": given}, "table.json")
        with executor.opened(chosen.executor, cells.run, chosen.workers, chosen.gpu_share) as workers:
            failures = table_run.complete(board, workers, parent.id, chosen.retries, at_once, side_by_side=most)
        report = here.project / chosen.folder / chosen.name
        states, written = table_run.patiently(lambda: table_report.conclude(board, failures, report, parent))
    tracking.forget(folder)
    print(f"{table_run.status_text(board, states, at_once)}\nreport: {written}")
    return int(any(state.status != "done" for state in states.values()))
