"""One call for n runs gives the losses and gradients of each run's own objective, for every loss and weighting."""

import inspect
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spkd import config, plugin
from spkd.errors import SpkdError
from spkd.losses.sp import Products
from spkd.training import loop
from spkd.training.objective import Objective
from spkd.training.stacked_losses import StackedLosses, kind, vmapped
from spkd.training.teachers import Knowledge

PARAMS = config.read(Path(__file__).parents[2] / "params.yaml")
N, B, CLASSES = 3, 6, 3
CLOSE = {"rtol": 1e-12, "atol": 1e-12}  # float64, one step
SHARED = [name for name in plugin.names("losses") if not hasattr(plugin.load("losses", name), "parts")]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Answers:
    """A teacher with random answers of its own; sp's Products where asked for."""

    def __init__(self, name, seed, tap, products=False, channels=5):
        self.name, self.seed, self.tap, self.products, self.channels = name, seed, tap, products, channels

    def __call__(self, rows, noise=None):
        b, feature = len(rows), draw(20, self.channels, 8, seed=self.seed)[rows].abs()
        known = Products(feature.flatten(1) @ feature.flatten(1).T) if self.products else feature
        return Knowledge(self.name, draw(20, CLASSES, seed=self.seed + 1)[rows][:b], {self.tap: known})


@pytest.fixture
def check(make_task):
    """check(objective, n_teachers, taps, products): compares one call for three runs with three calls."""

    def run(objective, n_teachers, own_tap, known_tap, products=False):
        plain = make_task()
        label = torch.arange(20) % CLASSES
        windows = type("Windows", (), {"label": label})()
        tasks = [
            replace(
                plain, windows=windows, objective=objective, tap_names=[own_tap],
                teachers=[Answers(f"t{k}", 10 * n + 2 * k, known_tap, products) for k in range(n_teachers)],
            )
            for n in range(N)
        ]  # fmt: skip
        rows = [torch.arange(n, n + B) for n in range(N)]
        outputs = [draw(N, B, CLASSES, seed=90).requires_grad_(), draw(N, B, 5, 8, seed=91).requires_grad_()]
        states = [loop.State(step=2) for _ in tasks]
        losses = StackedLosses(tasks, states)
        totals = losses(rows, [None] * N, outputs[0], {own_tap: outputs[1]})
        gradients = torch.autograd.grad(totals.sum(), outputs, allow_unused=True)
        losses.hand_back()
        for n, task in enumerate(tasks):
            one = [output[n].detach().requires_grad_() for output in outputs]
            known = [(k.name, k.logits, k.features) for k in (teacher(rows[n]) for teacher in task.teachers)]
            total, parts = task.objective(one[0], {own_tap: one[1]}, known, label[rows[n]])
            torch.testing.assert_close(totals[n], total, **CLOSE)
            for ours, theirs in zip(gradients, torch.autograd.grad(total, one, allow_unused=True), strict=True):
                torch.testing.assert_close(None if ours is None else ours[n], theirs, **CLOSE)
            expected = {}
            loop.tally(expected, 2, parts, total.detach(), (one[0].argmax(1) == label[rows[n]]).double().mean())
            assert states[n].sums.keys() == expected.keys()
            for name, value in expected.items():
                torch.testing.assert_close(states[n].sums[name], value, rtol=1e-7, atol=1e-7)

    return run


@pytest.mark.parametrize("name", SHARED)
def test_every_loss_without_parts_is_the_same_for_many_runs_at_once(check, name):
    module = plugin.load("losses", name)
    beta = {} if module.SEES == "labels" or name == "kd" else {name: 2.0}
    own, known = next(iter(getattr(module, "TAPS", {"group3": "group3"}).items()))
    objective = Objective(0.3, [], beta, PARAMS["losses"], taps=["group3"])
    check(objective, 1 if name == "simkd" else 2, own, known)
    if "Products" in dict(inspect.getmembers(module)):
        check(objective, 2, own, known, products=True)


@pytest.mark.parametrize("name", plugin.names("weightings"))
def test_every_weighting_is_the_same_for_many_runs_at_once(check, name):
    objective = Objective(0.3, [], {}, PARAMS["losses"], weighting=name, weightings=PARAMS["weightings"])
    check(objective, 2, "group3", "group3")


def test_only_runs_with_the_same_losses_and_kinds_of_answers_are_alike(make_task):
    def task(beta=2.0, channels=5, name="t", tap="group3", loss="at"):
        objective = Objective(0.3, [], {loss: beta}, PARAMS["losses"], taps=[tap])
        teacher = Answers(name, 0, tap, channels=channels)
        return replace(make_task(), objective=objective, teachers=[teacher], tap_names=[tap])

    others = (task(1.0), task(channels=6), task(name="u"), task(tap="group2"))
    assert kind(task()) == kind(task())
    assert all(kind(task()) != kind(other) for other in others)
    assert kind(make_task()) == kind(make_task()) != kind(task())


def test_what_torch_cannot_stack_names_the_runs_and_what_to_do(make_task):
    with pytest.raises(SpkdError, match=r"waves, waves: .*torch\.vmap.*side_by_side 1"):
        vmapped(lambda x: x.sum().item(), [make_task(), make_task()])(torch.ones(2, 3))
