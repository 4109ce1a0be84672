"""A network that travels as tensors and a description, without pickle."""

import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from spkd.detect import networks
from spkd.errors import SpkdError
from spkd.evidence.provenance import state_sha256


@pytest.fixture
def carried(tiny_teacher: Path, tmp_path: Path) -> tuple[torch.nn.Module, Path, dict[str, str]]:
    """(a network, its tensors in a file that describes it, that description)."""
    model = networks.load(tiny_teacher)
    next(model.parameters()).data.mul_(1.0001)  # in no half precision any more
    model.names = {0: "red", 1: "green", 2: "blue"}
    said = networks.described(model)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, tmp_path / "carried.safetensors", said)
    return model, tmp_path / "carried.safetensors", said


def test_a_network_comes_back_from_its_tensors_and_its_description(carried: Any, tmp_path: Path) -> None:
    model, tensors, _ = carried
    again = networks.load(networks.restored(tensors, tmp_path / "not there yet" / "again.pt"))
    assert state_sha256(again.state_dict()) == state_sha256(model.state_dict())
    assert again.names == model.names and torch.equal(again.stride, model.stride)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(again(image)[0], model(image)[0])


def test_weights_that_the_disk_does_not_hold_are_an_error_that_names_their_file(carried: Any, tmp_path: Path) -> None:
    model, tensors, _ = carried
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"'.*kept\.safetensors'$"):
            networks.keep(model, tmp_path / "kept.safetensors")
        with pytest.raises(OSError, match=r"'.*again\.pt'$"):
            networks.restored(tensors, tmp_path / "again.pt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {path.name for path in tmp_path.iterdir()} == {tensors.name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": None}, "a description of the network"),
        ({"activation": "__import__('os').system('true')"}, "without an activation of their own"),
        ({"nc": 7}, "the tensors of"),
        *(({"head": [[-1, 1, layer, []]]}, "layers of ultralytics") for layer in ("TorchVision", "nn.Parameter", "os")),
    ],
)
def test_a_foreign_description_that_does_not_fit_or_would_run_is_refused(
    carried: Any, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    _, tensors, said = carried
    network = json.loads(said["network"]) | change
    metadata = {"names": said["names"]} if change.get("network", 0) is None else said | {"network": json.dumps(network)}
    save_file(load_file(tensors), tmp_path / "foreign.safetensors", metadata)
    with pytest.raises(SpkdError, match=message):
        networks.restored(tmp_path / "foreign.safetensors", tmp_path / "again.pt")
    assert not (tmp_path / "again.pt").exists()
