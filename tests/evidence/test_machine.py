"""The line that says on which device a command works; the names of devices."""

import importlib
import platform
from pathlib import Path

import pytest
import torch

from spkd import config
from spkd.evidence import machine
from spkd.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def blind(monkeypatch):
    """A machine on which torch sees no GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


def test_a_cpu_that_auto_took_has_its_reason(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert machine.line(torch.device("cpu"), "auto") == f"device: cpu (auto: torch {torch.__version__} sees no GPU)"
    monkeypatch.setattr(torch.version, "cuda", None)
    assert machine.line("cpu", "auto").endswith("is built without CUDA)")


def test_a_cpu_that_was_asked_for_needs_no_reason():
    assert machine.line("cpu", "cpu") == "device: cpu"


def test_gpus_are_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"card {index}")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    assert machine.line(torch.device("cuda"), "auto") == "device: cuda (card 2)"
    assert machine.line(torch.device("cuda:1"), "cuda:1") == "device: cuda:1 (card 1)"
    assert machine.line("0,1", "0,1") == "device: cuda:0,1 (card 0, card 1)"


@pytest.mark.parametrize("door", ["teacher", "distill", "detect"])
def test_a_training_says_its_device_before_it_begins(door, blind, monkeypatch, tmp_path, capsys):
    said = []
    monkeypatch.chdir(tmp_path)
    command = importlib.import_module(f"spkd.cli.{door}")
    if door == "detect":
        from spkd.detect import tracked

        monkeypatch.setattr(tracked, "run", lambda *_: said.append(capsys.readouterr().out) or ("id", {}))
        monkeypatch.setattr(
            command, "make_job", lambda *_: type("Job", (), {"device": "cpu", "title": "t", "model": "yolov8n.yaml"})
        )
    else:
        monkeypatch.setattr(command.har, "train", lambda *_: said.append(capsys.readouterr().out))
    tree = config.resolve(config.read(ROOT / "params.yaml"), {"run.threads": torch.get_num_threads()})
    assert command.main([], config.check(Settings, tree, ""), tree) == 0
    assert said and said[0].startswith("device: cpu (auto: torch ")


def test_a_processor_has_the_name_that_the_system_gives_it_and_the_instructions_that_torch_uses(monkeypatch, tmp_path):
    told = tmp_path / "cpuinfo"
    told.write_text("processor\t: 0\nmodel name\t: Some CPU 9000\nprocessor\t: 1\nmodel name\t: Other\n")
    monkeypatch.setattr(machine, "Path", lambda name: told)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert machine.chip(torch.device("cpu")) == "Some CPU 9000 (AVX2)"
    told.unlink()
    assert machine.processor() == f"{platform.processor() or platform.machine()} (AVX2)"


def test_a_gpu_is_told_by_its_own_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    assert machine.chip(torch.device("cuda", 1)) == "GPU 1"
