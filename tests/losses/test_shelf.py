"""Every loss of the folder keeps the shelf's contract, whichever losses there are."""

from pathlib import Path

import pytest
import torch

from spkd import config, plugin

TREE = config.read(Path(__file__).parents[2] / "params.yaml")
NAMES = plugin.names("losses")
OF_TEACHERS = [name for name in NAMES if plugin.load("losses", name).SEES != "labels"]
WITHOUT_PARTS = [name for name in OF_TEACHERS if not hasattr(plugin.load("losses", name), "parts")]


def drawn(name, seed):
    """What a network gives such a loss: features (6, 5, 4) or logits (6, 5)."""
    shape = (6, 5, 4) if plugin.load("losses", name).SEES == "features" else (6, 5)
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def value(name, student, teacher):
    """The loss by its entry in params.yaml, every key of which it takes as an argument."""
    module, settings = plugin.load("losses", name), config.part("losses", name, TREE).model_dump()
    if hasattr(module, "parts"):
        settings["parts"] = module.parts(student, teacher, torch.Generator(), **settings)
    if module.SEES == "labels":
        return getattr(module, name)(student, torch.arange(6) % 5, **settings)
    if hasattr(module, "summed"):
        return module.summed([student], [[teacher]], [1.0], **settings)
    return getattr(module, name)(student, teacher, **settings)


@pytest.mark.parametrize("name", NAMES)
def test_its_value_is_a_finite_scalar_with_a_gradient_that_reaches_no_teacher(name):
    assert plugin.load("losses", name).SEES in ("labels", "logits", "features")
    student, teacher = (drawn(name, seed).requires_grad_() for seed in (0, 1))
    found = value(name, student, teacher)
    found.backward()
    assert found.shape == ()
    assert torch.isfinite(found)
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("name", WITHOUT_PARTS)
def test_its_value_of_half_precision_is_taken_in_single_precision(name):
    # The squares of such features lie beyond 65504, where half precision ends.
    scale = 300 if plugin.load("losses", name).SEES == "features" else 1
    student, teacher = ((scale * drawn(name, seed)).half() for seed in (0, 1))
    found = value(name, student, teacher)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), value(name, student.double(), teacher.double()), rtol=1e-4, atol=0)
