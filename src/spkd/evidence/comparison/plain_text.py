"""Runs side by side as a plain text table. Takes what a search returned; knows no store and no files."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence

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
ANCESTOR = ".run_id"  # tags of the runs that a run learned from or began with


def data(runs: Sequence[RunInfo]) -> str:
    """The data of runs in words, those of each that differs: data set, window with its rate (recordings), digest."""
    told = []
    for tags in (run.tags for run in runs):
        name = tags.get("data.dataset") or tags.get("data.name", "?")
        window = [tags["data.window"]] if "data.window" in tags else []
        told.append(", ".join([name, *window, f"data {tags.get('data.digest', '?')[:8]}"]))
    return " | ".join(dict.fromkeys(told))


def rules(runs: Sequence[RunInfo]) -> str:
    """Which epoch the results of runs are of, and what chose it: the rule of each that differs."""
    return " | ".join(dict.fromkeys(run.tags.get("headline", "?") for run in runs))


def differing(runs: Sequence[RunInfo]) -> str:
    """What tells rows apart beside their names, in lines: what is not the same in every row, and what in namesakes."""
    columns = [
        {k: v for k, v in run.params.items() if _is_shared(k)}
        | {"code": run.tags.get("code.commit", "?")[:8] + " changed" * (run.tags.get("code.dirty") == "true")}
        for run in runs
    ]
    found = [f"not the same in every row: {told}"] if (told := _told(columns, each=False)) else []
    for alike in ([run for run in runs if run.name == name] for name in dict.fromkeys(run.name for run in runs)):
        if told := _told([_own(run) for run in alike], each=True):
            found.append(f"called alike, {' | '.join(run.id[:8] for run in alike)}: {told}")
    return "\n".join(found)


def _is_shared(key: str) -> bool:
    return key.startswith(SHARED) and not key.startswith(OWN)


def _own(run: RunInfo) -> dict[str, str]:
    """What makes a row what it is: its settings, and the runs that it learned from or began with."""
    settings = {key: value for key, value in run.params.items() if key.startswith("cfg/") and not _is_shared(key)}
    return settings | {key: value[:8] for key, value in run.tags.items() if key.endswith(ANCESTOR)}


def _told(columns: Sequence[Mapping[str, str]], each: bool) -> str:
    """The keys that are not the same in every column, with every value, or with each column's; "" where none is."""
    told = []
    for key in sorted(record.differing(columns)[1]):
        values = [column.get(key, "-") for column in columns]
        told.append(f"{key.removeprefix('cfg/')} {' | '.join(values if each else dict.fromkeys(values))}")
    return "; ".join(told)


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
