"""Training side by side gives every run what `loop.fit` alone gives it, to the bit."""

import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spkd import config
from spkd.data import scaling
from spkd.data.batches import DeviceWindows
from spkd.errors import SpkdError
from spkd.losses import sp
from spkd.models.wide_resnet import WideResNet
from spkd.training import checkpoint, loop, side_by_side
from spkd.training.loop import Run
from spkd.training.objective import Objective
from spkd.training.progress import Progress
from spkd.training.remembered import remember
from spkd.training.side_by_side import fit_many
from spkd.training.teachers import LiveTeacher

LOSSES = config.read(Path(__file__).parents[2] / "params.yaml")["losses"]


def ignore(state):
    pass


def identity(x, rows):
    return x


def network(width, seed):
    return WideResNet(10, width, 2, 3, 1, torch.Generator().manual_seed(seed))


@pytest.fixture
def make_tasks(make_task, windows, tmp_path):
    """make_tasks(remembered) -> four tasks: scratch, two live teachers, one teacher on other windows, scratch.

    With batches of 16 their epochs have 3, 2, 4 and 3 steps. The same first weights every time, of each its own.
    """

    def make(remembered=True):
        few, many = np.arange(40), np.arange(24, 96)
        seen = [DeviceWindows(windows, scaling.measure(windows, rows, "training"), "cpu") for rows in (few, many)]
        live = [LiveTeacher(f"t{k}", network(2, 10 + k), identity, seen[k], ["group1", "group3"]) for k in range(2)]
        rows, single = seen[1].rows(many), network(2, 12)
        other = LiveTeacher("t2", single, identity, seen[1], ["group1", "group3"])
        known = remember(other, rows, 64, 2**30, tmp_path, sp.Products)[0] if remembered else live[1]
        plain, both = make_task(), make_task(teachers=2)
        tasks = [
            plain,
            replace(both, train=plain.train[:40], teachers=live, windows=seen[0], tap_names=["group1", "group3"]),
            replace(
                make_task(teachers=1), train=rows, teachers=[known], windows=seen[1], tap_names=["group3", "group1"]
            ),
            plain,
        ]
        return [replace(t, network=network(1, k), render=identity, title=f"run {k}") for k, t in enumerate(tasks)]

    return make


def runs_of(tasks, folder, on_epoch=ignore):
    folder.mkdir(exist_ok=True)
    return [Run(task, k, folder / f"{k}", f"key {k}", on_epoch) for k, task in enumerate(tasks)]


def alone(run, settings):
    return loop.fit(run.task, settings, run.seed, run.path, run.key, run.on_epoch)


