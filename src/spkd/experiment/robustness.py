"""Test accuracy of trained runs under disturbances of the recordings.

Normalisation, view and class order are those of the weights' card; what a view stores is computed anew from the
disturbed windows. Every run of one scaling meets the same disturbances: their units are its standard deviations and
means. Level 0 must be the result that the run recorded.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spkd import atomic, config, plugin, seeding
from spkd.data import disturb, scaling, windowset
from spkd.data.batches import DeviceWindows
from spkd.data.scaling import Scaling
from spkd.data.windowset import WindowSet
from spkd.errors import SpkdError
from spkd.evidence import machine, provenance, selection, tracking
from spkd.evidence.comparison import plain_text
from spkd.evidence.reports import robustness
from spkd.evidence.tracking import RunInfo
from spkd.experiment import plan, source
from spkd.experiment.lineage import WEIGHTS
from spkd.experiment.plan import Places
from spkd.meter import Work
from spkd.settings import Settings
from spkd.training import metrics, weights
from spkd.training.weights import Card

ODD = "not the accuracy that the run recorded, without any disturbance"
TESTED = "robustness-tested"  # below the runs' folder: what a stopped call has measured, run by run


@dataclass(frozen=True)
class Candidate:
    """One trained run and the windows it is tested on. rows: (n,) of its test subjects. recorded: its accuracy."""

    run: RunInfo
    network: torch.nn.Module
    card: Card
    windows: WindowSet
    rows: np.ndarray
    statistics: Scaling
    batch: int
    recorded: float


@dataclass(frozen=True)
class Result:
    """One test. kind, level, draw: of the disturbance; accuracy, macro_f1: of all n_windows together, 0 to 1."""

    run: RunInfo
    kind: str
    level: float
    draw: int
    accuracy: float
    macro_f1: float
    recorded: float
    n_windows: int


def test_all(settings: Settings, tree: dict[str, Any], here: Places) -> bool:
    """Test robustness.runs, or the newest of the fold, and log the result as a run.

    Whether all could be tested, and have without a disturbance the accuracy that they recorded.
    """
    tracking.sweep(here.runs)
    flags = seeding.set_flags(settings.run.deterministic, settings.run.tf32, settings.run.threads)
    device = plan.device(settings.run.device)
    print(machine.line(device, settings.run.device), flush=True)
    runs = chosen(settings, here)
    if not runs:
        if not settings.robustness.runs:  # of runs that were named, `chosen` has said how many are on recordings
            print(selection.nothing(settings.dataset, settings.fold))
        return False
    names = unique([run.name for run in runs], [run.id for run in runs])
    results = _each(runs, names, settings, here, device)
    odd = [names[run_id] for run_id in dict.fromkeys(r.run.id for r in results if is_odd(r))]
    tested = [run for run in runs if run.id in {r.run.id for r in results}]
    if tested:
        opened = _tell(results, tested, names, settings, tree, here, {**flags, "device": str(device)}, odd)
        shutil.rmtree(here.runs / TESTED, ignore_errors=True)
        print(f"curves: plots/robustness.svg of run {opened}")
    if tested and (left_out := len(runs) - len(tested)):
        print(f"{left_out} of {len(runs)} runs could not be tested: the reasons are above", file=sys.stderr)
    if odd:
        print(f"{ODD}: {', '.join(odd)}", file=sys.stderr)
    return len(tested) == len(runs) and not odd


def chosen(settings: Settings, here: Places) -> list[RunInfo]:
    """The runs on recordings among robustness.runs; without it the newest of each name of the chosen fold."""
    words = settings.robustness.runs
    found = selection.wanted(
        words, lambda: windowset.load(here.project / windowset.FOLDER / settings.dataset).digest, settings.fold
    )
    if not words:
        return selection.newest(found)
    runs = [run for run in found if run.tags.get("kind") in selection.HAR_KINDS]
    print(f"{len(runs)} of {len(found)} runs are on recordings", flush=True)
    return runs


def _each(
    runs: Sequence[RunInfo], names: Mapping[str, str], settings: Settings, here: Places, device: torch.device
) -> list[Result]:
    """Every test of every run, said as it goes; a run that cannot be tested is said and left out."""
    wanted = settings.robustness
    results: list[Result] = []
    levels = {kind: getattr(wanted, kind) for kind in disturb.KINDS}
    with tempfile.TemporaryDirectory() as scratch:
        for number, run in enumerate(runs):
            place = f"{number + 1}/{len(runs)} {names[run.id]}"
            try:
                candidate = load(run, here.project, Path(scratch), device)
            except SpkdError as error:
                print(f"{place} is left out: {error}", file=sys.stderr, flush=True)
                continue
            own = _kept(candidate, levels, settings, here.runs / TESTED / f"{run.id}.json", place)
            results += own
            worst = min(own, key=lambda r: r.accuracy)
            undisturbed = f"{100 * own[0].accuracy:.2f} % undisturbed (recorded {100 * candidate.recorded:.2f})"
            told = f"worst {100 * worst.accuracy:.2f} at {worst.kind} {worst.level:g}"
            print(f"{place}: {undisturbed}, {told}", flush=True)
    return results


def _kept(
    own: Candidate, levels: Mapping[str, Sequence[float]], settings: Settings, file: Path, place: str
) -> list[Result]:
    """Every test of one run, measured, or found in the file where a stopped call of the same settings and code left it.

    place: how a log calls the run.
    """
    device = next(own.network.parameters()).device
    parts = [part for shelf in ("views", "models") for part in (source.ROOT / shelf).glob("*.py")]
    key = {
        "levels": levels, "draws": settings.robustness.draws, "seed": settings.run.seed, "device": str(device),
        "code": source.code_digest(source.closure([Path(__file__), *parts])),
    }  # fmt: skip
    if file.is_file():
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["key"] == key:
            return [Result(own.run, **result) for result in found["results"]]
    results = []
    with Work(place, {"tests": sum(1 + settings.robustness.draws * len(values) for values in levels.values())}) as work:
        for result in measure(own, levels, settings.robustness.draws, settings.run.seed):
            results.append(result)
            work.did("tests")
    told = [{name: value for name, value in vars(result).items() if name != "run"} for result in results]
    atomic.write_text(file, json.dumps({"key": key, "results": told}))
    return results


def _tell(
    results: Sequence[Result], tested: Sequence[RunInfo], names: Mapping[str, str],
    settings: Settings, tree: dict[str, Any], here: Places, flags: Mapping[str, Any], odd: Sequence[str],
) -> str:  # fmt: skip
    """Print the tables and log them, with the curves, as a run of their own; returns its id."""
    found = robustness.collected([(names[r.run.id], r.kind, r.level, r.accuracy) for r in results])
    simulated = any(run.simulated for run in tested)
    recorded = {names[r.run.id]: r.recorded for r in results}
    scalings = {names[run.id]: scaling_rule(run) for run in tested}
    data = plain_text.data(tested)
    text = robustness.markdown(found, recorded, settings.robustness.draws, simulated, data, scalings)
    text += f"\n{ODD}: {', '.join(odd)}\n" if odd else ""
    tags = {"kind": "robustness", "tested": " ".join(run.id for run in tested)}
    tags["data.origin"] = "simulated" if simulated else "recorded"
    name, folder = f"robustness of {len(tested)} runs", here.runs / "robustness"
    with tracking.open_run(name, folder, settings.tracking.experiment, tags=tags, fresh=True) as opened:
        opened.params({"robustness": tree["robustness"], "run": tree["run"]})
        provenance.tell(opened, flags, here.project)
        opened.table("robustness", columns(results))
        opened.text(robustness.figure(found, tags["data.origin"]), "plots/robustness.svg")
        opened.text(text, "robustness.md")
        opened.note(text)
    tracking.forget(folder)
    print(f"\n{text}")
    return opened.id


def scaling_rule(run: RunInfo) -> str:
    """By which rule the run's windows are scaled."""
    return run.params.get(f"cfg/dataset.{run.tags.get('data.dataset')}.scaling", "not recorded")


