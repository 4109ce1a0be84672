"""spkd convert-coco: the sample as the DVC stage converts it, single files, folders of splits, and what it says."""

import json
import shutil

import pytest

from spkd.__main__ import run
from spkd.errors import SpkdError


@pytest.fixture
def project(tmp_path, monkeypatch, request):
    root = request.config.rootpath
    shutil.copy(root / "params.yaml", tmp_path)
    shutil.copytree(root / "sample" / "coco", tmp_path / "data" / "raw" / "coco")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def report(folder):
    return json.loads((folder / "conversion.json").read_text())


def test_the_stage_converts_the_sample_and_marks_it_as_simulated(project, capsys):
    assert run("convert-coco", []) == 0
    found = report(project / "data" / "coco")
    assert found["origin"] == "simulated"
    assert {s: d["images"] for s, d in found["splits"].items()} == {"train2017": 40, "val2017": 12}
    said = capsys.readouterr().out
    assert "origin simulated" in said
    assert "dropped 3: crowd region; first: annotation id" in said


def test_val2017_alone_is_train_and_val_and_says_so(project, capsys):
    (project / "data" / "fetched").mkdir()
    (project / "data" / "raw" / "coco").rename(project / "data" / "fetched" / "coco")
    assert run("convert-coco", ["--coco.source", "val2017"]) == 0
    assert list(report(project / "data" / "coco")["splits"]) == ["val2017"]
    assert "left out" not in capsys.readouterr().out.replace("left out 0", "")
    assert "SAME images" in (project / "data" / "coco" / "data.yaml").read_text()


def test_annotations_without_an_image_folder_are_left_out_with_a_word(project, capsys):
    (project / "data/raw/coco/train2017").rename(project / "elsewhere")
    assert run("convert-coco", []) == 0
    assert list(report(project / "data" / "coco")["splits"]) == ["val2017"]
    assert "instances_train2017.json: no image folder data/raw/coco/train2017: left out" in capsys.readouterr().out


def test_a_single_file_is_converted_where_it_is_asked_for(project):
    raw = project / "data" / "raw" / "coco"
    words = ["--annotations", str(raw / "annotations/instances_val2017.json"), "--images", str(raw / "val2017")]
    assert run("convert-coco", [*words, "--out", "mine", "--split", "holdout"]) == 0
    assert list(report(project / "mine")["splits"]) == ["holdout"]
    assert len(list((project / "mine" / "labels" / "holdout").iterdir())) == 12
    assert report(project / "mine")["origin"] == "simulated"
    assert run("convert-coco", [*words, "--out", "mine"]) == 0
    assert list(report(project / "mine")["splits"]) == ["val2017"]  # as its folder of images is called
    (raw / "val2017").rename(raw / "images")  # which is the name of no split
    words[-1] = str(raw / "images")
    assert run("convert-coco", [*words, "--out", "mine"]) == 0
    assert list(report(project / "mine")["splits"]) == ["train"]


def test_a_folder_of_annotations_is_converted_where_it_is_asked_for(project):
    raw = project / "data" / "raw" / "coco"
    words = ["--annotations", str(raw / "annotations"), "--images", str(raw), "--out", "mine"]
    assert run("convert-coco", words) == 0
    assert sorted(report(project / "mine")["splits"]) == ["train2017", "val2017"]
    (raw / "SIMULATED").unlink()
    assert run("convert-coco", words) == 0
    assert report(project / "mine")["origin"] == "coco"  # every such folder has one called annotations


def test_what_was_converted_is_not_replaced_by_a_note_that_there_are_no_recordings(project):
    assert run("convert-coco", []) == 0
    shutil.rmtree(project / "data" / "raw" / "coco")
    with pytest.raises(SpkdError, match="run `dvc repro`"):
        run("convert-coco", [])
    assert report(project / "data" / "coco")["origin"] == "simulated"


def test_options_come_together_and_a_missing_source_says_what_to_run(project):
    with pytest.raises(SpkdError, match=r"add --images --out"):
        run("convert-coco", ["--annotations", "x.json"])
    with pytest.raises(SpkdError, match="run `spkd fetch coco`"):
        run("convert-coco", ["--coco.source", "coco2017"])
    shutil.rmtree(project / "data" / "raw" / "coco" / "train2017")
    shutil.rmtree(project / "data" / "raw" / "coco" / "val2017")
    with pytest.raises(SpkdError, match="folder <split>"):
        run("convert-coco", [])
