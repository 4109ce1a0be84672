"""Fixtures that every test folder shares."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

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