def unique(names: list[str], ids: list[str]) -> dict[str, str]:
    """{run id: name}, with the id's first digits behind a name that occurs twice."""
    return {i: n if names.count(n) == 1 else f"{n} {i[:8]}" for n, i in zip(names, ids, strict=True)}


def load(run: RunInfo, project: Path, folder: Path, device: torch.device) -> Candidate:
    """A run ready to be tested. project: has the windows. folder: where weights are downloaded to.

    Raises SpkdError where the windows on disk are not those that the run was trained on, or it recorded no result.
    """
    network, card = weights.load(tracking.artifact(run.id, WEIGHTS, folder / run.id))
    windows = windowset.load(project / windowset.FOLDER / card.dataset)
    if windows.digest != card.data_digest:
        do = f'run "dvc repro windows@{card.dataset}" with the settings of that run, or leave it out'
        raise SpkdError(f"run {run.id}", f"windows with digest {windows.digest}", card.data_digest, do)
    if windows.classes != card.classes:
        raise SpkdError(f"run {run.id}", f"classes {windows.classes}", card.classes, "leave the run out")
    tested = [windows.subjects.index(name) for name in card.test_subjects]
    rows = np.flatnonzero(np.isin(windows.subject, tested)).astype(np.int64)
    statistics = scaling.from_dict(card.scaling)
    try:
        batch, accuracy = int(run.params["cfg/train.eval_batch"]), recorded(run)
    except KeyError as missing:
        raise SpkdError(f"run {run.id}", f"its {missing.args[0]}", f"none ({run.status})", "leave it out") from None
    return Candidate(run, network.to(device), card, windows, rows, statistics, batch, accuracy)


