"""Published accuracies of the study, for columns beside ours; read from published.yaml with its sources."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from spkd import config
from spkd.errors import SpkdError

FILE = Path(__file__).with_name("published.yaml")
PART = re.compile(r"\[([^\]]+)\]|([^.\[\]]+)")


@cache
def tree() -> dict[str, Any]:
    """The whole file, read once."""
    found: dict[str, Any] = config.parse(FILE.read_text(encoding="utf-8"), FILE.name)
    return found


def value(path: str) -> float | None:
    """The accuracy [%] at a path such as `pamap2.teacher.gaf[wrn16-1]`; None where nothing was published.

    A name in brackets picks a column of a list (see `columns` there), or a key. Raises SpkdError on a column that
    does not exist, which is a mistake in the table, not a gap in the publication.
    """
    values = tree()
    at: Any = values
    for bracket, plain in PART.findall(path):
        name = bracket or plain
        if isinstance(at, list):
            if name not in values["columns"]:
                raise SpkdError(f"published {path}", f"a column of {values['columns']}", repr(name), "correct the row")
            at = at[values["columns"].index(name)]
        else:
            at = {str(key): item for key, item in at.items()}.get(name) if isinstance(at, dict) else None
    if isinstance(at, dict):
        at = at.get("mean")
    return float(at) if isinstance(at, int | float) else None
