"""One array of a MATLAB `.mat` file. scipy reads it, but crashes, the whole process, on a type of numbers that is none.

Contract: such a file, of one flipped bit, is an error as any other damage is. Source of the format: MathWorks, MAT-File
Format, level 5.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scipy.io import loadmat

HEADER_BYTES = 128
MATRIX, COMPRESSED = 14, 15
KINDS = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13, MATRIX, 16, 17, 18}
LARGEST_BYTES = 1 << 28


def load(path: Path, name: str) -> Any:
    """What the file calls so, None where nothing is. Raises ValueError, or what scipy does, for damage."""
    data = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(data[HEADER_BYTES - 2 : HEADER_BYTES])
    if order and 0 not in data[:4]:  # else of another version
        for kind, part in _elements(data[HEADER_BYTES:], order):
            inside = zlib.decompressobj().decompress(part, LARGEST_BYTES) if kind == COMPRESSED else part
            matrices = _elements(inside, order) if kind == COMPRESSED else [(kind, inside)]
            for _, matrix in matrices:
                fields = list(_elements(matrix, order))
                if len(fields) > 2 and fields[2][1] == name.encode():
                    _require_known(fields, order)
    return loadmat(str(path), variable_names=[name], appendmat=False).get(name)


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """(kind, bytes) of the elements that lie one behind the other."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}2I", data, at)
        if kind >> 16:  # a small one: kind, size and up to 4 bytes in 8
            yield kind & 0xFFFF, data[at + 4 : at + 4 + (kind >> 16)]
            at += 8
        else:
            yield kind, data[at + 8 : at + 8 + size]
            at += 8 + size + (0 if kind == COMPRESSED else -size % 8)


def _require_known(fields: list[tuple[int, bytes]], order: str) -> None:
    for kind, part in fields:
        if kind not in KINDS:
            raise ValueError(f"no number type: {kind}")
        if kind == MATRIX:
            _require_known(list(_elements(part, order)), order)
