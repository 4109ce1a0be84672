"""One training run on recordings, from plan to finished MLflow run: the same path for teachers and students."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from spkd import atomic, memory, plugin, seeding
from spkd.data import scaling
from spkd.data.batches import DeviceWindows
from spkd.errors import SpkdError
from spkd.evidence import machine, tracking
from spkd.evidence.outbox import Outbox
from spkd.experiment import lineage, outcome, plan, record, source, student
from spkd.experiment.lineage import Ancestor
from spkd.experiment.plan import Places, Plan, Role
from spkd.settings import Settings
from spkd.training import loop, step
from spkd.training.objective import Objective
from spkd.training.remembered import LONG_S, remember
from spkd.training.state import State
from spkd.training.teachers import LiveTeacher, Teacher

PINNED, CHECKPOINT = "lineage.json", "checkpoint.safetensors"


@dataclass(frozen=True)
class Shared:
    """What runs side by side hold once.

    windows: by data, scaling and device. teachers: by digest of their answers and name, those of one fold.
    """

    windows: dict[str, DeviceWindows] = field(default_factory=dict)
    teachers: dict[tuple[str, str], Teacher] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """A run to train. raw: the settings tree that `settings` was made from. parent: the run below which it is nested.

    What a table decides for its cells: folder, of the unfinished run; further tags; ancestors, run ids by teacher
    reference, and of the student to start from under "init"; others are looked for; expected, see source.
    """

    role: Role
    settings: Settings
    raw: dict[str, Any]
    places: Places
    parent: tracking.Run | str | None = None
    folder: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    ancestors: dict[str, str] = field(default_factory=dict)
    expected: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Begun:
    """A run that is open, with all that training it takes. key: of its checkpoint. code: that it began with."""

    run: tracking.Run
    made: Plan
    task: step.Task
    teachers: list[Ancestor]
    scratch: Ancestor | None
    callback: record.Callback
    key: str
    code: dict[str, Any]

    @property
    def checkpoint(self) -> Path:
        """The file of the unfinished training."""
        return self.run.folder / CHECKPOINT

    def end(self, state: State) -> None:
        """Log what is known after the last epoch."""
        outcome.ending(self.run, self.made, self.task, state, self.teachers, self.scratch, self.code)


def train(wanted: Wanted) -> str:
    """Train one network and return its run id; a run of the same settings that was killed goes on where it stopped."""
    settings = wanted.settings
    with begun(wanted) as own:
        state = loop.fit(own.task, settings.train, settings.run.seed, own.checkpoint, own.key, own.callback)
        own.end(state)
    return own.run.id


@contextlib.contextmanager
def begun(wanted: Wanted, shared: Shared | None = None) -> Iterator[Begun]:
    """A run as `train` trains it, before its first step; it is closed, and its folder forgotten, after the block."""
    settings = wanted.settings
    flags = seeding.set_flags(settings.run.deterministic, settings.run.tf32, settings.run.threads)
    made = plan.make(wanted.role, settings, wanted.raw, wanted.places)
    record.check_data(made)
    name = plan.name(made)
    own = f"{plan.fingerprint(made)} {name}".replace(" ", "_").replace(":", "-").replace("/", "-")
    if wanted.role == "student":
        student.require(settings, wanted.raw)
    folder = wanted.places.runs / (wanted.folder or own)
    tags = {**record.tags(made), **wanted.tags}
    code, checkpoint = _code(made), folder / CHECKPOINT
    source.require_expected(folder, wanted.expected, {source.WINDOWS: made.windows.digest, **code})
    box = Outbox(folder)
    # A table's cell has its folder by what it uses: settings and code that it does not use may be others by now.
    known = (box.opened() or {"tags": {}})["tags"].get("fingerprint", tags["fingerprint"])
    other = known != tags["fingerprint"] or bool(source.changed(folder, code))
    if wanted.parent is None:
        tracking.sweep(wanted.places.runs, but=None if other else folder)
    ended = box.finished and (other or not box.late)
    goes_on = checkpoint.is_file() and not ended
    if goes_on and not wanted.folder:
        source.require_same(folder, code)
    goes_on = goes_on and not other
    fresh = other or (box.finished and not goes_on)
    with tracking.open_run(name, folder, settings.tracking.experiment, wanted.parent, tags, fresh) as run:
        if not goes_on:
            checkpoint.unlink(missing_ok=True)
        if fresh:
            (folder / PINNED).unlink(missing_ok=True)
        source.write_down(folder, code)
        began_with = record.beginning(run, made, flags)
        teachers, scratch = ancestors(made, run, wanted.ancestors)
        callback = record.Callback(run, made, *assemble(made, run, teachers, scratch, shared))
        task = callback.task
        identity = [plan.fingerprint(made), *(a.sha256 for a in teachers), scratch.sha256 if scratch else ""]
        key = hashlib.sha256("/".join(identity).encode()).hexdigest()[:16]
        record.lineage(run, teachers, task.objective.shares(len(teachers)) if teachers else [], scratch)
        yield Begun(run, made, task, teachers, scratch, callback, key, began_with)
    tracking.forget(folder)


def _code(made: Plan) -> dict[str, str]:
    """The code that decides this run's numbers, file by file."""
    relevant = plan.relevant(made)
    more = lineage.parts(lineage.outside(relevant.get("distill", {})).values())
    return source.hashes(source.used(relevant, made.raw["networks"], more=more))


