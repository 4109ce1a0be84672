import gc
import math
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from spkd import config, seeding
from spkd.errors import SpkdError
from spkd.training import checkpoint, loop, step
from spkd.training.objective import Objective
from spkd.training.progress import Progress
from spkd.training.schedule import learning_rate
from spkd.training.state import best_epoch
from spkd.training.teachers import LiveTeacher

KEY = "key"
LOSSES = config.read(Path(__file__).parents[2] / "params.yaml")["losses"]


def ignore(state):
    pass


def fit(task, settings, path, on_epoch=ignore, key=KEY):
    return loop.fit(task, settings, 0, path, key, on_epoch)


def bits(task):
    return {name: tensor.numpy().tobytes() for name, tensor in task.network.state_dict().items()}


def numbers(state):
    return [(e.number, e.losses, e.train_accuracy, e.validation, e.test) for e in state.history]


def test_a_student_of_two_teachers_learns_the_waves(make_task, settings, tmp_path):
    state = fit(make_task(teachers=2), settings, tmp_path / "c.safetensors")
    losses = [e.losses["total"] for e in state.history]
    assert len(losses) == settings.epochs
    assert losses[-1] < losses[0]


def test_the_truth_of_an_evaluation_is_read_once_and_not_after_every_epoch(make_task, settings, tmp_path):
    """A GPU that has other runs' work to do is waited for every time."""
    task, asked = make_task(), []

    class Labels:
        def __init__(self, known):
            self.known = known

        def __getitem__(self, rows):
            asked.append(rows.data_ptr())
            return self.known[rows]

    task.windows.label = Labels(task.windows.label)
    fit(task, settings, tmp_path / "c")
    for rows in (task.validation, task.test):
        assert asked.count(rows.data_ptr()) == 1 + settings.epochs  # once in each evaluation's loss


@pytest.mark.parametrize("seed", range(3))
def test_every_window_counts_alike_in_an_epochs_numbers(make_task, settings, tmp_path, seed):
    """A network that always answers class 0 by logits (1, 0, 0), in batches of 46 and 2 windows."""
    task = make_task()
    torch.nn.init.zeros_(task.network.head.weight)
    task.network.head.bias.data = torch.tensor([1.0, 0.0, 0.0])
    kept = settings.model_copy(update={"epochs": 1, "batch": 46, "last_batch": "keep", "lr": 1e-12, "lr_final": 1e-12})
    (epoch,) = loop.fit(task, kept, seed, tmp_path / "c", KEY, ignore).history
    share = float((task.windows.label[task.train] == 0).double().mean())
    assert epoch.train_accuracy == pytest.approx(share)
    assert epoch.losses["cross_entropy"] == pytest.approx(math.log(math.e + 2) - share)


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(make_task, settings, tmp_path):
    tasks = [make_task(teachers=1) for _ in range(3)]
    for k, seed in enumerate((0, 0, 1)):
        loop.fit(tasks[k], settings, seed, tmp_path / f"{k}", KEY, ignore)
    assert bits(tasks[0]) == bits(tasks[1]) != bits(tasks[2])


def test_a_run_that_ended_holds_on_to_nothing(make_task, settings, tmp_path):
    """Its network and its teachers' answers are freed with its task: a GPU's memory does not wait for a collection."""
    task = make_task(teachers=1)
    held = weakref.ref(task.network)
    gc.collect()
    gc.disable()
    try:
        fit(task, settings, tmp_path / "c.safetensors")
        del task
        assert held() is None
    finally:
        gc.enable()


KILLED_RUN = """
import os, signal, threading
from pathlib import Path

def test_dies(make_task, settings):
    from spkd.training import loop
    task = make_task(teachers=1)
    seen = []
    def batch(rows, take=task.windows.batch):
        seen.append(len(rows))
        if sum(n == settings.batch for n in seen) == 8:
            for thread in threading.enumerate():
                if thread.name == "checkpoint":  # of the epoch before
                    thread.join()
            os.kill(os.getpid(), signal.SIGKILL)
        return take(rows)
    task.windows.batch = batch
    loop.fit(task, settings, 0, Path({path!r}), "key", lambda state: None)
"""


