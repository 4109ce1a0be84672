"""What draws from torch's global generator, as dropout and layers' default weights do, derives from the run's seed."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from spkd import plugin
from spkd.config import Section
from spkd.experiment.record import first_step
from spkd.training import checkpoint, loop, weights
from spkd.training.progress import Progress
from spkd.training.side_by_side import fit_many

N_CLASSES, N_CHANNELS = 3, 2  # of the windows of conftest.py


class Settings(Section):
    """Nothing to set."""


class Dropping(nn.Module):
    """A network with default weights that forgets half of what it sees, by a layer and by a function."""

    def __init__(self):
        super().__init__()
        self.first, self.drop = nn.Conv1d(N_CHANNELS, 8, 3), nn.Dropout(0.5)
        self.share = 0.1
        self.head = nn.Linear(8, N_CLASSES)

    def forward(self, x):
        kept = nn.functional.dropout(self.drop(self.first(x)).relu(), self.share, self.training)
        return self.head(kept.mean(2))


@pytest.fixture
def make_run(make_task, settings, tmp_path):
    """make_run(folder, seed) -> a run of a network with dropout, of the same first weights every time."""

    def make(folder, seed=0):
        torch.manual_seed(0)
        task = replace(make_task(), network=Dropping())
        torch.manual_seed(sum(folder.encode()))  # as whatever ran before in this process left it
        (tmp_path / folder).mkdir(exist_ok=True)
        return loop.Run(task, seed, tmp_path / folder / str(seed), "key", lambda state: None)

    return make


def fit(run, settings):
    return loop.fit(run.task, settings, run.seed, run.path, run.key, run.on_epoch)


def assert_same(one, other):
    ours, theirs = checkpoint.load(one.path)[0], checkpoint.load(other.path)[0]
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_dropout_gives_the_same_bits_alone_and_side_by_side(make_run, settings):
    alone = [make_run("alone", seed) for seed in (0, 1)]
    for run in alone:
        fit(run, settings)
    many = [make_run("many", seed) for seed in (0, 1)]
    fit_many(many, settings)
    for one, other in zip(alone, many, strict=True):
        assert_same(one, other)


def test_dropout_goes_on_after_a_stop_with_the_bits_of_a_run_without_one(make_run, settings):
    stopped, whole = make_run("stopped"), make_run("whole")
    learner = loop.Learner(stopped, settings)
    with Progress("", settings.epochs, learner.n_windows, 0) as progress:
        learner.advance(progress)
    learner.keep()
    fit(make_run("stopped"), settings)
    fit(whole, settings)
    assert_same(stopped, whole)


def test_two_steps_forget_different_things(make_run, settings):
    run = make_run("run")
    seen = []
    run.task.network.drop.register_forward_hook(lambda layer, x, y: seen.append(y == 0) if layer.training else None)
    fit(run, settings)
    assert len(seen) > 2
    assert not any(torch.equal(seen[0], other) for other in seen[1:])


def test_the_first_step_that_is_compared_between_machines_is_without_dropout_layers(make_run):
    task = make_run("run").task
    task.network.share = 0.0
    rows = task.train[:16]
    assert first_step(task, rows) == first_step(task, rows)


def test_default_weights_are_the_generators_and_leave_the_global_state_alone(monkeypatch):
    module = type("own", (), {"Settings": Settings, "build": staticmethod(lambda *words: Dropping())})
    load = plugin.load
    monkeypatch.setattr(plugin, "load", lambda shelf, name: module if name == "own" else load(shelf, name))

    def built(global_seed, seed):
        torch.manual_seed(global_seed)
        generator = torch.Generator().manual_seed(seed)
        made = weights.build_of("own-1", {"model": "own"}, "signal", N_CHANNELS, N_CLASSES, generator)
        assert torch.initial_seed() == global_seed
        return made.first.weight

    assert torch.equal(built(0, 7), built(1, 7))
    assert not torch.equal(built(0, 7), built(0, 8))
