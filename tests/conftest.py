"""Fixtures that every test folder shares."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spkd.data import windowset

REPO = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Callable[..., Path]:
    """The path of real data, `shared_data("pamap2", "fragment.dat")`; skips with the reason where it is missing."""
    root = Path(os.environ.get("SPKD_TEST_DATA", REPO / ".." / "shared" / "data")).resolve()

    def find(*parts: str) -> Path:
        path = root.joinpath(*parts)
        if not path.exists():
            pytest.skip(f"real data {'/'.join(parts)} is not in {root}: set SPKD_TEST_DATA to the folder that holds it")
        return path

    return find


@pytest.fixture(scope="session")
def waves():
    """96 windows of 4 subjects in 3 classes that a network can tell apart: noisy sine waves of 1, 2 and 3 periods."""
    rng = np.random.default_rng(0)
    n = 96
    label = np.arange(n) % 3
    subject = np.sort(np.arange(n) % 4)
    t = np.arange(32)
    waves = [np.sin(2 * np.pi * (1 + c) * t / 32 + rng.uniform(0, 6)) for c in label]
    signal = np.concatenate([np.stack([w, 0.5 * w]) + rng.normal(0, 0.3, (2, 32)) for w in waves], axis=1)
    content = {"signal": signal, "starts": np.arange(n) * 32, "label": label, "subject": subject}
    manifest = {
        "dataset": "waves", "channels": ["x", "y"], "classes": ["a", "b", "c"], "subjects": ["1", "2", "3", "4"],
        "rate_hz": 32.0, "length": 32, "step": 32, "rule": "sound", "drops": {}, "first_seen": {}, "notes": {},
        "settings": {}, "origin": "simulated", "licence": "", "citation": "",
    }  # fmt: skip
    return windowset.build(content, manifest)
