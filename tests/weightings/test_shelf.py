"""Every weighting of the folder keeps the shelf's contract, whichever weightings there are."""

from pathlib import Path

import pytest
import torch

from spkd import config, plugin

TREE = config.read(Path(__file__).parents[2] / "params.yaml")
COMPUTED = [name for name in plugin.names("weightings") if plugin.load("weightings", name).MIXES]


@pytest.mark.parametrize("n_teachers", [1, 2, 3])
@pytest.mark.parametrize("name", COMPUTED)
def test_its_weights_are_shares_that_sum_to_one_for_every_window(name, n_teachers):
    assert plugin.load("weightings", name).MIXES in ("losses", "logits")
    logits = list(torch.randn(n_teachers, 7, 4, generator=torch.Generator().manual_seed(0)) * 3)
    settings = config.part("weightings", name, TREE).model_dump()
    weights = getattr(plugin.load("weightings", name), name)(logits, torch.arange(7) % 4, **settings)
    assert weights.shape == (n_teachers, 7)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(0), torch.ones(7))


@pytest.mark.parametrize("name", COMPUTED)
def test_its_weights_are_as_precise_as_the_logits(name):
    logits = list(torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    settings = config.part("weightings", name, TREE).model_dump()
    weights = getattr(plugin.load("weightings", name), name)(logits, torch.arange(7) % 4, **settings)
    torch.testing.assert_close(weights.sum(0), torch.ones(7, dtype=torch.float64), rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", [name for name in COMPUTED if plugin.load("weightings", name).MIXES == "losses"])
def test_its_weights_for_half_precision_logits_are_in_single_precision(name):
    logits = [known.half() for known in torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(0)) * 3]
    settings = config.part("weightings", name, TREE).model_dump()
    weigh, labels = getattr(plugin.load("weightings", name), name), torch.arange(7) % 4
    weights = weigh(logits, labels, **settings)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights, weigh([known.float() for known in logits], labels, **settings))


@pytest.mark.parametrize("name", COMPUTED)
def test_equal_teachers_have_equal_weights(name):
    logits = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    settings = config.part("weightings", name, TREE).model_dump()
    weights = getattr(plugin.load("weightings", name), name)([logits, logits], torch.arange(7) % 4, **settings)
    torch.testing.assert_close(weights, torch.full((2, 7), 0.5))
