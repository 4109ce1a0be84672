"""spkd windows: where it reads, what it says, and what it leaves where a data set has no recordings."""

import shutil
from pathlib import Path

import pytest

from spkd import __main__ as front
from spkd.data import windowset

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder without data."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("source", "folder"), [("raw", "raw"), ("uci", "fetched")])
def test_recordings_are_read_where_the_source_has_them_and_drops_are_said(project, capsys, source, folder):
    (project / "data" / folder).mkdir(parents=True)
    (project / "data" / folder / "chest").symlink_to(ROOT / "sample" / "chest", target_is_directory=True)
    assert front.main(["windows", "chest", "--datasets.chest.windows.source", source]) == 0
    said, windows = capsys.readouterr().out.splitlines(), windowset.load(project / "data" / "windows" / "chest")
    assert said[0] == f"chest: {len(windows)} windows of 6 subjects, digest {windows.digest}"
    drops, first = (windows.manifest[key] for key in ("drops", "first_seen"))
    assert drops and said[1:] == [f"  dropped {n}: {reason}; first: {first[reason]}" for reason, n in drops.items()]


def test_recordings_without_this_data_set_leave_a_note_and_no_recordings_at_all_are_an_error(project, capsys):
    assert front.main(["windows", "chest"]) == 2
    assert "data/raw/chest" in capsys.readouterr().err
    (project / "data" / "raw").mkdir(parents=True)
    assert front.main(["windows", "chest"]) == 0
    assert capsys.readouterr().out == "chest: no folder chest in the recordings that data.dvc imports: left out\n"
    assert windowset.is_left_out(project / "data" / "windows" / "chest")


def test_an_error_of_recordings_says_where_they_come_from_as_dvc_takes_back_what_is_changed_in_its_copy(
    project, capsys
):
    (project / "data/raw/chest").mkdir(parents=True)
    stage = "deps:\n- path: /mnt/lab\n  md5: a.dir\nouts:\n- path: data/raw\n  md5: a.dir\n"
    (project / "data.dvc").write_text(stage, "utf-8")
    assert front.main(["windows", "chest"]) == 2
    where = "data/raw is DVC's copy of /mnt/lab: change files there, then `dvc repro`"
    assert f"put it there, or set datasets.chest.windows.source to uci. {where}" in capsys.readouterr().err
    (project / "data/raw/coco").mkdir()
    assert front.main(["convert-coco"]) == 2
    assert f"got no annotations/; run `dvc repro`, or put it there. {where}" in capsys.readouterr().err
    assert front.main(["windows", "chest", "--datasets.chest.windows.source", "uci"]) == 2
    assert where not in capsys.readouterr().err
