import hashlib
import json
import subprocess
from unittest.mock import MagicMock

import numpy as np
import psutil
import pytest
import torch

from spkd.evidence import provenance


def test_the_environment_names_machine_packages_lock_and_flags(tmp_path, monkeypatch):
    variables = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "MKL_NUM_THREADS": "1", "SPKD_OF_THIS_TEST": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "requirements.lock").write_text("torch==1\n")
    found = provenance.environment({"deterministic_algorithms": True}, tmp_path)
    assert found["lock_sha256"] == hashlib.sha256(b"torch==1\n").hexdigest()
    assert found["packages"]["torch"] and found["packages"]["mlflow"]
    assert found["torch"] == torch.__version__ and found["cores"] >= 1 and found["cpu"]
    known = {name: found["variables"][name] for name in variables if name in found["variables"]}
    assert known == {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "MKL_NUM_THREADS": "1"}
    assert found["memory_gib"] == pytest.approx(psutil.virtual_memory().total / 2**30, abs=0.1)
    assert not [name for name in found["packages"] if name != name.lower() or "_" in name]
    assert json.loads(json.dumps(found)) == found
    ten = provenance.compared(found)
    assert len(ten) == 10 and ten["flags"] == "deterministic_algorithms=True"
    assert (ten["gpu"] == "none") == (not torch.cuda.is_available())


def test_all_cards_are_named_in_the_order_of_their_indices(tmp_path):
    big = {"name": "H100", "capability": "90", "sms": 132, "memory_gib": 80.0}
    small = {"name": "L4", "capability": "89", "sms": 58, "memory_gib": 23.0}
    here = provenance.environment({}, tmp_path)
    without = dict.fromkeys(("driver", "cuda", "cudnn"))
    told = provenance.compared(here | without)  # every fact of `env/` is there: a run that lacks one is another machine
    assert [told[key] for key in ("driver", "cuda", "cudnn", "lock", "flags")] == ["none"] * 5
    known = {"driver": "580.1", "cuda": "13.0", "cudnn": 91002, "lock_sha256": "ab" * 32}
    told = provenance.compared(here | known)
    assert [told[key] for key in ("driver", "cuda", "cudnn", "lock")] == ["580.1", "13.0", 91002, "ab" * 8]
    told = [provenance.compared(here | {"gpus": cards})["gpu"] for cards in ([big, big], [big, small], [small, big])]
    assert told == [
        "2 x H100 (sm_90, 132 SMs)",
        "1 x H100 (sm_90, 132 SMs), 1 x L4 (sm_89, 58 SMs)",
        "1 x L4 (sm_89, 58 SMs), 1 x H100 (sm_90, 132 SMs)",
    ]


@pytest.mark.parametrize("error", [subprocess.TimeoutExpired("nvidia-smi", 30), PermissionError("nvidia-smi")])
def test_a_driver_that_does_not_answer_is_not_known_and_ends_no_run(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(provenance.shutil, "which", lambda name: name)
    monkeypatch.setattr(provenance.subprocess, "run", fail)
    assert provenance._driver() is None


def test_all_runs_of_a_process_are_told_by_the_code_that_it_began_with(tmp_path):
    for words in (["init", "-q"], ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "c", "--allow-empty"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    file, run = tmp_path / "src" / "loss.py", MagicMock()
    file.parent.mkdir()
    file.write_text("a = 1\n")
    _, first = provenance.tell(run, {}, tmp_path)
    file.write_text("a = 2\n")
    _, later = provenance.tell(run, {}, tmp_path)
    assert "+a = 1" in first["patch"] and later == first


def test_a_run_holds_the_record_and_says_what_it_lacks(tmp_path, monkeypatch, capsys):
    made_by = {"commit": "c", "dirty": True, "patch": "+a", "patch_sha256": "d", "patch_cut": ""}
    monkeypatch.setattr(provenance, "_code", lambda repo: made_by)
    run = MagicMock()
    here, _ = provenance.tell(run, {}, tmp_path)
    run.json.assert_called_once_with(here, "environment.json")
    run.text.assert_called_once_with("+a", "code.patch")
    assert [call.args[0] for call in run.tags.mock_calls] == [
        {"code.commit": "c", "code.dirty": True, "code.patch_sha256": "d"}
    ]
    assert capsys.readouterr().err == ""
    made_by |= {"patch": "", "patch_cut": "too large"}
    run = MagicMock()
    provenance.tell(run, {}, tmp_path)
    assert run.tags.mock_calls[-1].args == ({"code.patch_cut": "too large"},) and not run.text.called
    assert "this run cannot be repeated: too large" in capsys.readouterr().err


def test_the_hash_of_weights_does_not_depend_on_order_layout_or_device_copy():
    a, b = torch.arange(6, dtype=torch.float32).reshape(2, 3), torch.tensor(3, dtype=torch.int64)
    state = {"w": a, "n": b}
    other = {"n": b.clone(), "w": a.t().contiguous().t()}
    assert not other["w"].is_contiguous()
    assert provenance.state_sha256(state) == provenance.state_sha256(other)
    assert provenance.state_sha256(state) == provenance.state_sha256({"w": a.numpy(), "n": np.int64(3)})


@pytest.mark.parametrize(
    "other",
    [
        {"w": torch.zeros(2, 3)},
        {"v": torch.ones(2, 3)},
        {"w": torch.ones(3, 2)},
        {"w": torch.ones(2, 3, dtype=torch.bfloat16)},
        {"w": torch.ones(2, 3).view(torch.int32)},  # the same bits
        {"w": torch.ones(2, 3), "x": torch.ones(1)},
    ],
)
def test_the_hash_of_weights_changes_with_value_name_shape_type_and_count(other):
    assert provenance.state_sha256({"w": torch.ones(2, 3)}) != provenance.state_sha256(other)
