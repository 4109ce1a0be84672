"""Seeds that no version may move, and flags that are what they say."""

import os

import pytest
import torch

from spkd import seeding
from spkd.errors import SpkdError


@pytest.fixture
def flags(monkeypatch):
    """Puts every flag back after the test."""
    cudnn, matmul, fill = torch.backends.cudnn, torch.backends.cuda.matmul, torch.utils.deterministic
    places = [(cudnn, "benchmark"), (cudnn, "allow_tf32"), (matmul, "allow_tf32"), (fill, "fill_uninitialized_memory")]
    before = [getattr(owner, name) for owner, name in places]
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # so that it is taken back where there was none
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    mode, threads = torch.get_deterministic_debug_mode(), torch.get_num_threads()
    yield
    torch.set_deterministic_debug_mode(mode)
    torch.set_num_threads(threads)
    for (owner, name), value in zip(places, before, strict=True):
        setattr(owner, name, value)


@pytest.mark.parametrize("tf32", [True, False])
@pytest.mark.parametrize("deterministic", [True, False])
def test_every_flag_is_what_was_asked_for_and_what_is_recorded(flags, deterministic, tf32):
    recorded = seeding.set_flags(deterministic, tf32, 1)
    assert torch.get_deterministic_debug_mode() == (2 if deterministic else 0)
    assert not torch.utils.deterministic.fill_uninitialized_memory
    assert torch.backends.cudnn.benchmark is not deterministic
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (tf32, tf32)
    assert (torch.get_num_threads(), os.environ["CUBLAS_WORKSPACE_CONFIG"]) == (1, ":4096:8")
    assert recorded == {
        "deterministic_algorithms": deterministic, "cudnn.benchmark": not deterministic, "cudnn.allow_tf32": tf32,
        "matmul.allow_tf32": tf32, "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "threads": 1,
        "interop_threads": torch.get_num_interop_threads(),
    }  # fmt: skip


def test_where_an_operation_may_only_warn_the_record_says_so(flags):
    assert seeding.set_flags(True, False, 1, warn_only=True)["deterministic_algorithms"] == "warn_only"
    assert torch.get_deterministic_debug_mode() == 1
    assert seeding.set_flags(False, False, 1, warn_only=True)["deterministic_algorithms"] is False


def test_no_thread_count_means_all_cores_and_a_workspace_of_ones_own_stays(flags, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    recorded = seeding.set_flags(True, False, 0)
    assert (recorded["threads"], recorded["CUBLAS_WORKSPACE_CONFIG"]) == (os.cpu_count(), ":16:8")


def test_a_seed_is_the_same_in_every_version_and_another_for_every_purpose():
    """A recorded run can be repeated only while this number stays."""
    assert seeding.derive(0, "order", 1) == 4489457307835839548
    assert seeding.torch_stream(0, "order", 1).initial_seed() == 4489457307835839548
    purposes = [
        (0, "order", 1), (1, "order", 1), (0, "order", 2), (0, "noise", 1, 11), (0, "noise", 11, 1), (0, "noise", 111),
        *((0, "robustness", "noise", level, draw) for level in (0.1, 0.2) for draw in (0, 1)),
    ]  # fmt: skip
    assert len({seeding.derive(*purpose) for purpose in purposes}) == len(purposes)


def test_more_threads_than_cores_are_told_and_many_times_more_are_refused(flags, monkeypatch, capsys):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    seeding.set_flags(False, False, 2)
    assert capsys.readouterr().err == ""
    seeding.set_flags(False, False, 3)
    assert "run.threads 3 on 2 cores" in capsys.readouterr().err
    with pytest.raises(SpkdError, match="run.threads: expected at most 64 on 2 cores, got 999; lower it"):
        seeding.set_flags(False, False, 999)
