"""Every loss of the folder keeps the shelf's contract, whichever losses there are."""

import inspect
from pathlib import Path

import pytest
import torch

from spkd import config, plugin

TREE = config.read(Path(__file__).parents[2] / "params.yaml")
NAMES = plugin.names("losses")


@pytest.mark.parametrize("name", NAMES)
def test_its_entry_in_params_fits_its_settings(name):
    assert config.part("losses", name, TREE) is not None


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_sees_and_has_a_function_of_its_name(name):
    module = plugin.load("losses", name)
    assert module.SEES in ("labels", "logits", "features")
    assert callable(getattr(module, name))


@pytest.mark.parametrize("name", NAMES)
def test_its_function_takes_every_setting(name):
    module = plugin.load("losses", name)
    function = getattr(module, "summed", getattr(module, name))
    assert set(module.Settings.model_fields) <= set(inspect.signature(function).parameters)


@pytest.mark.parametrize("name", NAMES)
def test_its_value_is_a_finite_scalar_with_a_gradient(name):
    module = plugin.load("losses", name)
    settings = config.part("losses", name, TREE).model_dump()
    shape = (6, 5, 4) if module.SEES == "features" else (6, 5)
    student = torch.randn(*shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    teacher = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    if hasattr(module, "parts"):
        settings["parts"] = module.parts(student, teacher, torch.Generator(), **settings)
    if module.SEES == "labels":
        value = getattr(module, name)(student, torch.arange(6) % 5, **settings)
    elif hasattr(module, "summed"):
        value = module.summed([student], [[teacher]], [1.0], **settings)
    else:
        value = getattr(module, name)(student, teacher, **settings)
    value.backward()
    assert value.shape == ()
    assert torch.isfinite(value)
    assert student.grad.abs().sum() > 0