def test_a_run_killed_in_the_middle_of_an_epoch_resumes_to_the_same_bits(make_task, settings, tmp_path):
    path, here, root = tmp_path / "killed", Path(__file__).parent, Path(__file__).parents[2]
    for source, copy in ((here.parent, tmp_path), (here, tmp_path / "training")):
        copy.mkdir(exist_ok=True)
        (copy / "conftest.py").write_text((source / "conftest.py").read_text())
    threads = f"import torch\ntorch.set_num_threads({torch.get_num_threads()})\n"
    (tmp_path / "training" / "test_killed.py").write_text(threads + KILLED_RUN.format(path=str(path)))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", str(root / "pyproject.toml")]
    died = subprocess.run([*command, str(tmp_path / "training")], cwd=root, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stdout + died.stderr
    _, plain = checkpoint.load(path)
    assert plain["epoch"] == 1
    whole, resumed = make_task(teachers=1), make_task(teachers=1)
    expected = fit(whole, settings, tmp_path / "whole")
    assert numbers(fit(resumed, settings, path)) == numbers(expected)
    assert bits(resumed) == bits(whole)


@pytest.fixture
def disk(monkeypatch):
    """What is written passes `disk.answers`, which may take its time or raise."""
    write, found = checkpoint.save_file, SimpleNamespace(answers=lambda: None)
    monkeypatch.setattr(checkpoint, "save_file", lambda *words, **named: (found.answers(), write(*words, **named)))
    return found


def test_the_next_epoch_is_trained_while_a_checkpoint_is_written(make_task, settings, tmp_path, disk):
    path, begun = tmp_path / "c", threading.Event()
    learner = loop.Learner(loop.Run(make_task(), 0, path, KEY, ignore), settings)
    disk.answers = lambda: begun.wait(10)
    with Progress("run", settings.epochs, learner.n_windows, 0) as progress:
        for _ in range(5):  # the three steps of an epoch, and two of the next
            learner.advance(progress)
        assert checkpoint.load(path)[1]["epoch"] == 0
        begun.set()
        learner.advance(progress)
        assert checkpoint.load(path)[1]["epoch"] >= 1


def test_the_checkpoint_of_a_stop_takes_the_place_of_one_on_its_way(make_task, settings, tmp_path, disk):
    path, pauses = tmp_path / "c", iter([0.2, 0.0])
    learner = loop.Learner(loop.Run(make_task(), 0, path, KEY, ignore), settings)
    disk.answers = lambda: time.sleep(next(pauses))
    with Progress("run", settings.epochs, learner.n_windows, 0) as progress:
        for _ in range(4):
            learner.advance(progress)
    learner.keep()
    assert [t.name for t in threading.enumerate() if t.name == "checkpoint"] == []
    plain = checkpoint.load(path)[1]
    assert (plain["epoch"], plain["step"]) == (1, 1)


def test_a_disk_that_is_full_ends_the_training_at_the_next_epochs_end(make_task, settings, tmp_path, disk):
    told = []

    def on_epoch(state):
        told.append(state.epoch)
        if state.epoch == 1:
            disk.answers = full

    def full():
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left on device"):
        fit(make_task(), settings, tmp_path / "c", on_epoch)
    assert told == [0, 1] and checkpoint.load(tmp_path / "c")[1]["epoch"] == 0


def test_nothing_reaches_a_teacher(make_task, settings, tmp_path):
    task = make_task(teachers=1)
    network = task.teachers[0].network
    before = {n: t.clone() for n, t in network.state_dict().items()}
    fit(task, settings, tmp_path / "c")
    assert all(p.grad is None for p in network.parameters())
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items())
    tensors, _ = checkpoint.load(tmp_path / "c")
    assert {n.split(".")[0] for n in tensors} <= {"network", "momentum", "chosen", "sum"}


@pytest.mark.parametrize("good", [4, 5])  # steps, of three an epoch: the next one is in the middle or the last
def test_a_loss_that_is_not_finite_stops_with_its_step_and_keeps_the_last_good_weights(
    make_task, settings, tmp_path, good
):
    path, task = tmp_path / "c", make_task()
    take, calls = task.windows.batch, []

    def batch(rows):
        calls.append(1)
        still = task.network.training and sum(task_was_training) < good
        task_was_training.append(task.network.training)
        return take(rows) if still or not task.network.training else take(rows) * math.nan

    task_was_training = []
    task.windows.batch = batch
    with pytest.raises(SpkdError, match=rf"epoch 2, step {good - 3}: expected a finite loss.*train\.lr"):
        fit(task, settings, path)
    tensors, plain = checkpoint.load(path)
    assert plain["epoch"] == 1
    assert all(torch.isfinite(t).all() for t in tensors.values() if not t.isinf().any())


