"""Weights from elsewhere become one run of the store, however often they are asked for."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from spkd.evidence import tracking
from spkd.evidence.reproduction import imported, portable


@pytest.fixture
def weights(tmp_path: Path) -> tuple[Path, str]:
    """(a safetensors file, the hash of its tensors)."""
    path = tmp_path / "some.safetensors"
    save_file({"w": np.arange(6, dtype=np.float32)}, path)
    return path, portable.weights_sha256(path)


def test_the_same_weights_are_kept_once_and_their_early_state_apart(here: Path, weights: tuple[Path, str]) -> None:
    file, sha256 = weights
    with tracking.open_run("student", here / "student", "x") as parent:
        first = imported.kept(file, sha256, "teacher.pt", parent, here / "a", **{"imported.run_id": "elsewhere"})
        again = imported.kept(file, sha256, "under another name.pt", parent, here / "b")
        early = imported.kept(file, sha256, "early", parent, here / "c", early=True)
        assert imported.kept(file, sha256, "early", parent, here / "d", early=True) == early
    assert again == first != early
    run = tracking.get(first)
    assert (run.status, run.tags["kind"], run.tags["imported.run_id"]) == ("FINISHED", "imported", "elsewhere")
    assert portable.has_weights(first, sha256) and portable.has_weights(early, sha256)
    assert tracking.listing(early, "model") == ["model/early.safetensors"]


def test_a_run_whose_file_is_gone_is_not_taken(here: Path, weights: tuple[Path, str]) -> None:
    file, sha256 = weights
    with tracking.open_run("student", here / "student", "x") as parent:
        first = imported.kept(file, sha256, "teacher.pt", parent, here / "a")
        tracking.artifact(first, "model/weights.safetensors").unlink()
        assert imported.kept(file, sha256, "teacher.pt", parent, here / "b") != first
