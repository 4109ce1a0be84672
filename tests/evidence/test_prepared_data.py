"""Prepared data that no longer fit the settings or the code are refused with the command that renews them."""

import hashlib
from pathlib import Path

import pytest
import yaml

from spkd.errors import SpkdError
from spkd.evidence import prepared_data

OF_EMPTY = hashlib.md5(b"[]").hexdigest()
OF_DVC = "b5ae0d324d61fb061c8369f0743e272a"
WINDOWS = {"source": "raw", "length": 100, "step": 22}


def prepared(repo, with_lock=True):
    """Prepared windows of a data set, as a DVC stage leaves them."""
    folder = repo / "data" / "windows" / "toy"
    folder.mkdir(parents=True)
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
    prepared_data.check_fresh(prepared(tmp_path), WINDOWS, WINDOWS, tmp_path)


def test_data_without_a_dvc_lock_are_checked_by_their_manifest(tmp_path):
    folder = prepared(tmp_path, with_lock=False)
    prepared_data.check_fresh(folder, WINDOWS, WINDOWS, tmp_path)
    assert prepared_data.lineage(folder, tmp_path) == (None, "")


@pytest.mark.parametrize("change", [{"length": 200}, {"extra": 1}])
def test_data_of_other_settings_are_stale(tmp_path, change):
    key, value = next(iter(change.items()))
    told = f"{key} = {value}, got stale data with {key}.*dvc repro windows@toy`, which reads params.yaml and no command"
    with pytest.raises(SpkdError, match=told):
        prepared_data.check_fresh(prepared(tmp_path), WINDOWS, {**WINDOWS, **change}, tmp_path)


def test_data_of_a_setting_that_is_gone_are_stale(tmp_path):
    with pytest.raises(SpkdError, match="gone = absent, got stale data with gone = 1"):
        prepared_data.check_fresh(prepared(tmp_path), {**WINDOWS, "gone": 1}, WINDOWS, tmp_path)


@pytest.mark.parametrize("text", ["edit\n", "longer than before\n", None])
def test_data_made_by_other_code_are_stale(tmp_path, text):
    folder = prepared(tmp_path)
    if text is None:
        (tmp_path / "src" / "toy.py").unlink()
    else:
        (tmp_path / "src" / "toy.py").write_text(text)
    with pytest.raises(SpkdError, match=r"src/toy.py changed since.*dvc repro windows@toy"):
        prepared_data.check_fresh(folder, WINDOWS, WINDOWS, tmp_path)


def test_data_lineage_is_the_md5_that_dvc_recorded_of_what_the_folder_holds(tmp_path, capsys):
    """The md5 is what `dvc add` gave a folder of these two files."""
    folder = prepared(tmp_path)
    (tmp_path / folder / "parts").mkdir()
    (tmp_path / folder / "parts" / "a.npy").write_bytes(b"bytes\n")
    (tmp_path / folder / "manifest.json").write_text("{}\n")
    lock = tmp_path / "dvc.lock"
    lock.write_text(lock.read_text().replace("b" * 32, OF_DVC))
    md5, text = prepared_data.lineage(folder, tmp_path)
    assert md5 == f"{OF_DVC}.dir" and len(md5) == 36
    assert "windows@toy" in text and capsys.readouterr().out == ""
    (tmp_path / folder / "manifest.json").write_text('{"step": 44}\n')  # made by hand since, or a lock of other data
    assert prepared_data.lineage(folder, tmp_path) == (None, text)
    assert "data/windows/toy is not what dvc.lock records: `dvc repro`" in capsys.readouterr().out


def test_each_folder_has_what_dvc_recorded_of_its_own_stage(tmp_path, capsys):
    folder = prepared(tmp_path)
    lock = yaml.safe_load((tmp_path / "dvc.lock").read_text())
    other = {"cmd": "y", "deps": [{"path": "src/gone.py", "md5": "c" * 32, "size": 1}, {"path": "not/dvc's"}]}
    other["outs"] = [{"path": "data/log", "md5": "e" * 32}, {"path": "data/other", "md5": f"{OF_EMPTY}.dir"}]
    lock["stages"] = {"other": other, "none": {"cmd": "z"}, **lock["stages"]}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    prepared_data.check_code(folder, "do", tmp_path)
    (tmp_path / "data" / "other").mkdir()
    assert prepared_data.lineage(Path("data/other"), tmp_path)[0] == f"{OF_EMPTY}.dir"
    assert prepared_data.lineage(Path("data/made-by-hand"), tmp_path)[0] is None
    assert capsys.readouterr().out == ""  # what no stage makes agrees with the lock


def test_recordings_that_were_named_and_not_imported_yet_make_prepared_data_stale(tmp_path):
    folder = prepared(tmp_path)
    (tmp_path / "data.dvc").write_text("deps: [{path: /mnt/lab}]\nouts: [{path: data/raw}]\n")
    with pytest.raises(SpkdError, match=r"prepared from /mnt/lab, which data.dvc names.*dvc repro windows@toy"):
        prepared_data.check_fresh(folder, WINDOWS, WINDOWS, tmp_path)
    fetched = {**WINDOWS, "source": "uci"}
    prepared_data.check_fresh(folder, fetched, fetched, tmp_path)  # which are not from there
    (tmp_path / "data.dvc").write_text("deps: [{path: /mnt/lab, md5: a}]\nouts: [{path: data/raw, md5: a}]\n")
    prepared_data.check_fresh(folder, WINDOWS, WINDOWS, tmp_path)
    (tmp_path / "data.dvc").write_text("deps: [{path: /mnt/lab, md5: b}]\nouts: [{path: data/raw, md5: a}]\n")
    with pytest.raises(SpkdError, match=r"other files in data/raw: .*dvc repro --force data.dvc`, then `dvc repro w"):
        prepared_data.check_fresh(folder, WINDOWS, WINDOWS, tmp_path)
