import itertools
import os
import threading
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from spkd.errors import SpkdError
from spkd.models.wide_resnet import WideResNet
from spkd.training import checkpoint, weights


def test_a_full_disk_leaves_the_checkpoint_before_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "run" / "c.safetensors"
    checkpoint.save(path, {"w": torch.ones(3)}, {"epoch": 1})

    def full(tensors, to, metadata):
        Path(to).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, {"w": torch.zeros(3)}, {"epoch": 2})
    tensors, state = checkpoint.load(path)
    assert state == {"epoch": 1} and tensors["w"].tolist() == [1.0, 1.0, 1.0]
    assert [p.name for p in path.parent.iterdir()] == ["c.safetensors"]


def test_what_is_read_while_another_process_replaces_it_is_one_of_the_two(tmp_path):
    path, link, ended = tmp_path / "c", tmp_path / "link", threading.Event()
    for k in (0, 1):
        checkpoint.save(tmp_path / str(k), {"w": torch.full((9,), float(k))}, {"epoch": k})
    os.link(tmp_path / "0", path)

    def replace() -> None:
        for k in itertools.cycle((1, 0)):
            os.link(tmp_path / str(k), link)
            link.replace(path)
            if ended.is_set():
                return

    other = threading.Thread(target=replace)
    other.start()
    try:
        for _ in range(1000):
            tensors, state = checkpoint.load(path)
            assert tensors["w"].tolist() == [state["epoch"]] * 9
    finally:
        ended.set()
        other.join()


def every_kind() -> dict[str, torch.Tensor]:
    """Tensors of the types, shapes and layouts that a file may hold, the types taking turns."""
    stream = torch.Generator().manual_seed(0)
    weight, image = torch.randn(4, 6, generator=stream), torch.randn(2, 3, 4, 5, generator=stream)
    return {
        "weight": weight,
        "double": torch.randn(3, generator=stream, dtype=torch.float64),
        "the same again": weight,
        "a row of it": weight[1],
        "step": torch.tensor(7),
        "transposed": weight.T,
        "with gaps": weight[:, ::2],
        "flags": torch.tensor([True, False, True]),
        "expanded": weight[:, :1].expand(4, 3),
        "rows": torch.arange(-2, 5),
        "rate": torch.tensor(0.1, dtype=torch.float64),
        "empty": torch.empty(0, 3),
        "only empty of its type": torch.empty(2, 0, dtype=torch.int32),
        "channels last": image.contiguous(memory_format=torch.channels_last),
        "signal": image.flatten(2).movedim(1, -1).contiguous().movedim(-1, 1),
        "half": image.half(),
        "learning": torch.nn.Parameter(image[0]),
        "odd values": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
    }


def test_what_is_moved_by_slices_is_a_copy_of_each_tensor():
    tensors = every_kind()
    expected = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
    moved = checkpoint._on_cpu(tensors)
    for tensor in tensors.values():
        tensor.detach().zero_()
    assert moved.keys() == tensors.keys()
    for name, tensor in expected.items():
        found = torch.from_numpy(moved[name])
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape), name
        assert moved[name].tobytes() == tensor.numpy().tobytes(), name


def test_what_is_loaded_is_what_safetensors_itself_keeps(tmp_path):
    tensors = every_kind()
    checkpoint.save(tmp_path / "ours", tensors, {"epoch": 1})
    # safetensors refuses tensors that share memory or are not contiguous.
    apart = {n: t.detach().clone(memory_format=torch.contiguous_format) for n, t in tensors.items()}
    save_file(apart, tmp_path / "theirs")
    (found, state), expected = checkpoint.load(tmp_path / "ours"), load_file(tmp_path / "theirs")
    assert state == {"epoch": 1} and found.keys() == expected.keys() == tensors.keys()
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensors[name].dtype, tensors[name].shape), name
        assert found[name].numpy().tobytes() == tensor.numpy().tobytes(), name


