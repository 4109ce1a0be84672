"""The scripts of results/spkd-for-yolo, which docs/spkd-for-yolo.md tells readers to run, run with today's code."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPTS = Path(__file__).parents[2] / "results" / "spkd-for-yolo"


def script(name: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script, with the words that its `main` will read; torch's threads are put back afterwards."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr("sys.argv", [f"{name}.py", *words])
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    return importlib.import_module(name)


def test_the_table_of_maps_has_a_row_for_each_level_and_way_of_comparing(
    tiny_teacher: Path, tiny_set: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [str(tiny_teacher), str(tiny_set.parent), "--splits", "train", "--imgsz", "64"]
    maps = script("maps", words, monkeypatch)
    monkeypatch.setattr(maps, "DRAWS", 20)
    maps.main()
    *_, last = capsys.readouterr().out.splitlines()
    assert [(row["level"][:2], row["n"]) for row in json.loads(last)] == [
        (level, n) for level in ("P3", "P4", "P5") for n in (8, 8, 8, 16, 16)
    ]


def test_the_cost_of_a_step_is_told_for_each_mode(
    tiny_teacher: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [str(tiny_teacher), "--imgsz", "32", "--batch", "3", "--rounds", "1"]
    script("cost", words, monkeypatch).main()
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["plain", "batch", "pooled", "object"]


def test_a_run_of_the_trial_ends_with_its_line(
    tiny_teacher: Path, tiny_set: Path, tiny_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = script("trial", [], monkeypatch)
    monkeypatch.setattr(trial, "student", lambda teacher, seed, folder: tiny_yaml)
    monkeypatch.setattr(trial, "TRAINING", {**trial.TRAINING, "epochs": 1, "imgsz": 64})
    trial.one(tiny_teacher, tiny_set, tmp_path, "sp object", 1)
    line = json.loads((tmp_path / "sp-object-1" / "line.json").read_text())
    assert line["term first"] > 0
    assert set(line["agreement"]) == {f"{what}/P{level}" for what in ("image", "object") for level in (3, 4, 5)}
