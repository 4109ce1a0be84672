"""Test any runs on recordings again under noise, wrong gain, lost stretches and lost channels: curves and table."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from spkd.errors import SpkdError
from spkd.settings import Settings

SECTIONS = ("robustness", "dataset", "fold", "run")


def main(words: list[str], settings: Settings, tree: dict[str, Any]) -> int:
    """Measure robustness.runs and log the result as a run of its own; a run that cannot be tested is said and left out.

    Exit status 1 where one was.
    """
    from spkd import seeding
    from spkd.data import windowset
    from spkd.data.disturb import KINDS
    from spkd.evidence import machine, provenance, selection, tracking
    from spkd.evidence import robustness_report as report
    from spkd.experiment import plan, robustness

    wanted, here = settings.robustness, plan.places_here(settings)
    tracking.sweep(here.runs)
    flags = seeding.set_flags(settings.run.deterministic, settings.run.tf32, settings.run.threads)
    device = plan.device(settings.run.device)
    print(machine.line(device, settings.run.device), flush=True)
    if wanted.runs:
        found_runs = selection.chosen(wanted.runs)
        runs = [run for run in found_runs if run.tags.get("kind") in selection.HAR_KINDS]
        print(f"{len(runs)} of {len(found_runs)} runs are on recordings", flush=True)
    else:
        digest = windowset.load(here.data / "windows" / settings.dataset).digest
        runs = selection.newest(selection.of_fold(digest, settings.fold))
    if not runs:
        print(selection.nothing(settings.dataset, settings.fold))
        return 1
    names = unique([run.name for run in runs], [run.id for run in runs])
    results, measured = [], []
    with tempfile.TemporaryDirectory() as scratch:
        levels = {kind: getattr(wanted, kind) for kind in KINDS}
        for number, run in enumerate(runs):
            try:
                candidate = robustness.load(run, here.data, Path(scratch), device)
            except SpkdError as error:
                print(f"{number + 1}/{len(runs)} {names[run.id]} is left out: {error}", file=sys.stderr, flush=True)
                continue
            own = list(robustness.measure(candidate, levels, wanted.draws, settings.run.seed))
            results += own
            measured.append(run)
            worst = min(own, key=lambda r: r.accuracy)
            undisturbed = f"{100 * own[0].accuracy:.2f} % undisturbed (recorded {100 * candidate.recorded:.2f})"
            told = f"worst {100 * worst.accuracy:.2f} at {worst.kind} {worst.level:g}"
            print(f"{number + 1}/{len(runs)} {names[run.id]}: {undisturbed}, {told}", flush=True)
    if not measured:
        return 1
    left_out, runs = len(runs) - len(measured), measured
    found = report.collected([(names[r.run.id], r.kind, r.level, r.accuracy) for r in results])
    simulated = any(run.simulated for run in runs)
    text = report.markdown(found, {names[r.run.id]: r.recorded for r in results}, wanted.draws, simulated)
    tags = {"kind": "robustness", "tested": " ".join(run.id for run in runs)}
    tags["data.origin"] = "simulated" if simulated else "recorded"
    name, folder = f"robustness of {len(runs)} runs", here.runs / "robustness"
    with tracking.open_run(name, folder, settings.tracking.experiment, tags=tags, fresh=True) as opened:
        opened.params({"robustness": tree["robustness"], "run": tree["run"]})
        provenance.tell(opened, {**flags, "device": str(device)})
        opened.table("robustness", robustness.columns(results))
        opened.figure(report.figure(found, simulated), "plots/robustness.png")
        opened.text(text, "robustness.md")
        opened.note(text)
    print(f"\n{text}\ncurves: plots/robustness.png of run {opened.id}")
    if left_out:
        print(f"{left_out} of {left_out + len(runs)} runs could not be tested: the reasons are above", file=sys.stderr)
    return 1 if left_out else 0


def unique(names: list[str], ids: list[str]) -> dict[str, str]:
    """{run id: name}, with the id's first digits behind a name that occurs twice."""
    return {i: n if names.count(n) == 1 else f"{n} {i[:8]}" for n, i in zip(names, ids, strict=True)}