@pytest.mark.parametrize("infinite", [math.inf, -math.inf])
def test_one_infinite_loss_is_named_by_its_step_though_later_ones_are_finite(
    make_task, settings, tmp_path, monkeypatch, infinite
):
    calls, whole = [], Objective.__call__

    def broken_once(self, *words):
        total, parts = whole(self, *words)
        calls.append(total)
        return total + (infinite if len(calls) == 2 else 0), parts  # its gradient stays as it is

    monkeypatch.setattr(Objective, "__call__", broken_once)
    with pytest.raises(SpkdError, match="epoch 1, step 1: expected a finite loss, got total not finite"):
        fit(make_task(), settings, tmp_path / "c")


def test_weights_that_the_last_step_of_all_broke_are_no_result(make_task, settings, tmp_path):
    task, told = make_task(), []
    only = settings.model_copy(update={"epochs": 1, "batch": 48, "lr": 1e35})  # one step, of a finite loss
    with pytest.raises(SpkdError, match=r"epoch 1, step 0: .* not finite on validation and test windows; lower train"):
        loop.fit(task, only, 0, tmp_path / "c", KEY, lambda state: told.append(state.epoch))
    tensors, plain = checkpoint.load(tmp_path / "c")
    assert told == [0] and plain["history"] == []
    assert all(torch.isfinite(t).all() for t in tensors.values())


def test_a_checkpoint_of_another_run_is_refused(make_task, settings, tmp_path):
    fit(make_task(), settings, tmp_path / "c")
    with pytest.raises(SpkdError, match="a checkpoint of this run"):
        fit(make_task(), settings, tmp_path / "c", key="other")


def test_a_damaged_checkpoint_is_an_error_that_says_what_to_do(make_task, settings, tmp_path):
    fit(make_task(), settings, tmp_path / "c")
    whole = (tmp_path / "c").read_bytes()
    (tmp_path / "c").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SpkdError, match="delete it"):
        fit(make_task(), settings, tmp_path / "c")


def test_dropping_the_last_batch_keeps_the_batch_size_fixed(make_task, settings):
    task = make_task()
    sizes = {}
    for rule in ("drop", "keep"):
        changed = settings.model_copy(update={"batch": 20, "last_batch": rule})
        sizes[rule] = [len(b) for b in loop.batches_of(task, changed, 0, 0)]
    assert sizes == {"drop": [20, 20], "keep": [20, 20, 8]}


def test_a_last_batch_of_one_window_is_dropped_where_short_ones_are_kept(make_task, settings):
    task, kept = make_task(), settings.model_copy(update={"last_batch": "keep"})
    sizes = {
        batch: [len(rows) for rows in loop.batches_of(task, kept.model_copy(update={"batch": batch}), 0, 0)]
        for batch in (47, 46)
    }
    assert sizes == {47: [47], 46: [46, 2]}


def test_a_batch_of_more_windows_than_are_trained_on_is_refused_instead_of_training_nothing(make_task, settings):
    task, dropping = make_task(), settings.model_copy(update={"batch": 48})
    assert [len(rows) for rows in loop.batches_of(task, dropping, 0, 0)] == [48]
    with pytest.raises(SpkdError, match=r"train.batch: expected at most 48 \(training windows\), got 49"):
        loop.batches_of(task, settings.model_copy(update={"batch": 49}), 0, 0)


def test_the_checkpoint_is_of_every_nth_epoch_and_of_the_last_one(make_task, settings, tmp_path):
    path, found = tmp_path / "c", []

    def on_epoch(state):
        """What a kill right here would leave: the epoch that ends is not saved yet."""
        found.append(checkpoint.load(path)[1]["epoch"] if path.exists() else None)

    fit(make_task(), settings.model_copy(update={"checkpoint_every": 2}), path, on_epoch)
    assert found == [None, 0, 0, 2]
    assert checkpoint.load(path)[1]["epoch"] == 3


