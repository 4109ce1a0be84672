from types import SimpleNamespace

import mlflow
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from spkd.errors import SpkdError
from spkd.evidence import tracking
from spkd.evidence.tracking import logged_model, store
from spkd.models.wide_resnet import WideResNet

CARD = {"classes": ["sit", "walk"], "scaling": {"rule": "training", "mean": [[0.1, -2.5e-17]]}}


@pytest.fixture
def network():
    torch.manual_seed(0)
    made = WideResNet(10, 1, 3, 5, 1)
    with torch.no_grad():
        made(torch.randn(16, 3, 40))  # running statistics that differ from their start
    return made


def test_a_network_comes_back_from_its_registered_name_with_the_same_answers(here, network):
    save_file(network.state_dict(), here / "weights.safetensors")
    with tracking.open_run("run", here / "runs" / "run", "test") as run:
        run.model(here / "weights.safetensors", "net", "chest-net", {"sha256": "f00"}, network, (3, 40), CARD)
    mlflow.set_tracking_uri(f"sqlite:///{here / 'mlflow.db'}")
    loaded = mlflow.pytorch.load_model("models:/chest-net/1")
    assert mlflow.models.get_model_info("models:/chest-net/1").metadata == CARD
    mlflow.set_tracking_uri(None)
    x = torch.randn(7, 3, 40)
    assert torch.equal(loaded(x), network.eval()(x))
    assert tracking.registered("chest-net") == tracking.registered("chest-net", 1) == run.id
    stored = load_file(tracking.artifact(run.id, "model/weights.safetensors"))
    assert all(torch.equal(stored[name], value) for name, value in network.state_dict().items())


def test_the_network_itself_is_left_as_it_was(tmp_path, network):
    (tmp_path / "weights.safetensors").write_bytes(b"x")
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    logged_model.write(tmp_path / "model", tmp_path / "weights.safetensors", network, (3, 40))
    assert network.training and all(torch.equal(before[n], v) for n, v in network.state_dict().items())


def test_a_model_folder_holds_no_pickle_and_exact_requirements(tmp_path, network):
    (tmp_path / "weights.safetensors").write_bytes(b"x")
    logged_model.write(tmp_path / "model", tmp_path / "weights.safetensors", network, (3, 40))
    names = sorted(p.relative_to(tmp_path / "model").as_posix() for p in (tmp_path / "model").rglob("*") if p.is_file())
    assert names == ["MLmodel", "data/model.pt2", "python_env.yaml", "requirements.txt", "weights.safetensors"]
    assert (tmp_path / "model" / "requirements.txt").read_text() == f"torch=={torch.__version__.split('+')[0]}\n"
    described = yaml.safe_load((tmp_path / "model" / "MLmodel").read_text())
    assert set(described["flavors"]) == {"safetensors", "pytorch", "python_function"}
    assert '"shape": [-1, 3, 40]' in described["signature"]["inputs"]
    assert '"shape": [-1, 5]' in described["signature"]["outputs"]


def test_weights_alone_are_a_model_too(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"x")
    logged_model.write(tmp_path / "model", tmp_path / "weights.safetensors", None, None)
    described = yaml.safe_load((tmp_path / "model" / "MLmodel").read_text())
    assert described["flavors"] == {"safetensors": {"data": "weights.safetensors"}}


def test_a_newer_version_is_the_one_meant_by_a_bare_name(here):
    (here / "weights.safetensors").write_bytes(b"x")
    ids = []
    for name in ("first", "second"):
        with tracking.open_run(name, here / "runs" / name, "test") as run:
            run.model(here / "weights.safetensors", "net", "pamap2-net")
        ids.append(run.id)
    assert [tracking.registered("pamap2-net", v) for v in (1, "2", None)] == [ids[0], ids[1], ids[1]]
    with pytest.raises(SpkdError, match=r"version 3, got versions \[1, 2\]"):
        tracking.registered("pamap2-net", 3)
    with pytest.raises(SpkdError, match="expected the name of a registered model, got none"):
        tracking.registered("nothing")


def test_versions_are_compared_as_numbers_and_one_that_is_none_is_not_there(monkeypatch):
    versions = [SimpleNamespace(version=number, run_id=f"run {number}") for number in ("9", "10", "2")]
    monkeypatch.setattr(store, "client", lambda: SimpleNamespace(search_model_versions=lambda query: versions))
    assert tracking.registered("net") == "run 10"
    with pytest.raises(SpkdError, match=r"version latest, got versions \[2, 9, 10\]"):
        tracking.registered("net", "latest")