def ancestors(made: Plan, run: tracking.Run, known: dict[str, str]) -> tuple[list[Ancestor], Ancestor | None]:
    """(teachers, scratch student to start from), each known, or found, or trained first as a nested run.

    The choice is written down before training, so that a resumed run keeps its teachers.
    """
    if made.role == "teacher":
        return [], None
    distill = made.settings.distill
    pinned_file = run.folder / PINNED
    if pinned_file.exists():
        pinned = json.loads(pinned_file.read_text(encoding="utf-8"))
    else:
        runs = [known.get(r) or lineage.find(made, r) or _train_first(made, run, r) for r in distill.teachers]
        for reference, run_id in zip(distill.teachers, runs, strict=True):
            print(f"teacher {reference}: run {run_id}", flush=True)
        _require_each_once(distill.teachers, runs)
        start = None if distill.init == "none" else known.get("init") or lineage.find_scratch(made)
        if distill.init != "none" and start is None:
            start = _train_scratch(made, run)
        pinned = {"teachers": runs, "init": start}
        atomic.write_text(pinned_file, json.dumps(pinned))
    teachers = _numbered([
        lineage.load(made, run_id, run.folder / f"ancestor{k}", reference.endswith(lineage.EARLY))
        for k, (reference, run_id) in enumerate(zip(distill.teachers, pinned["teachers"], strict=True))
    ])  # fmt: skip
    scratch = None
    if pinned["init"]:
        scratch = lineage.load(made, pinned["init"], run.folder / "init")
        lineage.check_shape(made, scratch)
    return teachers, scratch


def _require_each_once(references: list[str], runs: list[str]) -> None:
    """Raise SpkdError where two references, gaf:wrn16-3 and run:<id>, mean the same weights: one would count twice."""
    found: dict[tuple[str, bool], str] = {}
    for reference, run_id in zip(references, runs, strict=True):
        other = found.setdefault((run_id, reference.endswith(lineage.EARLY)), reference)
        if other != reference:
            got = f"{other} and {reference}, both run {run_id}"
            raise SpkdError("distill.teachers", "each teacher once", got, "leave one out; distill.alphas weighs them")


def _numbered(teachers: list[Ancestor]) -> list[Ancestor]:
    """The teachers with a number behind a name that another one has as well."""
    names = [t.name for t in teachers]
    return [
        t if names.count(t.name) == 1 else replace(t, name=f"{t.name}-{names[:k].count(t.name) + 1}")
        for k, t in enumerate(teachers)
    ]


def _draw_all(made: Plan) -> None:
    """Raise SpkdError where a view of the run could not be drawn later: after a network trained first, for hours."""
    window = torch.zeros(1, len(made.windows.channels), made.windows.length, device=made.device)
    models = [made.model, *filter(None, map(lineage.wanted, made.settings.distill.teachers))]
    for view in dict.fromkeys(model.view for model in models):
        lineage.check_view(made, view)
        plan.render(made, view, made.raw["views"][view])(window, torch.zeros(1, dtype=torch.int64, device=made.device))


def _train_first(made: Plan, run: tracking.Run, reference: str) -> str:
    model = lineage.wanted(reference)
    if model is None:
        raise SpkdError("distill.teachers", "an existing run", reference, "check the id")
    _draw_all(made)
    print(f"no {reference} teacher of these settings and fold yet: training it first, as a nested run", flush=True)
    raw = {**made.raw, "teacher": model.model_dump()}
    settings = made.settings.model_copy(update={"teacher": model})
    return train(Wanted("teacher", settings, raw, made.places, run))


def _train_scratch(made: Plan, run: tracking.Run) -> str:
    _draw_all(made)
    print("no scratch student of these settings and this trial yet: training it first, as a nested run", flush=True)
    change: dict[str, Any] = {"teachers": [], "alphas": [], "init": "none"}
    raw = {**made.raw, "distill": {**made.raw["distill"], **change}}
    settings = made.settings.model_copy(update={"distill": made.settings.distill.model_copy(update=change)})
    return train(Wanted("student", settings, raw, made.places, run))


