"""What a result depends on besides its settings and data: machine, packages, code, weights.

Contract: reads, and `tell` alone writes, to a run; everything returned is plain JSON. What cannot be found out is said
on stderr and recorded as such.
"""

import functools
import hashlib
import itertools
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from spkd.evidence import lock_file, machine, working_tree

if TYPE_CHECKING:
    from spkd.evidence.tracking.run import Run

# What chooses between ways to compute, in the environment of the process.
VARIABLES = ("ATEN_", "OMP_", "GOMP_", "MKL_", "DNNL_", "ONEDNN_", "CUDA_", "CUBLAS_")


def environment(flags: Mapping[str, Any], repo: Path = Path()) -> dict[str, Any]:
    """Machine, packages and build of the run. flags: what seeding.set_flags returned. repo: holds the lock file."""
    lock = repo / lock_file.NAME
    return {
        "os": platform.platform(),
        "python": platform.python_version(),
        "cpu": machine.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": _gpus(),
        "driver": _driver(),
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "torch_build": torch.__config__.show(),
        "torch_threads": torch.__config__.parallel_info(),
        "lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None,
        "packages": packages(),
        "flags": dict(flags),
        "variables": {k: v for k, v in sorted(os.environ.items()) if k.startswith(VARIABLES)},
    }


def compared(found: Mapping[str, Any]) -> dict[str, Any]:
    """The ten facts of an environment that are compared most, for `run.params(..., prefix="env/")`."""
    cards = [f"{gpu['name']} (sm_{gpu['capability']}, {gpu['sms']} SMs)" for gpu in found["gpus"]]
    # In the order of their indices: with the flag `device` it says which of them a run used.
    gpus = ", ".join(f"{len(list(alike))} x {card}" for card, alike in itertools.groupby(cards))
    return {
        "os": found["os"],
        "python": found["python"],
        "cpu": f"{found['cpu']}, {found['cores']} cores",
        "gpu": gpus or "none",
        "driver": found["driver"] or "none",
        "cuda": found["cuda"] or "none",
        "cudnn": found["cudnn"] or "none",
        "torch": found["torch"],
        "lock": (found["lock_sha256"] or "none")[:16],
        "flags": ", ".join(f"{key}={value}" for key, value in sorted(found["flags"].items())) or "none",
    }


def tell(run: "Run", flags: Mapping[str, Any], repo: Path = Path()) -> tuple[dict[str, Any], dict[str, Any]]:
    """Record in the run on which machine, with which packages and by which code; returns (environment, code).

    Says on stderr where the code is not recorded as a whole, so that the run could not be repeated.
    """
    here, made_by = environment(flags, repo), _code(repo.absolute())
    run.json(here, "environment.json")
    run.params(compared(here), prefix="env/")
    run.tags({f"code.{key}": made_by[key] for key in ("commit", "dirty", "patch_sha256")})
    if made_by["patch_cut"]:
        run.tags({"code.patch_cut": made_by["patch_cut"]})
        print(
            f"spkd: this run cannot be repeated: {made_by['patch_cut']}: commit or ignore that (git status)",
            file=sys.stderr,
        )
    if made_by["patch"]:
        run.text(made_by["patch"], "code.patch")
    return here, made_by


@functools.cache
def _code(repo: Path) -> dict[str, Any]:
    """The working tree at the first run of this process: a second teacher that it trains, hours later, is made by the
    modules that it holds, whatever was edited meanwhile."""
    return working_tree.code(repo)


def packages() -> dict[str, str]:
    """Every installed distribution and its version, by normalised name."""
    found = {}
    for distribution in metadata.distributions():
        told = distribution.metadata  # read anew at every access
        if told["Name"]:
            found[told["Name"].lower().replace("_", "-")] = told["Version"]
    return dict(sorted(found.items()))


def _gpus() -> list[dict[str, Any]]:
    if not torch.cuda.is_available():
        return []
    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        capability = f"{properties.major}{properties.minor}"
        memory_gib = round(properties.total_memory / 2**30, 1)
        sms = properties.multi_processor_count
        found.append({"name": properties.name, "capability": capability, "sms": sms, "memory_gib": memory_gib})
    return found


def _driver() -> str | None:
    if not torch.cuda.is_available() or shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.split("\n", 1)[0].strip() or None


def state_sha256(state: Mapping[str, torch.Tensor | np.ndarray]) -> str:
    """The hash of weights: names, types, shapes and bits, whatever file or order they were stored in."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = torch.as_tensor(state[name]).detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
