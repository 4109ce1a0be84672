"""What a trained run gives to the comparison, and the command from settings to page."""

import csv
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from spkd.cli import compare
from spkd.errors import SpkdError
from spkd.evidence import selection, tracking
from spkd.evidence.comparison import reading
from spkd.evidence.tracking import store
from spkd.evidence.tracking.reading import RunInfo, get


@pytest.fixture(scope="module")
def record(trained):
    return reading.read(get(trained.student))


def test_a_record_holds_what_the_run_logged(record):
    assert record.settings["train.epochs"] == 3
    assert record.data["data.digest"] == record.run.tags["data.digest"]
    assert record.data["windows.length"] == 32
    assert "packages.torch" in record.environment
    assert record.code["commit"] == record.run.tags["code.commit"]
    assert [step for step, _ in record.curves["test/accuracy"]] == [1, 2, 3]
    assert not [key for key in record.curves if key.startswith(("headline/", "cost/", "first_step/"))]
    assert list(record.teachers) == ["signal-wrn16-1"]
    assert record.run.simulated and not record.detection
    assert set(record.code) <= {"commit", "dirty", "patch_sha256", "patch_cut", "patch"}


def test_a_record_holds_the_settings_of_its_teachers_that_the_store_has(trained, record):
    assert record.taught["signal-wrn16-1.network.depth"] == "16"
    assert record.taught["signal-wrn16-1.role"] == "teacher" and reading.read(get(trained.scratch)).taught == {}
    gone = replace(record.run, tags={**record.run.tags, "teacher.signal-wrn16-1.run_id": "0" * 32})
    assert reading.read(gone).taught == {}


def test_the_maps_are_those_of_every_kept_step(record):
    assert list(record.maps) == [0, 2, 3]
    layer = record.maps[3]["group2"]
    assert set(layer.products) == {"student", "signal-wrn16-1"}
    assert layer.products["student"].shape == (len(layer.labels), len(layer.labels))


def test_maps_of_other_windows_of_the_same_classes_are_of_another_probe():
    arrays = {"rows": np.array([3, 8]), "labels": np.array([0, 1])}
    of = reading._identity(arrays, "digest")
    assert reading._identity(dict(arrays), "digest") == of
    assert reading._identity({**arrays, "rows": np.array([3, 9])}, "digest") != of
    assert reading._identity(arrays, "other") != of


def test_confusion_and_subjects_agree_with_the_accuracy_of_the_run(record):
    accuracy = np.trace(record.confusion) / record.confusion.sum()
    assert accuracy == pytest.approx(record.run.metrics["headline/accuracy"])
    total = sum(windows for _, windows in record.subjects.values())
    assert sum(a * n for a, n in record.subjects.values()) / total == pytest.approx(accuracy)
    assert record.classes == ["a", "b", "c"]


def test_a_row_of_the_confusion_is_a_true_class(trained, record):
    table = json.loads(tracking.artifact(trained.student, "predictions.json").read_text("utf-8"))
    row = {name: [cells[k] for cells in table["data"]] for k, name in enumerate(table["columns"])}
    counted = np.zeros((3, 3), int)
    np.add.at(counted, (row["true"], row["predicted"]), 1)
    assert (counted != counted.T).any()  # or there was nothing to see
    assert record.confusion.tolist() == counted.tolist()


def test_the_maps_of_a_detector_are_those_that_it_kept(trained, tmp_path):
    product = np.eye(2, dtype=np.float32)
    np.savez(tmp_path / "maps.npz", **{"image_class": [0, 1], "student/image/P3": product, "teacher/image/P3": product})
    with tracking.open_run("detector", tmp_path / "run", "spkd", tags={"kind": "other"}) as run:
        run.file(tmp_path / "maps.npz", "maps/00003.npz")
    read = reading.read(get(run.id))
    assert list(read.maps) == [3] and list(read.maps[3]) == ["image/P3"]
    assert set(read.maps[3]["image/P3"].products) == {"student", "teacher"}


def test_runs_of_one_data_set_show_the_same_windows(trained, record):
    assert reading.read(get(trained.scratch)).rows == record.rows != ""


def test_equal_row_numbers_of_other_data_are_other_windows(trained, record):
    run = get(trained.student)
    other = reading.read(replace(run, tags={**run.tags, "data.digest": "other"}))
    assert other.maps.keys() == record.maps.keys() and other.rows not in ("", record.rows)


def test_ids_keep_their_order_and_may_be_short(trained):
    found = selection.chosen(f"{trained.scratch[:10]}, {trained.student}")
    assert [run.id for run in found] == [trained.scratch, trained.student]


def test_of_runs_of_one_name_the_newest_counts_and_teachers_come_first():
    named = [("1", "b", "student"), ("2", "a", "scratch"), ("3", "b", "student"), ("4", "c", "teacher")]  # newest first
    runs = [RunInfo(i, name, "FINISHED", "0", 0, 0, {}, {}, {"kind": kind}) for i, name, kind in named]
    assert [run.id for run in selection.newest(runs)] == ["4", "2", "1"]


