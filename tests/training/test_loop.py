import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spkd import config
from spkd.errors import SpkdError
from spkd.training import checkpoint, loop
from spkd.training.objective import Objective
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


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(make_task, settings, tmp_path):
    tasks = [make_task(teachers=1) for _ in range(3)]
    for k, seed in enumerate((0, 0, 1)):
        loop.fit(tasks[k], settings, seed, tmp_path / f"{k}", KEY, ignore)
    assert bits(tasks[0]) == bits(tasks[1]) != bits(tasks[2])


def test_a_stopped_run_ends_with_the_bits_of_an_uninterrupted_one(make_task, settings, tmp_path):
    whole, stopped, resumed = (make_task(teachers=1) for _ in range(3))
    expected = fit(whole, settings, tmp_path / "whole")

    class Signal:
        calls = 0

        def __call__(self, rows, noise=None):
            Signal.calls += 1
            if Signal.calls == 5:  # three steps an epoch: in the middle of the second
                os.kill(os.getpid(), signal.SIGTERM)
            return stopped.teachers[0](rows, noise)

    interrupted = replace(stopped, teachers=[Signal()])
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        fit(interrupted, settings, tmp_path / "stopped")
    _, plain = checkpoint.load(tmp_path / "stopped")
    assert (plain["epoch"], plain["step"]) == (1, 2)
    assert numbers(fit(resumed, settings, tmp_path / "stopped")) == numbers(expected)
    assert bits(resumed) == bits(whole)


KILLED_RUN = """
import os, signal, sys
from pathlib import Path
import pytest

def test_dies(make_task, settings):
    from spkd.training import loop
    task = make_task(teachers=1)
    seen = []
    def batch(rows, take=task.windows.batch):
        seen.append(len(rows))
        if sum(n == settings.batch for n in seen) == 8:
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


def test_nothing_reaches_a_teacher(make_task, settings, tmp_path):
    task = make_task(teachers=1)
    network = task.teachers[0].network
    before = {n: t.clone() for n, t in network.state_dict().items()}
    fit(task, settings, tmp_path / "c")
    assert all(p.grad is None for p in network.parameters())
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items())
    tensors, _ = checkpoint.load(tmp_path / "c")
    assert {n.split(".")[0] for n in tensors} <= {"network", "momentum", "chosen", "sum"}


def test_a_loss_that_is_not_finite_stops_with_its_step_and_keeps_the_last_good_weights(make_task, settings, tmp_path):
    path, task = tmp_path / "c", make_task()
    take, calls = task.windows.batch, []

    def batch(rows):
        calls.append(1)
        good = task.network.training and sum(task_was_training) < 4
        task_was_training.append(task.network.training)
        return take(rows) if good or not task.network.training else take(rows) * math.nan

    task_was_training = []
    task.windows.batch = batch
    with pytest.raises(SpkdError, match=r"epoch 2, step 1: expected a finite loss.*train\.lr"):
        fit(task, settings, path)
    tensors, plain = checkpoint.load(path)
    assert plain["epoch"] == 1
    assert all(torch.isfinite(t).all() for t in tensors.values() if not t.isinf().any())


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


def test_every_epoch_sees_every_window_once_in_another_order(make_task, settings):
    task = make_task()
    orders = [torch.cat(loop.batches_of(task, settings.model_copy(update={"batch": 16}), 0, e)) for e in (0, 1)]
    assert torch.equal(orders[0].sort().values, task.train)
    assert torch.equal(orders[1].sort().values, task.train)
    assert not torch.equal(*orders)


def test_the_chosen_epoch_is_the_first_of_the_best_on_validation():
    def epoch(number, validation, test):
        return loop.Epoch(number, 0.1, {}, 0.5, {"accuracy": validation}, {"accuracy": test}, 1.0, 1.0)

    history = [epoch(1, 0.5, 0.9), epoch(2, 0.7, 0.1), epoch(3, 0.7, 0.2)]
    assert loop.best_epoch(history, "validation").number == 2
    assert loop.best_epoch(history, "test").number == 1


def test_noise_is_the_same_for_student_and_teacher_and_repeats(make_task, settings, tmp_path):
    noisy = settings.model_copy(update={"noise": 0.1, "epochs": 1})
    first, second = make_task(teachers=1), make_task(teachers=1)
    assert numbers(fit(first, noisy, tmp_path / "a")) == numbers(fit(second, noisy, tmp_path / "b"))
    assert bits(first) == bits(second)


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


def test_a_stopped_run_with_trainable_parts_ends_with_the_bits_of_an_uninterrupted_one(contrasting, settings, tmp_path):
    whole, stopped, resumed = contrasting(), contrasting(), contrasting()
    expected, answers = fit(whole, settings, tmp_path / "whole"), []

    def teacher(rows, noise=None):
        answers.append(rows)
        if len(answers) == 5:  # three steps an epoch: in the middle of the second
            os.kill(os.getpid(), signal.SIGTERM)
        return stopped.teachers[0](rows, noise)

    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        fit(replace(stopped, teachers=[teacher]), settings, tmp_path / "stopped")
    assert numbers(fit(resumed, settings, tmp_path / "stopped")) == numbers(expected)
    assert bits(resumed) == bits(whole)
    ended, unbroken = resumed.objective.parts.state_dict(), whole.objective.parts.state_dict()
    assert all(torch.equal(ended[name], tensor) for name, tensor in unbroken.items())