def assemble(
    made: Plan, run: tracking.Run, ancestors: list[Ancestor], scratch: Ancestor | None, shared: Shared | None = None
) -> tuple[step.Task, list[LiveTeacher]]:
    """(the task of the training loop, its teachers as they answer anew), all on the device.

    Teachers of one scaling share its windows.
    """
    shared = Shared() if shared is None else shared
    network = student.network(made, ancestors, scratch)
    render = plan.render(made, made.model.view, plan.card(made).view_settings)
    windows = _scaled(made, made.scaling, shared)
    rows = {n: windows.rows(getattr(made.split, n)) for n in ("train", "validation", "test")}
    objective = student.objective(made.settings.distill, made.raw, len(ancestors))
    tap_names, teacher_taps = objective.tapped()
    alive: list[LiveTeacher] = []
    teachers: list[Teacher] = []
    for ancestor in ancestors:
        seen = _scaled(made, scaling.from_dict(ancestor.card.scaling), shared)
        rendered = plan.render(made, ancestor.card.view, ancestor.card.view_settings)
        alive.append(LiveTeacher(ancestor.name, ancestor.network, rendered, seen, teacher_taps))
        teachers.append(_remembered(made, alive[-1], ancestor, objective, rows["train"], run, shared))
    if objective.needs_parts:
        first = rows["train"][:2]
        student.grow(objective, made, network, windows.batch(first), render, first, teachers)
    task = step.Task(
        network, render, windows,
        rows["train"], rows["validation"], rows["test"], objective, teachers, tap_names, plan.name(made),
    )  # fmt: skip
    return task, alive


def _scaled(made: Plan, statistics: scaling.Scaling, shared: Shared) -> DeviceWindows:
    """The windows scaled by these statistics, on the device or in a file: once for all that share them."""
    key = json.dumps([made.windows.digest, statistics.to_dict(), str(made.device)], sort_keys=True)
    if key not in shared.windows:
        shared.windows[key] = plan.on_device(made, statistics)
    return shared.windows[key].beside()


def _remembered(
    made: Plan, live: LiveTeacher, ancestor: Ancestor, objective: Objective, rows: torch.Tensor, run: tracking.Run,
    shared: Shared,
) -> Teacher:  # fmt: skip
    """The teacher with or without its answers remembered; the run's tag says which, and why."""
    train = made.settings.train
    teacher: Teacher = live
    if not train.teacher_cache:
        how = "every step: train.teacher_cache is false"
    elif train.noise > 0:
        how = "every step: train.noise changes the windows"
    else:
        wrap = products_instead(objective)
        identity = [ancestor.sha256, asdict(ancestor.card), live.tap_names, wrap is not None, train.eval_batch]
        key = _digest(identity, rows)
        if (key, live.name) in shared.teachers:
            teacher, how = shared.teachers[key, live.name], "once, for a run beside this one as well"
        else:
            own = made.settings.run
            identity += [torch.__version__, made.device.type, machine.chip(made.device), own.threads, own.tf32]
            in_file = _digest([*identity, own.deterministic, _code(made)], rows)
            folder = (made.places.runs if train.teacher_cache_keep else run.folder) / "answers"
            from_s = 0.0 if train.teacher_cache_keep else LONG_S
            with memory.enough(f"answers of teacher {live.name}", "lower train.teacher_cache_gib or train.eval_batch"):
                most = train.teacher_cache_gib * 2**30
                teacher, how = remember(live, rows, train.eval_batch, most, folder, wrap, in_file, from_s)
            shared.teachers[key, live.name] = teacher
    print(f"teacher {live.name} answers {how}", flush=True)
    run.tags({f"teacher.{live.name}.answers": how})
    return teacher


def _digest(identity: list[Any], rows: torch.Tensor) -> str:
    """The hash of what a teacher's answers about these rows depend on."""
    return hashlib.sha256(json.dumps(identity).encode() + rows.cpu().numpy().tobytes()).hexdigest()[:16]


def products_instead(objective: Objective) -> Callable[[torch.Tensor], Any] | None:
    """What the feature losses take instead of a teacher's features, its batch products; None where one needs more."""
    modules = [plugin.load("losses", term.name) for term in objective.extra if term.sees == "features"]
    wraps = [getattr(module, "Products", None) for module in modules]
    return wraps[0] if wraps and all(wrap is wraps[0] for wrap in wraps) else None
