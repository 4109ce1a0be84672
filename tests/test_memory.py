"""Freed memory is found again: counted in pages that the system has to hand out, in a process of its own."""

import ctypes
import subprocess
import sys

import pytest

from spkd import memory

FREED = """
import ctypes, resource, sys
from spkd import memory
kept = sys.argv[1] == "keep" and memory.keep()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(SIZE)
    ctypes.memset(block, 1, SIZE)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
""".replace("SIZE", str(2**26))


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt")
def test_a_large_block_that_was_freed_is_handed_out_again_without_new_pages():
    pages = {}
    for mode in ("keep", "as it is"):
        done = subprocess.run([sys.executable, "-c", FREED, mode], check=True, capture_output=True, text=True)
        pages[mode] = int(done.stdout)
    assert pages["keep"] < 100 < 10_000 < pages["as it is"]


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
