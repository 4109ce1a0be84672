"""Matrix products of large float32 blocks on a CPU by the library that is fast there.

torch multiplies by MKL, which takes a path of half the speed on a processor that Intel did not make; oneDNN, which
torch has for convolutions, does not. Elsewhere these are torch's own products, to the bit.
"""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

CPU = Path("/proc/cpuinfo")


def by_rows(left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """left @ right.T, (m, n), of left (m, d) and right (n, d), in `out` where given. A gradient wanted is torch's."""
    plain = all(part.device.type == "cpu" and part.dtype == torch.float32 for part in (left, right))
    differentiable = torch.is_grad_enabled() and (left.requires_grad or right.requires_grad)
    if differentiable or not plain or not _one_dnn():
        return torch.mm(left, right.T, out=out)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(left, dense(right), None, "none", [], "")
    return product if out is None else out.copy_(product)


def dense(matrix: Tensor) -> Tensor:
    """The matrix, copied where neither its rows nor its columns lie one after the other in memory.

    oneDNN multiplies by such a right-hand side, e.g. a slice of wider features, a thousand times as slowly.
    """
    return matrix if matrix.is_contiguous() or matrix.T.is_contiguous() else matrix.contiguous()


@cache
def slow_mkl() -> bool:
    """Whether this is a processor of AMD's, on which torch's own products are slow."""
    return CPU.is_file() and "AuthenticAMD" in CPU.read_text(errors="replace")


def _one_dnn() -> bool:
    """Whether torch's own products are slow here, and it has oneDNN's."""
    return slow_mkl() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