@pytest.mark.parametrize(("is_cuda", "signal", "resident", "stays"), [
    (True, True, [], True), (True, True, [True, True], True), (True, True, [True, False], False),
    (True, False, [True], False), (False, True, [True], False),
])  # fmt: skip
def test_a_step_stays_on_the_gpu_where_windows_and_all_teachers_answers_lie_there(is_cuda, signal, resident, stays):
    task = SimpleNamespace(
        network=torch.nn.Linear(1, 1),
        train=SimpleNamespace(is_cuda=is_cuda),
        windows=SimpleNamespace(signal=torch.zeros(1) if signal else None),
        teachers=[SimpleNamespace(resident=each) for each in resident],
    )
    assert loop._stays_on_gpu(task) == stays
    task.network = torch.nn.Sequential(torch.nn.Dropout1d())  # which draws: see training/step.py
    assert not loop._stays_on_gpu(task)


def test_every_epoch_sees_every_window_once_in_another_order(make_task, settings):
    task = make_task()
    orders = [torch.cat(loop.batches_of(task, settings.model_copy(update={"batch": 16}), 0, e)) for e in (0, 1)]
    assert torch.equal(orders[0].sort().values, task.train)
    assert torch.equal(orders[1].sort().values, task.train)
    assert not torch.equal(*orders)


def test_the_chosen_weights_are_those_of_the_first_of_the_best_validation_epochs(
    make_task, settings, tmp_path, monkeypatch
):
    task, weights = make_task(), []
    right = {"validation": [12, 18, 18], "test": [22, 2, 5]}  # of 24 windows each
    left = {part: iter(counts) for part, counts in right.items()}
    task.windows.label[task.test] = (task.windows.label[task.test] + 1) % 3  # other labels than those of validation

    def judged(task, rows, batch):
        part = "validation" if rows is task.validation else "test"
        labels = task.windows.label[rows]
        return torch.where(torch.arange(24) < next(left[part]), labels, (labels + 1) % 3), torch.zeros(())

    def keep(state):
        weights.append({name: tensor.clone() for name, tensor in task.network.state_dict().items()})

    monkeypatch.setattr(loop, "judged", judged)
    state = fit(task, settings, tmp_path / "c", keep)
    assert [(round(24 * e.validation["accuracy"]), round(24 * e.test["accuracy"])) for e in state.history] == [
        (12, 22), (18, 2), (18, 5)
    ]  # fmt: skip
    assert best_epoch(state.history, "validation").number == 2
    assert best_epoch(state.history, "test").number == 1
    equal = [all(torch.equal(state.chosen[name], w[name]) for name in w) for w in weights]
    assert equal == [False, False, True, False]


def test_the_chosen_weights_are_the_last_ones_where_no_subjects_validate(make_task, settings, tmp_path):
    task = make_task()
    task = replace(task, validation=task.validation[:0])
    state = fit(task, settings, tmp_path / "c")
    assert [epoch.validation for epoch in state.history] == [{}] * settings.epochs
    assert all(torch.equal(state.chosen[name], tensor) for name, tensor in task.network.state_dict().items())


def test_student_and_teacher_see_the_same_noise_of_a_step_and_no_two_steps_the_same(make_task, settings, tmp_path):
    noisy = settings.model_copy(update={"noise": 0.1, "epochs": 2, "batch": 24})  # two steps an epoch
    task, student, teacher = make_task(teachers=1), [], []

    def recording(seen):
        def render(x, rows):
            if task.network.training:
                seen.append((x, x - task.windows.batch(rows)))
            return x

        return render

    task.teachers[0].render = recording(teacher)
    fit(replace(task, render=recording(student)), noisy, tmp_path / "c")
    shape = (24, len(task.windows.channels), task.windows.length)
    streams = [seeding.torch_stream(0, "noise", epoch, step) for epoch in (0, 1) for step in (0, 1)]
    drawn = [0.1 * torch.randn(shape, generator=stream) for stream in streams]
    assert len(student) == len(teacher) == len({noise.numpy().tobytes() for noise in drawn}) == 4
    for (own, noise), (other, _), expected in zip(student, teacher, drawn, strict=True):
        torch.testing.assert_close(noise, expected, rtol=0, atol=1e-5)
        assert torch.equal(own, other)


def test_the_judged_loss_is_that_of_all_windows_however_they_are_cut(make_task):
    task = make_task()
    predicted, loss = step.judged(task, task.test, 7)  # 24 windows: three batches of 7 and one of 3
    with torch.no_grad():
        logits = task.network.eval()(task.windows.batch(task.test))
    whole = torch.nn.functional.cross_entropy(logits, task.windows.label[task.test])
    assert float(loss) == pytest.approx(float(whole), abs=1e-6)
    assert torch.equal(predicted, logits.argmax(1))


