"""Memory of the process, its devices and disks: what is free, and that freed memory stays, for the next step's tensors.

The C library gives large blocks back to the system and asks for them again, page by page, in every step of an image
student on a CPU, which takes longer for it (benchmarks/kept_memory.py).
"""

import ctypes
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from spkd.errors import SpkdError

# Share of the free disk that scratch files may take: checkpoints and outboxes need room too.
OF_FREE_DISK = 0.8
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
# A larger block is one of few, e.g. a teacher's answers, and goes back to the system.
LARGEST_BYTES, LARGEST_BYTES_OF_OLD = 2**29, 2**25  # some versions refuse more than the latter
KEPT_BYTES = 2**31 - 1


def keep() -> bool:
    """Keep freed blocks, from now on; returns whether the C library can: glibc can, others are left as they are."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError, OSError):
        return False
    # In this order: a trim threshold alone would fix the other one where it starts, at 128 KiB.
    large = mallopt(M_MMAP_THRESHOLD, LARGEST_BYTES) or mallopt(M_MMAP_THRESHOLD, LARGEST_BYTES_OF_OLD)
    return bool(large and mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))


def free_bytes(device: torch.device) -> int:
    """What the device has for further tensors, with what torch holds of it and does not use."""
    if device.type == "cpu":
        return min(int(psutil.virtual_memory().available), *_allowed())
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + unused


@contextmanager
def enough(where: str, do: str) -> Iterator[None]:
    """A device without memory for more is an SpkdError, which holds on to nothing that was there."""
    try:
        yield
    except RuntimeError as error:
        said = lacking(error)
        if not said:
            raise
        error.__traceback__ = None  # whose frames hold the step's tensors
        raise SpkdError(where, "what fits the memory of its device", said, do) from None


def lacking(error: RuntimeError) -> str:
    """What torch says of a device's memory: how much was asked for, and of a GPU how much is free and who has the rest.

    Not what it says of its own stores and settings, which is the longer half. "" where the error is another one.
    """
    said = str(error).split("\n")[0]
    if "out of memory" not in said and "DefaultCPUAllocator" not in said:
        return ""
    said = said.rpartition("DefaultCPUAllocator: ")[2]
    return re.split(r" Of the allocated memory| Error code", said)[0].rstrip(". ")


def disk_bytes(folder: Path) -> float:
    """What scratch files may take of the disk of a folder, which need not be there yet."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    return OF_FREE_DISK * shutil.disk_usage(there).free


def _allowed(own: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """What a container or a batch system still allows this process, by the control groups (version 2) it is in.

    Pages of files that were not used lately count as free. At least one number: of no limit, a very large one.
    """
    try:
        path = next(line for line in own.read_text().splitlines() if line.startswith("0::")).removeprefix("0::/")
    except (OSError, StopIteration):
        return [2**63]
    found = [2**63]
    for place in (root / path, *(root / path).parents):
        try:
            limit, used = (place / "memory.max").read_text().strip(), int((place / "memory.current").read_text())
            stat = dict(line.split() for line in (place / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        if limit != "max":
            found.append(max(0, int(limit) - used + int(stat.get("inactive_file", 0))))
    return found
