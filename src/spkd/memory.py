"""Freed memory stays with the process, for the tensors of the next step.

The C library gives large blocks back to the system and asks for them again, page by page, in every step of an image
student on a CPU, which takes longer for it (benchmarks/kept_memory.py).
"""

import ctypes

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