def test_an_epoch_of_more_windows_than_single_precision_can_count_is_summed():
    sums = {}
    for n_windows in (2**24, 1):
        step._tally(sums, {"total": torch.ones(())}, n_windows)
    assert {name: value.item() for name, value in sums.items()} == {"total": 2**24 + 1, "good_steps": 2}


def test_losses_and_accuracy_of_an_epoch_are_the_means_of_its_steps(make_task, settings, tmp_path, monkeypatch):
    totals, whole = [], Objective.__call__

    def recorded(self, logits, features, known, labels):
        total, parts = whole(self, logits, features, known, labels)
        right = (logits.argmax(1) == labels).sum() / 16
        totals.append([float(value.detach()) for value in (right, total, *parts.values())])
        return total, parts

    monkeypatch.setattr(Objective, "__call__", recorded)
    state = fit(make_task(teachers=1), settings, tmp_path / "c")
    assert len(totals) == 9  # three epochs of three steps
    for k, epoch in enumerate(state.history):
        means = [sum(values) / 3 for values in zip(*totals[3 * k : 3 * k + 3], strict=True)]
        others = (value for name, value in epoch.losses.items() if name != "total")
        named = [epoch.train_accuracy, epoch.losses["total"], *others]
        assert named == pytest.approx(means, rel=1e-6)


@pytest.fixture
def clock(monkeypatch):
    """A clock that a training step alone moves, by 2 seconds."""
    now, plain = [0.0], loop.train_step

    def step(*words):
        now[0] += 2
        return plain(*words)

    monkeypatch.setattr(loop, "train_step", step)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_an_epoch_says_its_rate_and_how_long_it_trained_without_the_pause_of_a_stop(
    make_task, settings, tmp_path, clock
):
    rates = [learning_rate(k, 3, settings.lr, settings.lr_final, settings.schedule) for k in range(3)]
    whole = fit(make_task(), settings, tmp_path / "whole")
    learner = loop.Learner(loop.Run(make_task(), 0, tmp_path / "stopped", KEY, ignore), settings)
    with Progress("stopped", 3, 48, 0) as progress:
        for _ in range(5):  # three steps an epoch: in the middle of the second
            learner.advance(progress)
    learner.keep()
    clock[0] += 1000
    for state in (whole, fit(make_task(), settings, tmp_path / "stopped")):
        assert [(e.lr, e.seconds, e.windows_per_s) for e in state.history] == [(rate, 6, 48 / 6) for rate in rates]


def test_the_sums_of_an_epoch_stay_in_their_place(make_task, settings, tmp_path):
    """A recorded step writes where it wrote when it was recorded."""
    places = []
    fit(make_task(), settings, tmp_path / "c", lambda state: places.append(list(state.sums.values())))
    first, *others = places[1:]
    assert len(first) > 2
    assert not any(value.requires_grad for value in first)  # which would keep every step's graph
    assert all(one is other for later in others for one, other in zip(first, later, strict=True))


def test_the_optimiser_adds_decay_and_momentum_as_published(settings):
    """Twice p -= lr v with v = momentum v + gradient + decay p: p is 2, 2 - 0.1 x 2 and 1.8 - 0.1 (1.6 + 1.9)."""
    changed = settings.model_copy(update={"lr": 0.1, "momentum": 0.8, "weight_decay": 0.5})
    parameter = torch.nn.Parameter(torch.tensor([2.0]))
    optimiser, found = loop.optimiser_of([parameter], changed), []
    for _ in range(2):
        parameter.grad = torch.ones(1)
        optimiser.step()
        found.append(parameter.item())
    assert found == pytest.approx([1.8, 1.45])


@pytest.fixture
def contrasting(make_task):
    """contrasting() -> a task whose loss has trainable parts, the same first weights every time."""

    def make():
        task = make_task(teachers=1)
        objective = Objective(0.5, [], {"dcd": 1.0}, LOSSES)
        teacher = LiveTeacher("t0", task.teachers[0].network, task.render, task.windows, ["norm"])
        features = {"norm": torch.zeros(2, 64, 8)}
        known = teacher(task.train[:2])
        objective.grow(features, [(known.name, known.logits, known.features)], torch.Generator().manual_seed(3))
        return replace(task, objective=objective, teachers=[teacher], tap_names=["norm"])

    return make