def test_a_file_that_is_missing_or_damaged_or_not_ours_is_refused_by_its_name(tmp_path):
    path = tmp_path / "c.safetensors"
    with pytest.raises(SpkdError, match=r"c\.safetensors: expected a readable safetensors file"):
        checkpoint.load(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(SpkdError, match=r"c\.safetensors: expected a readable safetensors file"):
        checkpoint.load(path)
    save_file({"w": torch.ones(3)}, path)
    with pytest.raises(SpkdError, match=r"c\.safetensors: expected a file with a `state` entry"):
        checkpoint.load(path)


@pytest.mark.parametrize("part", [b"0.25", bytes(torch.ones(1).numpy())])
def test_one_flipped_bit_in_weights_or_state_is_no_checkpoint_to_go_on_from(tmp_path, part):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"w": torch.ones(64), "n": torch.tensor(3)}, {"epoch": 1, "history": [0.25] * 9})
    whole = path.read_bytes()
    place = whole.rindex(part)
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(SpkdError, match=r"c\.safetensors: expected a readable safetensors file, got bytes of it have"):
        checkpoint.load(path)
    path.write_bytes(whole)
    assert checkpoint.load(path)[1]["epoch"] == 1


def test_a_type_that_numpy_lacks_is_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"w": torch.ones(3)}, {"epoch": 1})
    with pytest.raises(TypeError, match="BFloat16"):
        checkpoint.save(path, {"w": torch.zeros(3, dtype=torch.bfloat16)}, {"epoch": 2})
    assert checkpoint.load(path)[1] == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_is_full_for_safetensors_is_the_systems_error_with_the_name_of_the_checkpoint(
    tmp_path, monkeypatch
):
    def fails(*args, **more):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", fails)
    with pytest.raises(OSError, match=r"\[Errno 28\] No space left on device.*net.safetensors"):
        checkpoint.save(tmp_path / "net.safetensors", {"a": torch.ones(1)}, {})


@pytest.mark.parametrize("state", ["null", "5", "[1]", "{", "[" * 100_000], ids=lambda text: text[:4])
def test_a_state_that_is_no_mapping_in_json_is_refused_by_the_name_of_the_file(tmp_path, state):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={"state": state})
    with pytest.raises(SpkdError, match=r"a\.safetensors: expected a readable safetensors file"):
        checkpoint.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("channels", 3, r"a\.safetensors: card: channels"),
        ("length", "16", r"a\.safetensors: card: length"),
        ("network_settings", {"depth": 16}, r"networks\.demo: expected a `model`, got None"),
        ("network_settings", {"model": 5}, r"networks\.demo: expected a `model`, got 5"),
        ("extra", 1, "expected a card with the weights, got keys"),
    ],
)
def test_a_card_edited_by_hand_is_refused_by_its_key(tmp_path, key, value, message):
    texts = ("network", "view", "dataset", "data_digest", "origin")
    lists = ("channels", "classes", "train_subjects", "validation_subjects", "test_subjects")
    card = dict.fromkeys(texts, "demo") | {name: ["x"] for name in lists}
    card |= {"network_settings": {}, "view_settings": {}, "scaling": {}, "length": 16, "fold": 0, "seed": 0, key: value}
    checkpoint.save(tmp_path / "a.safetensors", {"a": torch.zeros(1)}, {"card": card})
    with pytest.raises(SpkdError, match=message):
        weights.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("card", [None, [], 5, "x"])
def test_a_card_that_is_no_mapping_is_refused(tmp_path, card):
    checkpoint.save(tmp_path / "a.safetensors", {"a": torch.zeros(1)}, {"card": card})
    with pytest.raises(SpkdError, match=r"a\.safetensors: expected a card with the weights"):
        weights.load(tmp_path / "a.safetensors")


def test_weights_that_do_not_fit_their_card_are_refused_by_the_networks_name(tmp_path):
    path, shape = tmp_path / "w.safetensors", {"model": "wide_resnet", "depth": 10, "width": 1}
    data = {"dataset": "demo", "data_digest": "", "length": 16, "channels": ["x"], "classes": ["a", "b"], "scaling": {}}
    subjects = {f"{part}_subjects": [] for part in ("train", "validation", "test")}
    card = weights.Card("wrn10-1", shape, "signal", {}, **data, **subjects, fold=0, seed=0, origin="simulated")
    weights.save(path, WideResNet(10, 1, 1, 2, 1), card)
    assert weights.load(path)[1] == card
    weights.save(path, WideResNet(10, 2, 1, 2, 1), card)
    with pytest.raises(SpkdError, match=r"w\.safetensors: expected weights of wrn10-1"):
        weights.load(path)
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    with pytest.raises(SpkdError, match=r"bytes of it have changed .*; its run's file in the store was changed: bring"):
        weights.load(path)  # a copy: to delete it, as a checkpoint, would bring the same again
