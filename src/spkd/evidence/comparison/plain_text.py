"""Runs side by side as a plain text table. Takes what a search returned; knows no store and no files."""

import csv
import io
from collections.abc import Callable, Sequence

from spkd.evidence.comparison import record
from spkd.evidence.tracking.reading import RunInfo

Column = tuple[str, Callable[[RunInfo], str]]
# Metrics, by their first part, that say what a run came to; the others are of its epochs.
RESULTS = ("headline", "last", "best", "validation", "coco", "cost")


def _percent(key: str) -> Callable[[RunInfo], str]:
    return lambda run: f"{100 * run.metrics[key]:.1f}" if key in run.metrics else "-"


def _number(key: str, scale: float, form: str) -> Callable[[RunInfo], str]:
    return lambda run: format(run.metrics[key] * scale, form) if key in run.metrics else "-"


HAR: list[Column] = [
    ("run", lambda run: run.name),
    ("accuracy %", _percent("headline/accuracy")),
    ("macro-F1 %", _percent("headline/macro_f1")),
    ("last %", _percent("last/accuracy")),
    ("best on test %", _percent("best/accuracy")),
    ("parameters", _number("cost/parameters", 1, ",.0f")),
    ("MMACs", _number("cost/macs", 1e-6, ".1f")),
    ("ms/window", _number("cost/latency_ms", 1, ".2f")),
    ("id", lambda run: run.id[:8]),
]
DETECTION: list[Column] = [
    ("run", lambda run: run.name),
    ("mAP50-95", _number("best/mAP50-95", 1, ".4f")),
    ("mAP50", _number("best/mAP50", 1, ".4f")),
    ("COCO AP", _number("coco/AP", 1, ".4f")),
    ("parameters", _number("cost/parameters", 1, ",.0f")),
    ("id", lambda run: run.id[:8]),
]


# What rows of one table should share, and what of it makes a row what it is.
SHARED = ("cfg/dataset.", "cfg/train.", "cfg/detect.", "cfg/run.", "env/")
OWN = ("cfg/run.seed", "cfg/detect.model", "cfg/detect.distill.")


def data(runs: Sequence[RunInfo]) -> str:
    """The data of runs in words, those of each that differs: data set, window with its rate (recordings), digest."""
    told = []
    for tags in (run.tags for run in runs):
        name = tags.get("data.dataset") or tags.get("data.name", "?")
        window = [tags["data.window"]] if "data.window" in tags else []
        told.append(", ".join([name, *window, f"data {tags.get('data.digest', '?')[:8]}"]))
    return " | ".join(dict.fromkeys(told))


def differing(runs: Sequence[RunInfo]) -> str:
    """A line of the settings, machines and code that are not the same in every row; "" where all are."""
    columns = [
        {k: v for k, v in run.params.items() if k.startswith(SHARED) and not k.startswith(OWN)}
        | {"code": run.tags.get("code.commit", "?")[:8] + " changed" * (run.tags.get("code.dirty") == "true")}
        for run in runs
    ]
    found = []
    for key in sorted(record.differing(columns)[1]):
        values = dict.fromkeys(column.get(key, "-") for column in columns)
        found.append(f"{key.removeprefix('cfg/')} {' | '.join(values)}")
    return f"not the same in every row: {'; '.join(found)}" if found else ""


def csv_text(runs: Sequence[RunInfo], keys: Sequence[str]) -> str:
    """Every run as a CSV row: id, name, the given tags and params, and its results and costs; nothing is averaged."""
    results = sorted({k for r in runs for k in r.metrics if k.split("/")[0] in RESULTS})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", "name", *keys, *results])
    for run in runs:
        facts = [run.tags.get(key, run.params.get(key, "")) for key in keys]
        writer.writerow([run.id, run.name, *facts, *(run.metrics.get(key, "") for key in results)])
    return out.getvalue()


def text(runs: Sequence[RunInfo], columns: Sequence[Column]) -> str:
    """The table, one row a run, columns aligned."""
    rows = [[head for head, _ in columns], *([value(run) for _, value in columns] for run in runs)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(columns))]
    lines = []
    for row in rows:
        first, *middle, last = (cell for cell in zip(row, widths, strict=True))
        cells = [first[0].ljust(first[1]), *(cell.rjust(w) for cell, w in middle), last[0]]
        lines.append("  ".join(cells))
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