def test_the_trainable_parts_of_a_loss_learn_with_the_network(contrasting, settings, tmp_path):
    task, before = contrasting(), contrasting().objective.parts.state_dict()
    fit(task, settings, tmp_path / "c")
    after = task.objective.parts.state_dict()
    assert not torch.equal(after["dcd-norm-0.teacher.weight"], before["dcd-norm-0.teacher.weight"])
    tensors, _ = checkpoint.load(tmp_path / "c")
    assert torch.equal(tensors["parts.dcd-norm-0.teacher.weight"], after["dcd-norm-0.teacher.weight"])
    assert "momentum.parts.dcd-norm-0.teacher.weight" in tensors
    assert not any("parts" in name for name in tensors if name.startswith(("network.", "chosen.")))


def test_a_stopped_run_ends_with_the_bits_of_an_uninterrupted_one_those_of_its_losses_parts_too(
    contrasting, settings, tmp_path, monkeypatch
):
    begun = []
    monkeypatch.setattr(loop, "Progress", lambda *words: begun.append(words) or Progress(*words))
    whole, stopped, resumed = contrasting(), contrasting(), contrasting()
    expected, answers = fit(whole, settings, tmp_path / "whole"), []

    def teacher(rows, noise=None):
        answers.append(rows)
        if len(answers) == 5:  # three steps an epoch: in the middle of the second
            os.kill(os.getpid(), signal.SIGTERM)
        return stopped.teachers[0](rows, noise)

    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        fit(replace(stopped, teachers=[teacher]), settings, tmp_path / "stopped")
    _, plain = checkpoint.load(tmp_path / "stopped")
    assert (plain["epoch"], plain["step"]) == (1, 2)
    assert numbers(fit(resumed, settings, tmp_path / "stopped")) == numbers(expected)
    assert [3 * done / n_windows for _, _, n_windows, done in begun] == [0, 0, 5]  # steps: the time left is of the rest
    assert bits(resumed) == bits(whole)
    ended, unbroken = resumed.objective.parts.state_dict(), whole.objective.parts.state_dict()
    assert all(torch.equal(ended[name], tensor) for name, tensor in unbroken.items())


def test_a_stop_in_the_last_step_of_all_is_no_lost_one_and_costs_no_second_training(make_task, settings, tmp_path):
    """What comes behind the training, another run above all, must not begin."""
    task, path, told = make_task(teachers=1), tmp_path / "c", []
    answers, known = [], task.teachers[0]

    def teacher(rows, noise=None):
        answers.append(rows)
        if len(answers) == 9:  # three epochs of three steps
            os.kill(os.getpid(), signal.SIGTERM)
        return known(rows, noise)

    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        fit(replace(task, teachers=[teacher]), settings, path)
    again = replace(task, teachers=[teacher])
    assert len(fit(again, settings, path, told.append).history) == 3
    assert (len(answers), told) == (9, [])


def test_a_finished_training_is_found_again_with_its_chosen_weights(make_task, settings, tmp_path):
    expected, found = (fit(make_task(), settings, tmp_path / "c").chosen for _ in range(2))
    assert expected.keys() == found.keys() and expected
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_losses_are_means_of_the_windows_that_are_trained_on(make_task, settings, tmp_path):
    """Even logits cost log 3 for every window; of 48 windows two batches of 20 are trained on."""
    task = make_task()
    torch.nn.init.zeros_(task.network.head.weight)
    still = settings.model_copy(update={"epochs": 1, "batch": 20, "last_batch": "drop", "lr": 1e-12, "lr_final": 1e-12})
    (epoch,) = fit(task, still, tmp_path / "c").history
    assert epoch.losses["cross_entropy"] == pytest.approx(math.log(3))


def test_a_step_begins_to_read_the_next_ones_windows(make_task, settings, tmp_path, monkeypatch):
    task, asked = make_task(), []
    monkeypatch.setattr(task.windows, "expect", lambda *batches: asked.extend(batches))
    fit(task, settings, tmp_path / "c.safetensors")
    due = [batch for epoch in range(settings.epochs) for batch in loop.batches_of(task, settings, 0, epoch)[1:]]
    assert [rows.tolist() for rows in asked] == [rows.tolist() for rows in due]
