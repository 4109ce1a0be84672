"""Print how many cells of a table are done, running, failed and missing, and the time left; changes nothing."""

from typing import Any

from spkd import config
from spkd.experiment import cells, plan, side_by_side, table_run
from spkd.settings import Settings

SECTIONS = ("table", "tables")
RESOLVES = True


def main(words: list[str], raw: dict[str, Any], given: dict[str, Any]) -> int:
    """Give the same keys as to `table`: other settings are other cells."""
    settings = config.check(Settings, config.resolve(raw, given), "")
    board = cells.board(settings.table.name, settings, raw, given, plan.places_here(settings))
    states = table_run.standing(board)
    print(table_run.status_text(board, states, settings.table.workers * side_by_side.most(settings)))
    return 0
