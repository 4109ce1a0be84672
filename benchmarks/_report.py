"""Writes the tables of docs/performance.md and docs/benchmarks.md from results/benchmarks/*/*.json.

performance.md shows a line a target, those of `HEADLINES`; benchmarks.md every row, and where and when it was measured.
What is between the two marks of a page is written anew.

python benchmarks/_report.py
"""

import json
import re
from pathlib import Path

import _measure

DOCS, MARK = _measure.ROOT / "docs", "<!-- figures: python benchmarks/_report.py -->"
HEADLINES = {
    "Epoch of SPKD, one WRN28-3 teacher, times faster than torchdistill": (
        "epoch of SPKD, times faster than torchdistill",
    ),
    "Epoch of SPKD, times faster than a DataLoader and the teacher's forward pass in every step": (
        "epoch of SPKD, times faster than DataLoader",
    ),
    "Epoch of three remembered teachers, cost beside the student alone": (
        "epoch of three WRN28-3 teachers, later, cost beside the student alone",
        "epoch of three WRN28-3 teachers, cost beside the student alone",
    ),
    "the bound: SP's maps of the student's own features": ("SP's maps of the student alone: the bound, cost",),
    "Epoch of the student, times faster than a DataLoader of 2 workers, wall clock": (
        "student's epoch (wall clock, 2 threads)", "student's epoch, times faster than DataLoader, 2 workers",
    ),
    "Filling the teacher cache with features, cost beside the teacher's forward passes": (
        "filling the cache with features",
    ),
    "Filling it with products of 48 images": ("filling the cache with products, gaf teacher, 48 windows, cost",),
    "Filling it with products of 1024 signals": ("filling the cache with products, signal teacher",),
    "the bound: these passes and the products' multiplications": (
        "that pass and the products' multiplications, signal",
    ),
    "Gramian fields, times faster than pyts' one call, wall clock": (
        "GAF, 40 channels, 64x64, wall clock, all cores, times faster than pyts, one call",
        "GAF, 40 channels, 64x64, times faster than pyts, one call",
    ),
    "Persistence diagrams and images, times faster than gudhi": ("persistence diagrams",),
    "PAMAP2's zip to windows, times faster than pandas.read_csv, wall clock": (
        "PAMAP2 from the nested zip to windows, wall clock, times faster than pandas",
    ),
    "PAMAP2's zip to windows, times faster than numpy.loadtxt, wall clock": (
        "PAMAP2 from the nested zip to windows, wall clock, times faster than loadtxt",
    ),
    "the bound: inflating the zip and nothing else, on one core": ("inflating alone",),
    "PAMAP2's zip to windows, most memory, cost beside 1.5 GB": (
        "PAMAP2 from the nested zip to windows, peak memory",
    ),
    "Windows on disk and in memory, times smaller than copies": ("windows, bytes of one",),
    "COCO's JSON to YOLO labels, times faster than ultralytics' convert_coco": (
        "COCO conversion, 860000 annotations, ext2/ext3, times faster",
    ),
    "COCO's JSON to YOLO labels, most memory, cost beside it": (
        "COCO conversion, 860000 annotations, ext2/ext3: peak memory",
    ),
    "6 students side by side on 2 cores, times faster than one after the other on both": (
        "6 students in 2 processes of 1 thread (wall clock), times faster than one after the other, 2 threads",
    ),
    "6 students side by side on 2 cores, times faster than a table's cells one after the other": (
        "6 students in 2 processes of 1 thread (wall clock), times faster than one after the other, 1 thread",
    ),
    "27 students side by side on a GPU, times faster than one after the other, kernel by kernel": (
        "27 students of a signal teacher side by side, times faster than one after the other, kernel by kernel",
    ),
    "27 students side by side on a GPU, times faster than one after the other, recorded too": (
        "27 students of a signal teacher side by side, times faster than one after the other, recorded too",
    ),
    "Tracking, 200 epochs of 86 steps, cost beside the training": ("run of 200 epochs, tracked with maps (86 steps",),
    "A checkpoint every epoch of 86 steps, cost beside one at the end": (
        "checkpoint every epoch (86 steps an epoch), wall clock, cost",
        "checkpoint every epoch (86 steps an epoch), cost",
    ),
    "spkd --help": ("python -m spkd --help",),
    "dvc repro with nothing to do": ("dvc repro",),
    "mlflow run of an epoch, beyond a plain project that leaves the same files": (
        "mlflow run, one epoch on the sample, beyond a plain project that logs its weights and its graph",
    ),
    "27 students of all of PAMAP2, 200 epochs in 10 minutes (of 140 epochs, cost beside 7 minutes)": (
        "27 students of PAMAP2's",
    ),
}  # fmt: skip
"""What a target is about, and how the titles of the rows begin that say it: a device shows the first that it has."""


