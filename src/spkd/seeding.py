"""Randomness and determinism: every random stream derives from (run seed, purpose), every flag is set here.

Nothing else in the project may seed a global generator or touch a determinism flag.
"""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from spkd import memory
from spkd.errors import SpkdError


def derive(seed: int, *purpose: object) -> int:
    """A 63-bit seed for one purpose of one run, e.g. derive(0, "order", epoch): independent, the same everywhere."""
    text = "/".join(str(p) for p in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_stream(seed: int, *purpose: object) -> np.random.Generator:
    """A numpy generator for one purpose of one run."""
    return np.random.Generator(np.random.PCG64(derive(seed, *purpose)))


def torch_stream(seed: int, *purpose: object, device: str | torch.device = "cpu") -> torch.Generator:
    """A torch generator for one purpose of one run, on the given device."""
    generator = torch.Generator(device=device)
    generator.manual_seed(derive(seed, *purpose))
    return generator


@contextmanager
def global_from(generator: torch.Generator) -> Iterator[None]:
    """In the block torch's global generator follows from this one's seed; afterwards it is as it was.

    Layers draw their default weights from it: those that a new network leaves as they are derive from the run, too.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(generator.initial_seed(), "global"))
        yield


def set_global(device: torch.device, seed: int, *purpose: object) -> None:
    """Set torch's global generators, of the CPU and the device, for one purpose of one run: dropout draws from them."""
    derived = derive(seed, *purpose)
    torch.default_generator.manual_seed(derived)  # torch.manual_seed takes 100 times as long
    if device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(derived)


def require_threads(threads: int) -> None:
    """Raise SpkdError where threads are many times more than the cores: they would stop the machine."""
    cores = os.cpu_count() or 1
    if threads > (most := max(64, 4 * cores)):
        do = "lower it (0 = all cores); `spkd reproduce` takes --threads"
        raise SpkdError("run.threads", f"at most {most} on {cores} cores", threads, do)


def set_flags(deterministic: bool, tf32: bool, threads: int, warn_only: bool = False) -> dict[str, Any]:
    """Set every flag that changes numbers; returns them for the run's environment record. Freed memory is kept.

    threads: CPU threads, 0 = all cores. Their number changes the order of sums, so it is part of the record.
    warn_only: an operation that has no deterministic algorithm warns instead of raising; the record says so.
    Raises SpkdError as `require_threads` does.
    """
    require_threads(threads)
    cores = os.cpu_count() or 1
    if threads > cores:
        print(f"run.threads {threads} on {cores} cores: the threads wait for each other", file=sys.stderr, flush=True)
    memory.keep()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads or cores)
    # The same as use_deterministic_algorithms, which also loads torch's compiler: 0.8 s before the first step.
    strict = "warn" if warn_only else "error"
    torch.set_deterministic_debug_mode(strict if deterministic else "default")
    # A debugging aid that comes with the line above: it fills every new tensor, which costs a student's step 10 %.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    return {
        "deterministic_algorithms": (False, "warn_only", True)[torch.get_deterministic_debug_mode()],
        "cudnn.benchmark": torch.backends.cudnn.benchmark,
        "cudnn.allow_tf32": torch.backends.cudnn.allow_tf32,
        "matmul.allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        "CUBLAS_WORKSPACE_CONFIG": os.environ["CUBLAS_WORKSPACE_CONFIG"],
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
    }