def test_a_search_leaves_out_runs_that_trained_nothing(trained, tmp_path):
    with tracking.open_run("table", tmp_path / "other", "spkd", tags={"kind": "compare"}):
        pass
    kinds = {run.tags["kind"] for run in selection.chosen("attributes.status = 'FINISHED'")}
    assert {"student", "scratch"} <= kinds <= {"teacher", "student", "scratch"}


@pytest.fixture
def orphan(trained, tmp_path):
    """orphan(tags) -> the id of a finished run with these tags, which is gone after the test."""
    made = []

    def make(tags):
        with tracking.open_run("orphan", tmp_path / f"orphan{len(made)}", "spkd", tags=tags) as run:
            made.append(run.id)
        return run.id

    yield make
    for run_id in made:
        store.client().delete_run(run_id)


def test_a_repetition_that_was_left_alone_does_not_stand_for_the_run_it_repeats(trained, orphan):
    recorded = tracking.get(trained.scratch)
    left = orphan({k: v for k, v in recorded.tags.items() if not k.startswith("mlflow.")} | {"repeats": recorded.id})
    orphan({"kind": "detect", "repeats": "d"})
    assert left not in [run.id for run in selection.of_fold(recorded.tags["data.digest"], 0)]
    assert left not in [run.id for run in selection.chosen("attributes.status = 'FINISHED'")]
    assert [run.id for run in selection.chosen(left)] == [left]
    assert selection.detectors() == []


def test_a_search_leaves_out_runs_that_are_not_finished_and_says_so_and_ids_do_not(trained, orphan, capsys):
    failed = orphan({"kind": "student", "of": "this test"})
    finished = orphan({"kind": "student", "of": "this test"})
    store.client().update_run(failed, status="FAILED")
    store.client().update_run(finished, status="FINISHED")
    assert [run.id for run in selection.chosen("tags.of = 'this test'")] == [finished]
    assert "1 of 2 runs of the search are not finished" in capsys.readouterr().out
    assert [run.id for run in selection.chosen(failed)] == [failed]


def test_a_run_of_another_program_is_refused_with_its_name(trained, orphan):
    with pytest.raises(SpkdError, match=r"a run of teacher, distill or detect, got 'orphan' \(kind none"):
        selection.chosen(f"{trained.student},{orphan({})}")


@pytest.mark.parametrize("words", ["ffffff", "tags.kind = 'nothing'"])
def test_nothing_found_is_an_error(trained, words):
    with pytest.raises(SpkdError, match="runs"):
        selection.chosen(words)


def test_the_command_prints_the_table_and_writes_the_page_twice(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained.folder)
    settings, tree = trained.settings(compare__runs=f"{trained.student},{trained.scratch}")
    assert compare.main([], settings, tree, {"csv": "all.csv"}) == 0
    out = capsys.readouterr().out
    assert "accuracy %" in out and "SIMULATED" in out and trained.student[:8] in out
    page = (trained.folder / "compare.html").read_text("utf-8")
    assert page.index("SIMULATED") < page.index("<nav>")
    rows = list(csv.DictReader((trained.folder / "all.csv").read_text("utf-8").splitlines()))
    assert len(rows) == 2
    for row in rows:
        assert (row["data.origin"], row["data.dataset"], row["data.window"]) == (
            "simulated",
            "chest",
            "32 samples at 32 Hz",
        )
        assert "validation subjects" in row["headline"]
    run = tracking.find("tags.kind = 'compare' AND attributes.run_name = 'compare 2 runs'")[0]
    assert tracking.artifact(run.id, "compare.html").read_text("utf-8") == page
    assert run.tags["compared"] == f"{trained.student} {trained.scratch}"
    assert run.tags["data.origin"] == "simulated"
    assert not (trained.places.runs / "compare").exists()


def test_without_runs_named_the_newest_of_each_kind_on_the_fold_are_shown(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained.folder)
    assert compare.main([], *trained.settings(), {}) == 0
    out = capsys.readouterr().out
    assert (
        " scratch chest s1 32@32Hz t0" in out and " teacher chest s1 32@32Hz t0" in out and "<- signal:wrn16-1" in out
    )
    assert compare.main([], *trained.settings(fold=3), {}) == 1
    out = capsys.readouterr().out
    assert f"fold 3, in {tracking.told()}" in out and "set MLFLOW_TRACKING_URI" in out


def test_more_runs_than_fit_are_cut_and_said(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained.folder)
    compare.main([], *trained.settings(compare__most=1, compare__out="one.html"), {})
    assert "the page shows the first 1 of" in capsys.readouterr().out
    assert (trained.folder / "one.html").is_file()


def test_a_damaged_artifact_is_an_error_with_its_name(trained, tmp_path):
    broken = tmp_path / "environment.json"
    broken.write_text("{", "utf-8")
    with tracking.open_run("broken", tmp_path / "run", "spkd", tags={"kind": "broken"}) as run:
        run.file(broken, "environment.json")
    with pytest.raises(SpkdError, match=r"environment\.json"):
        reading.read(get(run.id))


def test_a_comparison_does_not_wait_for_torch():
    code = "import sys, spkd.cli.compare; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