def pages() -> dict[Path, str]:
    """What belongs between the marks of each page."""
    found = records()
    return {DOCS / "performance.md": "\n".join(short(found)), DOCS / "benchmarks.md": table(found)}


def records() -> list[tuple[str, dict]]:
    """(device, file) of each file of results/benchmarks/."""
    paths = sorted(_measure.RESULTS.glob("*/*.json"))
    return [(path.parent.name, json.loads(path.read_text("utf-8"))) for path in paths]


def place(made: dict) -> str:
    """Where and when one file's rows were measured: as much of it as the file says, older ones say less."""
    words, machine = made["command"].removeprefix("python benchmarks/"), made["machine"]
    when = f", {made['date'][:10]}" if made.get("date") else ""
    when += f", commit {made['commit'][:10]}" if made.get("commit") else ""
    when += f" and changed {', '.join(made['changed'])}" if made.get("changed") else ""
    memory = f", {machine['memory_gib']:.0f} GiB" if "memory_gib" in machine else ""
    versions = ", ".join(f"{name} {number}" for name, number in made["versions"].items())
    return (
        f"- `{words}`{when}: {machine['cores']} cores of {machine['cpu']}{memory}, load at its end "
        f"{machine['load']:.1f}; {versions}. {made['notes']}"
    ).rstrip()


def table(found: list[tuple[str, dict]]) -> str:
    """Two tables, of processors and of GPUs, with a column a device; then where and when each file ran."""
    kinds = [[(device, made) for device, made in found if (script(made) == "gpu.py") is gpu] for gpu in (False, True)]
    places = [place(made) for _, made in sorted(found, key=lambda one: (one[0], script(one[1])))]
    return "\n\n".join(["\n".join(lines(kind)) for kind in kinds if kind] + ["\n".join(places)])


def shown(found: list[tuple[str, dict]]) -> dict[tuple[str, str], dict[str, dict]]:
    """{(file of benchmarks/, title): {device: row}} of the rows that are shown, as the files have them."""
    rows: dict[tuple[str, str], dict[str, dict]] = {}
    for device, made in sorted(found, key=lambda one: script(one[1])):
        for row in made["rows"]:
            if row.get("shown", True):
                rows.setdefault((script(made), _measure.title(row)), {})[device] = row
    return rows


def lines(found: list[tuple[str, dict]]) -> list[str]:
    """A table of the rows that are shown."""
    devices = sorted({device for device, _ in found})
    made_of = _head(devices)
    for (name, title), of in sorted(shown(found).items(), key=lambda item: item[0][0]):
        cells = [_measure.figure(of[d]) + _measure.VERDICT[of[d]["met"]] if d in of else "-" for d in devices]
        made_of.append(_line(title, next(iter(of.values())), cells, name))
    return made_of


def short(found: list[tuple[str, dict]]) -> list[str]:
    """A table of HEADLINES, without spread; a line that no device has measured is left out."""
    devices, rows = sorted({device for device, _ in found}), shown(found)
    made_of = _head(devices)
    for what, beginnings in HEADLINES.items():
        of: dict[str, tuple[str, dict]] = {}
        for begin in beginnings:
            for (name, title), measured in rows.items():
                if title.startswith(begin):
                    of = {device: (name, row) for device, row in measured.items()} | of
        if of:
            cells = [_brief(of[d][1]) if d in of else "-" for d in devices]
            names = sorted({name for name, _ in of.values()})
            made_of.append(_line(what, next(iter(of.values()))[1], cells, "`, `".join(names)))
    return made_of


def _brief(row: dict) -> str:
    unit = f" {row['unit']}" if "unit" in row else ""
    return f"{row['ratio']['ratio']:.2f}{unit}{_measure.VERDICT[row['met']]}"


def _head(devices: list[str]) -> list[str]:
    return [f"| what | target | {' | '.join(devices)} | file |", "|---" * (3 + len(devices)) + "|"]


def _line(what: str, row: dict, cells: list[str], name: str) -> str:
    return f"| {what} | {row['target']} | {' | '.join(cells)} | `{name}` |"


def script(made: dict) -> str:
    """The file of benchmarks/ that a record is of."""
    return str(made["command"].split()[1].removeprefix("benchmarks/"))


def main() -> None:
    for path, figures in pages().items():
        path.write_text(filled(path.read_text("utf-8"), figures, path), encoding="utf-8")


def filled(page: str, figures: str, path: Path) -> str:
    """The page with the figures between its two marks. Raises SystemExit where a mark is missing."""
    between = re.compile(re.escape(MARK) + ".*" + re.escape(MARK), re.DOTALL)
    if not between.search(page):
        raise SystemExit(f"{path}: two lines {MARK!r} are missing: put them where the figures belong")
    return between.sub(lambda _: f"{MARK}\n{figures}\n{MARK}", page)


if __name__ == "__main__":
    main()
