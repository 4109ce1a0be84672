"""Tensors and a JSON state in one file that is either the old one or the new one, never half of each. No pickle."""

import hashlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from spkd import atomic
from spkd.errors import SpkdError


class Saving:
    """A file on its way to the disk: a thread of its own writes it, since a training need not wait for the disk.

    It replaces `path` atomically; a kill or a full disk leaves the previous file. tensors: copied at once, so that they
    may change. state: JSON.
    """

    def __init__(self, path: Path, tensors: dict[str, torch.Tensor], state: str) -> None:
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._write, args=(path, _on_cpu(tensors), state), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Return when the file is on the disk. Raises OSError that names the path where the disk is full."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _write(self, path: Path, arrays: dict[str, np.ndarray], state: str) -> None:
        try:
            with atomic.file(path) as new:
                save_file(arrays, new, metadata={"state": state, "sha256": sha256(arrays, state)})
        except BaseException as error:  # whatever it is: whoever waits is told
            self._error = error


def save(path: Path, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    """Write tensors and state to `path` and wait for the disk: see Saving."""
    Saving(path, tensors, json.dumps(state)).wait()


def sha256(arrays: Mapping[str, np.ndarray], state: str = "") -> str:
    """Of all that a file holds: neither safetensors nor numpy sees a changed byte, and training would go on from it."""
    digest = hashlib.sha256(state.encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def _on_cpu(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The tensors as arrays. All of one type come by one copy: a GPU would be waited for once for each of 200."""
    found: dict[str, np.ndarray] = {}
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors.values()):
        own = {name: tensor.detach() for name, tensor in tensors.items() if tensor.dtype == dtype}
        flat, end = torch.cat([tensor.reshape(-1) for tensor in own.values()]).cpu().numpy(), 0
        for name, tensor in own.items():
            start, end = end, end + tensor.numel()
            found[name] = flat[start:end].reshape(tensor.shape)
    return found


def load(
    path: Path, do: str = "delete it to start again from scratch"
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """(tensors on the CPU, state) of a file that `save` wrote. Raises SpkdError, with `do`, where it is damaged."""
    try:
        # Not as torch's: those are read from the name once more, which may be another file by then, if one replaces it.
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if "state" not in metadata:
                raise SpkdError(
                    path, "a file with a `state` entry", "none", "it was not written by spkd; choose another"
                )
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        found = sha256(arrays, metadata["state"])
        if metadata.get("sha256", found) != found:  # weights of earlier versions have none
            raise SafetensorError("bytes of it have changed since it was written")
        return {name: torch.from_numpy(array) for name, array in arrays.items()}, dict(json.loads(metadata["state"]))
    except (SafetensorError, FileNotFoundError, ValueError, TypeError, RecursionError) as error:
        raise SpkdError(path, "a readable safetensors file", error, do) from None