def is_odd(result: Result) -> bool:
    """Whether this is a test without a disturbance that has not the accuracy which the run recorded."""
    return result.level == 0 and differ(result.accuracy, result.recorded, result.n_windows)


def differ(one: float, other: float, n_windows: int) -> bool:
    """Whether two accuracies differ by more than another processor makes: two windows, or two in a thousand."""
    return abs(round(one * n_windows) - round(other * n_windows)) > max(2, 0.002 * n_windows)


def recorded(run: RunInfo) -> float:
    """The accuracy that the run logged for the weights it kept: of the validation-chosen epoch, or of the last."""
    validated = run.tags["validation_subjects"] != "none"
    chosen = validated and run.tags["weights.epoch"] == f"{run.metrics['validation/epoch']:.0f}"
    return run.metrics["validation/accuracy" if chosen else "last/accuracy"]


def measure(own: Candidate, levels: Mapping[str, Sequence[float]], draws: int, seed: int) -> Iterator[Result]:
    """A run undisturbed (level 0, once for each kind), then under `draws` draws of each level of each kind.

    levels: kind of data/disturb.py -> levels > 0. A draw is the same for every run that is scaled alike, on
    the same test windows.
    """
    clean, n = _tested(own, "noise", 0.0, 0, seed), len(own.rows)
    for kind, values in levels.items():
        yield Result(own.run, kind, 0.0, 0, *clean, own.recorded, n)
        for level in values:
            for draw in range(draws):
                found = _tested(own, kind, level, draw, seed)
                yield Result(own.run, kind, level, draw, *found, own.recorded, n)


def _tested(own: Candidate, kind: str, level: float, draw: int, seed: int) -> tuple[float, float]:
    """(accuracy, macro-F1) of one run under one draw of one disturbance."""
    group = own.statistics.group(own.windows)[np.asarray(own.windows.subject)[own.rows]]
    mean, std = own.statistics.mean[group], own.statistics.std[group]
    still = np.isin(own.windows.channels, own.statistics.constant) & (std == 1)  # for which 1 stands
    std = np.where(still, 0, std)
    rng = seeding.numpy_stream(seed, "robustness", kind, level, draw)
    windows = disturb.KINDS[kind](own.windows.windows(own.rows), mean, std, level, rng)
    disturbed = disturb.as_set(windows, own.windows, own.rows)
    found = metrics.scores(disturbed.label.astype(np.int64), predict(own, disturbed))
    return found.accuracy, found.macro_f1


@torch.no_grad()
def predict(own: Candidate, windows: WindowSet) -> np.ndarray:
    """(n,) predicted classes of every window of a set, through the card's scaling and view."""
    device = next(own.network.parameters()).device
    view = plugin.load("views", own.card.view)
    settings = config.check(view.Settings, own.card.view_settings, f"views.{own.card.view}")
    prepared = view.prepare(windows, settings) if hasattr(view, "prepare") else {}
    stored = {name: torch.from_numpy(array).to(device) for name, array in prepared.items()}
    render = view.view(settings, stored)
    on_device = DeviceWindows(windows, own.statistics, device)
    every = torch.arange(len(windows), device=device)
    own.network.eval()
    parts = [own.network(render(on_device.batch(r), r)).argmax(1) for r in torch.split(every, own.batch)]
    return torch.cat(parts).cpu().numpy()


def columns(results: Sequence[Result]) -> dict[str, list[Any]]:
    """The results as a table, a row a test."""
    return {
        "run": [r.run.name for r in results],
        "id": [r.run.id for r in results],
        "disturbance": [r.kind for r in results],
        "level": [r.level for r in results],
        "draw": [r.draw for r in results],
        "accuracy": [r.accuracy for r in results],
        "macro_f1": [r.macro_f1 for r in results],
        "recorded": [r.recorded for r in results],
    }