def assert_alike(one, other, key=""):
    """Trees of numbers are equal, to the bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), key
        for name in one.keys() - {"seconds", "windows_per_s"}:
            assert_alike(one[name], other[name], f"{key}.{name}")
    elif isinstance(one, list):
        assert len(one) == len(other), key
        for k, pair in enumerate(zip(one, other, strict=True)):
            assert_alike(*pair, f"{key}[{k}]")
    elif isinstance(one, str):
        assert one == other, key
    else:
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other)), key


def assert_same_files(folder, other, n=4):
    """Weights, running statistics, momenta, chosen weights and histories of n checkpoints."""
    for k in range(n):
        ours, theirs = (checkpoint.load(f / f"{k}") for f in (folder, other))
        assert_alike(list(ours), list(theirs), f"run {k}")


@pytest.fixture
def expected(make_tasks, tmp_path):
    """expected(settings) -> the folder of the checkpoints that the runs leave one after the other."""

    def train(settings):
        for run in runs_of(make_tasks(settings.noise == 0), tmp_path / "alone"):
            alone(run, settings)
        return tmp_path / "alone"

    return train


CHANGES = {
    "as it is": {},
    "one step, whose momentum is the gradient": {"epochs": 1, "batch": 40, "weight_decay": 0.0},
    "with noise": {"noise": 0.1},
    "keeping short batches": {"last_batch": "keep", "batch": 14},
    "without momentum, published steps": {"momentum": 0.0, "schedule": "paper"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_run_ends_as_it_would_alone(make_tasks, settings, tmp_path, expected, change):
    changed = settings.model_copy(update={"epochs": 2, **change})
    states = fit_many(runs_of(make_tasks(changed.noise == 0), tmp_path / "many"), changed)
    assert [len(state.history) for state in states] == [changed.epochs] * 4
    assert_same_files(tmp_path / "many", expected(changed))


class Stopping:
    """A teacher whose n-th answer comes with a SIGTERM."""

    def __init__(self, teacher, at):
        self.teacher, self.name, self.left = teacher, teacher.name, at

    def __call__(self, rows, noise=None):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return self.teacher(rows, noise)


def stopping(tasks, k, at):
    first, *others = tasks[k].teachers
    return [*tasks[:k], replace(tasks[k], teachers=[Stopping(first, at), *others]), *tasks[k + 1 :]]


def test_runs_that_were_stopped_side_by_side_can_be_finished_alone(make_tasks, settings, tmp_path, expected):
    many = tmp_path / "many"
    with pytest.raises(KeyboardInterrupt, match="SIGTERM; the same command goes on from epoch 2$"):
        fit_many(runs_of(stopping(make_tasks(), 2, 6), many), settings)  # in its second epoch, in its head start
    places = [checkpoint.load(many / f"{k}")[1] for k in range(4)]
    assert [(p["epoch"], p["step"]) for p in places] == [(2, 2), (3, 0), (1, 2), (2, 0)]
    for run in runs_of(make_tasks(), many):
        alone(run, settings)
    assert_same_files(many, expected(settings))


def test_a_run_whose_loss_is_not_finite_costs_no_other_its_step_at_a_stop(make_tasks, settings, tmp_path):
    tasks = stopping(make_tasks(), 2, 2)
    tasks[0] = replace(tasks[0], render=lambda x, rows: x * math.nan)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        fit_many(runs_of(tasks, tmp_path / "many"), settings)
    places = [checkpoint.load(tmp_path / "many" / f"{k}")[1] for k in range(4)]
    assert [(p["epoch"], p["step"]) for p in places] == [(0, 0), (1, 1), (0, 2), (0, 2)]


def test_a_gpu_without_memory_for_one_runs_checkpoint_costs_no_other_its_step_at_a_stop(
    make_tasks, settings, tmp_path, monkeypatch
):
    whole = loop.save

    def full(path, task, optimiser, state, key):
        if path.name == "1" and state.step:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return whole(path, task, optimiser, state, key)

    monkeypatch.setattr(loop, "save", full)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        fit_many(runs_of(stopping(make_tasks(), 2, 2), tmp_path / "many"), settings)
    places = [checkpoint.load(tmp_path / "many" / f"{k}")[1] for k in range(4)]
    assert [(p["epoch"], p["step"]) for p in places] == [(0, 2), (1, 0), (0, 2), (0, 2)]


def test_runs_that_stand_at_different_places_are_finished_side_by_side(
    make_tasks, settings, tmp_path, expected, monkeypatch
):
    many, tasks = tmp_path / "many", make_tasks()
    runs = runs_of(stopping(stopping(tasks, 1, 3), 2, 10), many)  # each at the first and second step of another epoch
    for k in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            alone(runs[k], settings)
    alone(runs[3], settings)
    told = {k: [] for k in range(4)}
    again = [
        replace(run, on_epoch=lambda s, k=k: told[k].append(s.epoch))
        for k, run in enumerate(runs_of(make_tasks(), many))
    ]
    begun = []
    monkeypatch.setattr(side_by_side, "Progress", lambda *words: begun.append(words) or Progress(*words))
    fit_many(again, settings)
    assert begun == [("4 side by side", 3, 48 + 32 + 64 + 48, 0 + (32 + 16) + (2 * 64 + 32) + 3 * 48)]
    assert told == {0: [0, 1, 2, 3], 1: [2, 3], 2: [3], 3: []}
    assert_same_files(many, expected(settings))


def test_a_loss_that_is_not_finite_costs_its_own_run_alone(make_tasks, settings, tmp_path, expected):
    tasks, calls = make_tasks(), []

    def broken(x, rows):
        calls.append(len(rows))
        # Past the first epoch (3 steps, 2 evaluations) and one more step.
        return x * (math.nan if len(calls) > 6 else 1)

    tasks[0] = replace(tasks[0], render=broken)
    error, *states = fit_many(runs_of(tasks, tmp_path / "many"), settings)
    assert isinstance(error, SpkdError)
    assert "run 0: epoch 2, step 1: expected a finite loss" in str(error)
    assert [state.epoch for state in states] == [3] * 3
    tensors, plain = checkpoint.load(tmp_path / "many" / "0")
    assert plain["epoch"] == 1
    assert all(torch.isfinite(t).all() for name, t in tensors.items() if name.startswith("network."))
    folder = expected(settings)
    for k in (1, 2, 3):
        assert_alike(*(list(checkpoint.load(f / f"{k}")) for f in (tmp_path / "many", folder)), f"run {k}")


def test_a_foreign_checkpoint_is_refused_and_the_others_go_on(make_tasks, settings, tmp_path):
    runs = runs_of(make_tasks(), tmp_path)
    alone(replace(runs[1], key="another"), settings)
    states = fit_many(runs, settings)
    assert "a checkpoint of this run (key 1)" in str(states[1])
    assert states[1].__traceback__ is None  # which would hold tensors
    assert [state.epoch for state in states[:1] + states[2:]] == [3] * 3


def test_losses_with_trainable_parts_and_networks_of_another_shape_go_with_the_rest(make_tasks, settings, tmp_path):
    short = settings.model_copy(update={"epochs": 2})

    def tasks():
        made = make_tasks()
        objective = Objective(0.5, [], {"dcd": 1.0}, LOSSES)
        teacher = LiveTeacher("t", network(2, 5), identity, made[0].windows, ["norm"])
        known = teacher(made[0].train[:2])
        objective.grow(
            {"norm": torch.zeros(2, 64, 8)}, [("t", known.logits, known.features)], torch.Generator().manual_seed(3)
        )
        made[0] = replace(made[0], objective=objective, teachers=[teacher], tap_names=["norm"])
        made[3] = replace(made[3], network=network(2, 3))
        return made

    fit_many(runs_of(tasks(), tmp_path / "many"), short)
    for run in runs_of(tasks(), tmp_path / "alone"):
        alone(run, short)
    assert_same_files(tmp_path / "many", tmp_path / "alone")
    assert any(name.startswith("momentum.parts.") for name in checkpoint.load(tmp_path / "many" / "0")[0])


def test_a_run_that_a_gpu_has_no_memory_for_is_alone_in_that(make_tasks, settings, tmp_path, expected):
    runs = runs_of(make_tasks(), tmp_path / "many")
    rendered = []

    def full(x, rows):
        rendered.append(len(rows))
        if len(rendered) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")
        return x

    runs[1] = replace(runs[1], task=replace(runs[1].task, render=full))
    ends = fit_many(runs, settings)
    assert isinstance(ends[1], SpkdError) and ends[1].__context__.__traceback__ is None  # which would hold tensors
    assert ends[1].__traceback__ is None
    assert "run 1: expected what fits the memory of its device, got CUDA out of memory. Tried" in str(ends[1])
    wanted = expected(settings)
    for k in (0, 2, 3):
        ours, theirs = (checkpoint.load(folder / f"{k}") for folder in (tmp_path / "many", wanted))
        assert_alike(list(ours), list(theirs), f"run {k}")
