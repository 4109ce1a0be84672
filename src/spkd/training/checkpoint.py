"""Tensors and a JSON state in one file that is either the old one or the new one, never half of each. No pickle."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from spkd.errors import SpkdError


def save(path: Path, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    """Write tensors and state to `path`, replacing it atomically; a kill leaves the previous file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    plain = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in tensors.items()}
    save_file(plain, temporary, metadata={"state": json.dumps(state)})
    with temporary.open("rb") as written:
        os.fsync(written.fileno())
    temporary.replace(path)


def load(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """(tensors on the CPU, state) of a file that `save` wrote. Raises SpkdError where it is damaged or foreign."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if "state" not in metadata:
                raise SpkdError(
                    path, "a file with a `state` entry", "none", "it was not written by spkd; choose another"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            return tensors, json.loads(metadata["state"])
    except (SafetensorError, FileNotFoundError) as error:
        raise SpkdError(path, "a readable safetensors file", error, "delete it to start again from scratch") from None
