"""A step needs nothing but the GPU, whichever view, loss and weighting there are: no GPU could record another one.

Tensors without numbers stand for those on a GPU, so that it shows on any machine; gradients they cannot have there.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spkd import config, plugin
from spkd.data import scaling
from spkd.data.batches import DeviceWindows
from spkd.training.objective import Objective
from spkd.training.step import Task, judged, train_step
from spkd.training.taps import taps
from spkd.training.teachers import LiveTeacher

GPU = "cuda:0"
TREE = config.resolve(config.read(Path(__file__).parents[2] / "params.yaml"), {"views.gaf.size": 12})
TAPS = ["group1", "group3"]


class Moves(TorchDispatchMode):
    """Notes what is called with tensors on two devices."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
        if len({tensor.device for tensor in tensors}) > 1:
            self.found.append(str(function))
        return result


def network(view, model="wide_resnet"):
    module = plugin.load("models", model)
    more = {} if model == "wide_resnet" else {"teacher_channels": 64}
    settings, dims = module.Settings(depth=10, width=1, **more), plugin.load("views", view).DIMS
    return module.build(settings, 2, 3, dims, torch.Generator()).to(GPU)


def to_gpu(module, *device, **layout):
    """torch's own `to` does not know tensors without numbers."""
    for part in module.modules() if device else ():
        for name, parameter in part.named_parameters(recurse=False):
            setattr(part, name, torch.nn.Parameter(parameter.detach().to(GPU), parameter.requires_grad))
        for name, buffer in part.named_buffers(recurse=False):
            setattr(part, name, buffer.to(GPU))
    return module


def forget():
    """What parts keep from call to call: where there is a GPU, other tests must not find these tensors."""
    for name in [name for name in sys.modules if name.startswith("spkd.")]:
        for kept in vars(sys.modules[name]).values():
            getattr(kept, "cache_clear", lambda: None)()


@pytest.fixture(autouse=True)
def nothing_is_kept():
    forget()
    yield
    forget()


@pytest.fixture
def moved(windows, monkeypatch):
    """moved(view, loss, weighting) -> what a step and an evaluation of such a student call across devices.

    Of two teachers, on the signal and the Gramian field. Whatever reads a number raises.
    """
    monkeypatch.setattr(torch.Tensor, "backward", lambda total: None)
    monkeypatch.setattr(torch.nn.Module, "to", to_gpu)
    optimiser = SimpleNamespace(zero_grad=lambda set_to_none: None, step=lambda: None)

    def drawn(view):
        module, settings = plugin.load("views", view), config.part("views", view, TREE)
        stored = module.prepare(windows, settings) if hasattr(module, "prepare") else {}
        with monkeypatch.context() as once:
            once.setattr(torch.Tensor, "__int__", lambda tensor: 8)  # of the data set, when the view is made
            return module.view(settings, {name: torch.from_numpy(array).to(GPU) for name, array in stored.items()})

    def call(view="signal", loss=None, weighting="fixed"):
        beta, model = (
            {loss: 1.0} if loss else {},
            getattr(plugin.load("losses", loss or "kd"), "STUDENT", "wide_resnet"),
        )
        with FakeTensorMode(allow_non_fake_inputs=True):
            seen = DeviceWindows(windows, scaling.measure(windows, np.arange(len(windows)), "training"), GPU)
            rows = torch.arange(len(windows), device=GPU)
            objective = Objective(0.5, [], beta, TREE["losses"], 1.0, weighting, TREE["weightings"], TAPS)
            own, known = objective.tapped()
            render, student = drawn(view), network(view, model)
            teachers = [LiveTeacher(name, network(name), drawn(name), seen, known) for name in ("signal", "gaf")]
            if objective.needs_parts:
                with taps(student, own) as features:
                    student(render(seen.batch(rows[:4]), rows[:4]))
                answers = [(k.name, k.logits, k.features) for k in (teacher(rows[:4]) for teacher in teachers)]
                objective.grow(features, answers, torch.Generator())
            task = Task(student, render, seen, rows, rows, rows, objective, teachers, own, "fake")
            sums = {}
            train_step(task, optimiser, sums, rows[:16])  # makes what is kept from call to call
            with Moves() as moves:
                train_step(task, optimiser, sums, rows[:16])
                judged(task, rows[:16], 16)
            assert {tensor.device for tensor in sums.values()} == {torch.device(GPU)}
            return moves.found

    return call


@pytest.mark.parametrize("view", plugin.names("views"))
def test_a_step_of_any_view_stays_on_the_gpu(moved, view):
    assert moved(view) == []


@pytest.mark.parametrize("loss", sorted({*plugin.names("losses")} - {"cross_entropy", "kd"}))  # which are in every step
def test_a_step_of_any_loss_stays_on_the_gpu(moved, loss):
    assert moved(loss=loss) == []


@pytest.mark.parametrize("weighting", plugin.names("weightings"))
def test_a_step_of_any_weighting_stays_on_the_gpu(moved, weighting):
    assert moved(weighting=weighting) == []
