"""Every view of the folder keeps the shelf's contract, whichever views there are."""

from pathlib import Path

import numpy as np
import pytest
import torch

from spkd import config, plugin
from spkd.data.windowset import WindowSet
from spkd.errors import SpkdError

TREE = config.read(Path(__file__).parents[2] / "params.yaml")
NAMES = plugin.names("views")
N, N_CHANNELS, LENGTH = 6, 3, 100


@pytest.fixture(params=NAMES)
def rendered(request):
    """(module, function of (x, rows), x) of one view, prepared where it asks for that."""
    module = plugin.load("views", request.param)
    settings = config.part("views", request.param, TREE)
    signal = np.random.default_rng(0).standard_normal((N_CHANNELS, N * LENGTH)).cumsum(1).astype(np.float32)
    zeros = np.zeros(N, np.int16)
    windows = WindowSet(signal, np.arange(N) * LENGTH, zeros, zeros, {"length": LENGTH})
    stored = module.prepare(windows, settings) if hasattr(module, "prepare") else {}
    x = torch.from_numpy(windows.windows(np.arange(N)))
    return module, module.view(settings, {name: torch.from_numpy(a) for name, a in stored.items()}), x


def test_it_gives_one_finite_picture_per_channel_in_its_dims(rendered):
    module, view, x = rendered
    picture = view(x, torch.arange(N))
    assert module.DIMS in (1, 2)
    assert picture.shape[:2] == (N, N_CHANNELS)
    assert picture.ndim == 2 + module.DIMS
    assert picture.dtype == x.dtype
    assert torch.isfinite(picture).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_its_picture_is_of_the_type_of_the_signal(rendered, dtype):
    _, view, x = rendered
    picture = view(x.to(dtype), torch.arange(N))
    assert picture.dtype == dtype
    assert torch.isfinite(picture).all()


def test_a_window_looks_the_same_in_any_batch(rendered):
    _, view, x = rendered
    rows = torch.tensor([3, 0, 5])
    torch.testing.assert_close(view(x[rows], rows), view(x, torch.arange(N))[rows], atol=1e-6, rtol=0)


def test_different_windows_look_different(rendered):
    _, view, x = rendered
    picture = view(x, torch.arange(N)).flatten(1)
    assert (torch.cdist(picture, picture) + torch.eye(N) > 1e-3).all()


@pytest.mark.parametrize("name", [n for n in NAMES if hasattr(plugin.load("views", n), "prepare")])
def test_what_prepare_reads_is_declared_and_nothing_else(name):
    """Changing any other setting leaves what is stored as it is: a run may draw it anew without `dvc repro`."""
    module, settings = plugin.load("views", name), config.part("views", name, TREE)
    signal = np.random.default_rng(0).standard_normal((N_CHANNELS, N * LENGTH)).cumsum(1).astype(np.float32)
    zeros = np.zeros(N, np.int16)
    windows = WindowSet(signal, np.arange(N) * LENGTH, zeros, zeros, {"length": LENGTH})
    before = module.prepare(windows, settings)
    for key, value in settings.model_dump().items():
        after = module.prepare(windows, settings.model_copy(update={key: value * 30}))
        same = before.keys() == after.keys() and all(np.array_equal(before[k], after[k]) for k in before)
        assert same == (key not in module.PREPARED), key


def test_a_view_that_prepares_and_does_not_say_from_what_is_refused(monkeypatch):
    monkeypatch.delattr(plugin.load("views", "persistence"), "PREPARED")
    with pytest.raises(SpkdError, match=r"views/persistence.py: expected .*, got no PREPARED"):
        plugin.load("views", "persistence")
