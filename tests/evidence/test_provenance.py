import hashlib
import json
import os
import shutil
import subprocess

import numpy as np
import pytest
import torch
import yaml

from spkd.errors import SpkdError
from spkd.evidence import provenance

WINDOWS = {"source": "raw", "length": 100, "step": 22}


def git(folder, *words):
    own = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    done = subprocess.run(
        ["git", *words], cwd=folder, env={**os.environ, **own}, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
def repo(tmp_path):
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "a.py").write_text("one\n")
    (tmp_path / ".gitignore").write_text("ignored\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_a_clean_tree_is_its_commit_and_no_patch(repo):
    (repo / "ignored").write_text("x")
    found = provenance.code(repo)
    assert found == {"commit": git(repo, "rev-parse", "HEAD").strip(), "dirty": False, "patch": "", "patch_cut": False}


def test_the_patch_of_a_dirty_tree_recreates_it_new_files_included(repo, tmp_path_factory):
    (repo / "a.py").write_text("two\n")
    (repo / "new.py").write_text("new\n")
    before = git(repo, "status", "--porcelain")
    found = provenance.code(repo)
    assert found["dirty"] and git(repo, "status", "--porcelain") == before
    other = tmp_path_factory.mktemp("other") / "clone"
    git(repo, "clone", "-q", str(repo), str(other))
    (other / "code.patch").write_text(found["patch"])
    git(other, "apply", "code.patch")
    assert (other / "a.py").read_text() == "two\n" and (other / "new.py").read_text() == "new\n"


def test_variables_of_a_git_hook_do_not_lend_the_run_another_commit(repo, tmp_path_factory, monkeypatch):
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "-q")
    git(other, "commit", "-q", "--allow-empty", "-m", "elsewhere")
    expected = provenance.code(repo)["commit"]
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    (repo / "a.py").write_text("two\n")
    found = provenance.code(repo)
    assert found["commit"] == expected and "+two" in found["patch"]


def test_a_huge_change_is_cut_and_says_so(repo):
    (repo / "big.txt").write_text("0123456789\n" * 200_000)
    found = provenance.code(repo)
    assert found["patch_cut"] and len(found["patch"]) <= provenance.LONGEST_PATCH_BYTES


def test_code_without_git_or_outside_a_repository_is_unknown_and_said_aloud(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.code(tmp_path)["commit"] == "unknown"
    assert "not a git repository" in capsys.readouterr().err
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert provenance.code(tmp_path)["commit"] == "unknown"
    assert "git is not installed" in capsys.readouterr().err


def test_the_environment_names_machine_packages_lock_and_flags(tmp_path):
    (tmp_path / "requirements.lock").write_text("torch==1\n")
    found = provenance.environment({"deterministic_algorithms": True}, tmp_path)
    assert found["lock_sha256"] == hashlib.sha256(b"torch==1\n").hexdigest()
    assert found["packages"]["torch"] and found["packages"]["mlflow"]
    assert found["torch"] == torch.__version__ and found["cores"] >= 1 and found["cpu"]
    assert json.loads(json.dumps(found)) == found
    ten = provenance.compared(found)
    assert len(ten) == 10 and ten["flags"] == "deterministic_algorithms=True"
    assert (ten["gpu"] == "none") == (not torch.cuda.is_available())


def prepared(repo, with_lock=True):
    """Prepared windows of a data set, as a DVC stage leaves them."""
    folder = repo / "data" / "windows" / "toy"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"settings": WINDOWS, "digest": "d" * 32}))
    (repo / "src").mkdir()
    (repo / "src" / "toy.py").write_text("code\n")
    md5 = hashlib.md5(b"code\n").hexdigest()
    deps = [
        {"path": "data/raw/toy", "hash": "md5", "md5": "a" * 32 + ".dir", "size": 5},
        {"path": "src/toy.py", "hash": "md5", "md5": md5, "size": 5},
    ]
    outs = [{"path": "data/windows/toy", "hash": "md5", "md5": "b" * 32 + ".dir", "size": 9}]
    if with_lock:
        stages = {"windows@toy": {"cmd": "x", "deps": deps, "outs": outs}}
        (repo / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    return folder.relative_to(repo)


def test_fresh_data_pass(tmp_path):
    provenance.check_fresh(prepared(tmp_path), WINDOWS, tmp_path)


def test_data_without_a_dvc_lock_are_checked_by_their_manifest(tmp_path):
    folder = prepared(tmp_path, with_lock=False)
    provenance.check_fresh(folder, WINDOWS, tmp_path)
    assert provenance.data(folder, tmp_path)["dvc_md5"] is None


def test_missing_data_are_an_error_that_names_the_command(tmp_path):
    with pytest.raises(SpkdError, match="dvc repro windows@toy"):
        provenance.check_fresh(prepared(tmp_path).with_name("toy"), WINDOWS, tmp_path / "elsewhere")


@pytest.mark.parametrize("change", [{"length": 200}, {"extra": 1}])
def test_data_of_other_settings_are_stale(tmp_path, change):
    key, value = next(iter(change.items()))
    with pytest.raises(SpkdError, match=f"{key} = {value}, got stale data with {key}.*dvc repro windows@toy"):
        provenance.check_fresh(prepared(tmp_path), {**WINDOWS, **change}, tmp_path)


@pytest.mark.parametrize("text", ["edit\n", "longer than before\n", None])
def test_data_made_by_other_code_are_stale(tmp_path, text):
    folder = prepared(tmp_path)
    if text is None:
        (tmp_path / "src" / "toy.py").unlink()
    else:
        (tmp_path / "src" / "toy.py").write_text(text)
    with pytest.raises(SpkdError, match=r"src/toy.py changed since.*dvc repro windows@toy"):
        provenance.check_fresh(folder, WINDOWS, tmp_path)


def test_data_lineage_is_the_md5_that_dvc_recorded_with_manifest_and_lock(tmp_path):
    folder = prepared(tmp_path)
    found = provenance.data(folder, tmp_path)
    assert found["dvc_md5"] == "b" * 32 + ".dir" and len(found["dvc_md5"]) == 36
    assert found["manifest"]["digest"] == "d" * 32 and "windows@toy" in found["dvc_lock"]


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


def test_recordings_that_were_named_and_not_imported_yet_make_prepared_data_stale(tmp_path):
    folder = prepared(tmp_path)
    (tmp_path / "data.dvc").write_text("deps: [{path: /mnt/lab}]\nouts: [{path: data/raw}]\n")
    with pytest.raises(SpkdError, match=r"prepared from /mnt/lab, which data.dvc names.*dvc repro windows@toy"):
        provenance.check_fresh(folder, WINDOWS, tmp_path)
    (tmp_path / "data.dvc").write_text("deps: [{path: /mnt/lab, md5: a}]\nouts: [{path: data/raw, md5: a}]\n")
    provenance.check_fresh(folder, WINDOWS, tmp_path)
