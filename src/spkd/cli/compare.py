"""Lay runs side by side: a table here, and one HTML page with differences, curves, maps, confusion, subjects, cost."""

from pathlib import Path
from typing import Any

from spkd import atomic
from spkd.data import windowset
from spkd.evidence import selection, tracking
from spkd.evidence.comparison import document, plain_text, reading
from spkd.evidence.tracking import RunInfo
from spkd.settings import Settings

SECTIONS = ("compare", "dataset", "fold", "run.folder", "tracking.experiment")
OPTIONS = {"csv": "write every run found into this file, one row each [path]"}
FACTS = (
    "kind", "view", "network", "fold", "trial", "test_subjects", "headline", "data.origin", "data.dataset", "data.name",
    "data.window", "data.digest", "weights.sha256", "weights.epoch", "code.commit", "code.dirty",
)  # fmt: skip


def main(words: list[str], settings: Settings, tree: dict[str, Any], options: dict[str, str]) -> int:
    """The comparison of compare.runs; 1 where there are none."""
    asked, windows = settings.compare.runs, windowset.FOLDER / settings.dataset
    found = runs = selection.wanted(asked, lambda: windowset.load(windows).digest, settings.fold)
    if found and not asked:
        runs = [*selection.newest(found), *selection.newest(selection.detectors())]
    if "csv" in options:
        atomic.write_text(Path(options["csv"]), plain_text.csv_text(found, FACTS))
        print(f"{options['csv']}: {len(found)} runs")
    if not runs:
        print(selection.nothing(settings.dataset, settings.fold))
        return 1
    tell(runs)
    shown = runs[: settings.compare.most]
    if len(shown) < len(runs):
        print(f"the page shows the first {len(shown)} of {len(runs)} (compare.most): narrow compare.runs")
    title = asked or f"{settings.dataset}, fold {settings.fold}: the newest run of each kind"
    text = document.page([reading.read(run) for run in shown], title)
    write(text, shown, settings, tree, Path(settings.run.folder))
    return 0


def tell(runs: list[RunInfo]) -> None:
    """Print the tables."""
    har = [run for run in runs if not selection.is_detector(run)]
    detectors = [run for run in runs if selection.is_detector(run)]
    if har:
        subjects = " | ".join(dict.fromkeys(run.tags.get("test_subjects", "?") for run in har))
        print(f"\n{plain_text.data(har)}: accuracy on test subjects {subjects}")
        print(plain_text.text(har, plain_text.HAR))
        print(f"headline: {plain_text.rules(har)}. `best on test` looks at the answer: never report it alone.")
        _tell_differing(har)
    if detectors:
        print(f"\n{plain_text.data(detectors)}: detection\n" + plain_text.text(detectors, plain_text.DETECTION))
        print(f"headline: {plain_text.rules(detectors)}.")
        _tell_differing(detectors)
    if any(run.simulated for run in runs):
        print(f"\n{document.SIMULATED}")


def _tell_differing(runs: list[RunInfo]) -> None:
    if line := plain_text.differing(runs):
        print(line)


def write(text: str, shown: list[RunInfo], settings: Settings, tree: dict[str, Any], folder: Path) -> None:
    """The page as a file, and as an artifact of a run of its own."""
    tracking.sweep(folder)
    out = Path(settings.compare.out)
    atomic.write_text(out, text)
    simulated = any(run.simulated for run in shown)
    tags = {"kind": "compare", "compared": " ".join(run.id for run in shown)}
    tags["data.origin"] = "simulated" if simulated else "recorded"
    name = f"compare {len(shown)} runs"
    with tracking.open_run(name, folder / "compare", settings.tracking.experiment, tags=tags, fresh=True) as run:
        run.params({"compare": tree["compare"]})
        run.text(text, "compare.html")
    tracking.forget(folder / "compare")
    print(f"\nthe page: {out} ({len(text) // 1024} KiB), and compare.html of run {run.id}; more: make ui")
