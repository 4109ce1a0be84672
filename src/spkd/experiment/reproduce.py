"""A recorded run, repeated with its own code, environment, data and teachers, and judged.

Checked in this order: commit, lock, environment, data digests, settings, numbers, weights of teachers and its own; the
first that is not as recorded is named with its remedy. The verdict is a run of its own (kind = reproduction, tag
`reproduces`), the repeated trials are nested below it and are never taken for a teacher or a trial of a table.
"""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from spkd import atomic, config
from spkd.errors import SpkdError
from spkd.evidence import lock_file, outbox, selection, tracking, working_tree
from spkd.evidence.reproduction import bundle, judge, portable
from spkd.evidence.reproduction.judge import Record, Row, Verdict
from spkd.experiment import checkout, consent, repetition
from spkd.experiment.repetition import Recorded, Wrong
from spkd.settings import Reproduce, Settings

PROCESS = "process.json"


@dataclass(frozen=True)
class Choices:
    """What the user allows. build, here: of the environment, see checkout.interpreter. trust: see consent.

    machine: settings that may be others here: device (of `run`, or of `detect`), threads. check_teacher: see consent.
    """

    build: bool
    here: bool
    trust: bool
    machine: Mapping[str, Any]
    check_teacher: Callable[[Path], object]


def reproduce(source: str, project: Path, settings: Settings, choices: Choices) -> Verdict:
    """The verdict on a run of the store (the first digits of its id suffice) or on a bundle file, tracked as a run."""
    runs = (project / settings.run.folder).absolute()
    sweep(project, runs)
    work = runs / f"reproduce-{socket.gethostname()}-{os.getpid()}"
    atomic.write_text(work / PROCESS, json.dumps(outbox.this_process()))
    box = work.with_name(f"reproduction-{socket.gethostname()}-{os.getpid()}")
    try:
        recorded = fetch(source, project, work / "recorded", choices)
        record = portable.record(recorded.folder)
        tags = {"kind": "reproduction", "reproduces": record.run_id, "reproduces.name": record.name}
        title = f"reproduce {record.name}"
        with tracking.open_run(title, box, settings.tracking.experiment, tags=tags, fresh=True) as run:
            verdict = _repeated(recorded, record, project, settings.reproduce, choices, run, work)
            tell(run, verdict, title)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if box.exists():
            tracking.forget(box)
    return verdict


def sweep(project: Path, runs: Path) -> None:
    """Remove the worktrees and files of reproductions whose process was killed."""
    for note in runs.glob(f"reproduce-*/{PROCESS}"):
        if not outbox.is_alive(json.loads(note.read_text(encoding="utf-8"))):
            shutil.rmtree(note.parent)
            working_tree.git(project, "worktree", "prune")


def fetch(source: str, project: Path, folder: Path, choices: Choices) -> Recorded:
    """The recorded run as a folder of files. Raises SpkdError for a bundle that asks for consent and is not trusted."""
    if Path(source).suffix != ".zip":
        portable.gather(selection.by_id(source).id, project, folder)
        return Recorded.read(folder)
    if not Path(source).is_file():
        do = "give its path, or the id of a run of the store"
        raise SpkdError(source, "a file of `spkd export`", "no such file", do)
    bundle.unpack(Path(source), folder)
    recorded = Recorded.read(folder)
    if not choices.trust:
        consent.require(source, recorded, choices.check_teacher)
    return recorded


def tell(run: tracking.Run, verdict: Verdict, title: str) -> None:
    """The verdict as tags, table and description of its run."""
    run.tags({"verdict": verdict.status, "verdict.level": verdict.level, "verdict.reason": verdict.reason})
    run.table("side_by_side", judge.columns(verdict))
    run.note(judge.markdown(verdict, title))


def _repeated(
    recorded: Recorded,
    record: Record,
    project: Path,
    wanted: Reproduce,
    choices: Choices,
    run: tracking.Run,
    work: Path,
) -> Verdict:
    """Check, repeat and judge in a worktree of the recorded commit."""
    run.params({"reproduce": wanted.model_dump()})
    commit, patch = recorded.tags["code.commit"], recorded.folder / "artifacts" / "code.patch"
    checkout.require_commit(project, commit)
    with checkout.worktree(project, commit, patch if patch.is_file() else None, work / "code") as code:
        if wrong := repetition.lock(recorded, code):
            return refused(wrong)
        environments = work.parent / checkout.ENVIRONMENTS
        python = checkout.interpreter(code / lock_file.NAME, environments, choices.build, choices.here)
        tree = config.read(code / config.PARAMS)
        planned = repetition.settings(recorded, tree, _references(recorded), choices.machine)
        wrong = (
            repetition.data(recorded, project, code, python, planned)
            or repetition.told_twice(recorded)
            or repetition.teachers(recorded)
        )
        if wrong:
            return refused(wrong)
        stored = repetition.stored_teachers(recorded, run, work)
        planned = repetition.settings(recorded, tree, stored, choices.machine)
        trials = _chosen(record, portable.trials(recorded.folder), wanted.trials)
        pairs = []
        for trial in trials:
            planned["run"]["seed"] = int(trial.seed)
            folder = work / f"repeated{trial.seed}"
            _run_again(recorded, run, code, python, planned, trial, project, folder)
            pairs.append((trial, portable.record(folder)))
    return judge.judge(pairs, wanted)


def refused(wrong: Wrong) -> Verdict:
    """`different`, without running anything."""
    reason = f"{wrong.what}: recorded {wrong.recorded}, here {wrong.here}; {wrong.do}"
    return Verdict("different", 0, reason, [Row(wrong.what, wrong.recorded, wrong.here, False)])


def _references(recorded: Recorded) -> dict[str, str]:
    """The recorded ids of the networks that the run builds on, by name."""
    return {name: recorded.tags[f"{name}.run_id"] for name in portable.ancestors(recorded.tags)}


def _chosen(record: Record, trials: list[Record], n: int) -> list[Record]:
    """The asked run first, then others of its trials, n in all as far as there are so many."""
    return [record, *(t for t in trials if t.seed != record.seed)][:n]


def _run_again(
    recorded: Recorded, run: tracking.Run, code: Path, python: Path, settings: dict[str, Any],
    trial: Record, project: Path, folder: Path,
) -> None:  # fmt: skip
    """Run the recorded code on these settings and gather what it logged."""
    name = f"repeat of {trial.name}"
    run_id, environ = tracking.reserve(name, run, {"repeats": trial.run_id})
    params = folder.with_suffix(".yaml")
    atomic.write_text(params, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    command = [str(python), "-m", "spkd", recorded.command, "--params", str(params), "--preset", "none"]
    try:
        environ = {**os.environ, **checkout.inside(code, python), **environ}
        done = subprocess.run(command, cwd=code, env=environ, check=False)
        if done.returncode != 0:
            do = "its messages are above; the run's page has them as `failure`"
            raise SpkdError(name, "success", f"exit status {done.returncode}", do)
        portable.gather(run_id, project, folder)
    finally:
        tracking.abandon(run_id, "the repeating process ended early")
        tracking.retag(run_id, {"kind": "repetition", "mlflow.runName": name})
