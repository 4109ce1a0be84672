"""Freed memory is found again: counted in pages that the system has to hand out, in a process of its own."""

import ctypes
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from spkd import memory
from spkd.errors import SpkdError

FREED = """
import ctypes, resource
from spkd import memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
for prepare in (lambda: None, memory.keep):
    prepare()
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        block = libc.malloc(SIZE)
        ctypes.memset(block, 1, SIZE)
        libc.free(block)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
""".replace("SIZE", str(2**26))


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt")
def test_a_large_block_that_was_freed_is_handed_out_again_without_new_pages():
    done = subprocess.run([sys.executable, "-c", FREED], check=True, capture_output=True, text=True)
    without, kept = map(int, done.stdout.split())
    assert kept < 100 < 10_000 < without


def test_a_c_library_without_the_call_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert memory.keep() is False


@pytest.mark.parametrize("refused", [memory.LARGEST_BYTES, None])
def test_an_old_c_library_gets_the_largest_threshold_that_it_takes_and_no_trim_threshold_alone(monkeypatch, refused):
    calls = []

    class Library:
        @staticmethod
        def mallopt(what, value):
            calls.append((what, value))
            return int(refused is not None and value != refused)

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library)
    both = [(memory.M_MMAP_THRESHOLD, memory.LARGEST_BYTES), (memory.M_MMAP_THRESHOLD, memory.LARGEST_BYTES_OF_OLD)]
    assert memory.keep() is (refused is not None)
    assert calls == (both if refused is None else [*both, (memory.M_TRIM_THRESHOLD, memory.KEPT_BYTES)])


def test_a_gpu_has_what_the_driver_and_torch_hold_free(monkeypatch):
    for name, value in (("mem_get_info", (700, 1000)), ("memory_reserved", 200), ("memory_allocated", 150)):
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert memory.free_bytes(torch.device("cuda", 1)) == 700 + 50


GROUPS = {
    "": ("5000", "4000", 500),
    "job": ("max", "3000", 500),
    "job/step": ("3500", "2900", 300),
    "other": ("10", "10", 0),
}


@pytest.mark.parametrize(
    ("own", "expected"),
    [("0::/job/step\n", 900), ("0::/job\n", 1500), ("0::/\n", 1500), ("1:cpu:/job\n", 2**63), (None, 2**63)],
)
def test_a_control_group_and_those_around_it_leave_what_they_do_not_use(tmp_path, monkeypatch, own, expected):
    for name, (limit, used, inactive) in GROUPS.items():
        folder = tmp_path / "groups" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(limit + "\n")
        (folder / "memory.current").write_text(used + "\n")
        (folder / "memory.stat").write_text(f"anon 1\ninactive_file {inactive}\nactive_file 7\n")
    if own:
        (tmp_path / "own").write_text("9:name=systemd:/\n" + own)
    left = memory._allowed(tmp_path / "own", tmp_path / "groups")
    assert min(left) == expected
    monkeypatch.setattr(memory, "_allowed", lambda: left)
    assert memory.free_bytes(torch.device("cpu")) <= expected


def test_a_gpu_without_memory_is_an_error_that_holds_on_to_nothing():
    said = "CUDA out of memory. Tried to allocate 1 GiB. GPU 0 has a total capacity of 4 GiB of which 1 MiB is free. "
    said += "Process 7 has 3 GiB memory in use"
    message = f"here: expected what fits the memory of its device, got {said}; less$"
    with pytest.raises(SpkdError, match=message) as at, memory.enough("here", "less"):
        raise torch.OutOfMemoryError(
            f"{said}. Of the allocated memory 1 GiB is allocated by PyTorch. See documentation"
        )
    assert at.value.__context__.__traceback__ is None
    with pytest.raises(SpkdError, match="got CUDA error: out of memory; less$"), memory.enough("here", "less"):
        raise RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA")
    with pytest.raises(KeyError), memory.enough("here", "less"):
        raise KeyError


def test_scratch_files_may_take_a_share_of_the_disk_of_a_folder_that_need_not_be_there(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda path: asked.append(path) or SimpleNamespace(free=1000))
    assert memory.disk_bytes(tmp_path / "a" / "b") == memory.disk_bytes(tmp_path) == 800.0
    assert asked == [tmp_path, tmp_path]


def test_a_processor_without_memory_for_more_is_a_message_and_another_failure_stays_what_it_is():
    with (
        pytest.raises(
            SpkdError, match=r"networks.n: expected what fits .* got can't allocate memory: .* bytes; lower it"
        ),
        memory.enough("networks.n", "lower it"),
    ):
        torch.empty(2**60)
    with pytest.raises(RuntimeError, match="another"), memory.enough("networks.n", "lower it"):
        raise RuntimeError("another")
