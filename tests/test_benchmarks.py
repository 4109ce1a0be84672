"""Benchmarks say what they measured, where and of which code, the page shows what their files hold, and they start."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
ROW = {"what": "a step, times faster than", "peer": "nothing", "target": ">= 1x", "met": True}

# Of the others, which import a peer or MLflow, importing alone takes seconds.
LIGHT = (
    "coco_conversion", "distillation", "gpu", "growth", "kept_memory", "out_of_core", "pamap2", "side_by_side",
    "waiting_threads",
)  # fmt: skip


@pytest.fixture
def benchmarks(monkeypatch):
    """The two shared files of benchmarks/, as its scripts import them."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import _measure
    import _report

    return _measure, _report


def test_a_record_says_what_was_measured_where_and_of_which_code(benchmarks, tmp_path, monkeypatch):
    measure, _ = benchmarks
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["/elsewhere/benchmarks/one.py", "8", "two words"])
    measure.keep("one", [{**ROW, "ratio": measure.ratio([2.0, 4.0], [1.0, 1.0])}], ("numpy",), "wall clock")
    (record,) = tmp_path.rglob("*.json")
    assert record == tmp_path / measure.slug(measure.machine()["cpu"]) / "one.json"
    made = json.loads(record.read_text())
    assert made["command"] == "python benchmarks/one.py 8 'two words'"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made["date"])
    assert {"commit", "changed"} <= set(made)
    assert {"cpu", "cores", "memory_gib", "system", "load"} == set(made["machine"])
    assert set(made["versions"]) == {"python", "numpy"}
    assert made["rows"][0]["ratio"]["ratio"] == 3.0


def test_a_record_names_the_commit_and_what_differs_from_it_but_for_what_benchmarks_write(
    benchmarks, tmp_path, monkeypatch
):
    measure, _ = benchmarks
    monkeypatch.setattr(measure, "ROOT", tmp_path)
    monkeypatch.delenv("SPKD_COMMIT", raising=False)
    assert measure.code() == {"commit": None, "changed": None}
    (tmp_path / "results" / "benchmarks").mkdir(parents=True)
    for name in ("code.py", "results/benchmarks/one.json"):
        (tmp_path / name).write_text("1")
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "first")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    (tmp_path / "results/benchmarks/one.json").write_text("2")
    (tmp_path / "new.py").write_text("2")
    clean = measure.code()
    assert re.fullmatch("[0-9a-f]{40}", clean["commit"])
    assert clean["changed"] == []
    (tmp_path / "code.py").write_text("2")
    assert measure.code()["changed"] == ["code.py"]


def test_faster_is_their_median_over_ours_and_met_from_its_target_on(benchmarks):
    measure, _ = benchmarks
    seconds = {"o": [1.0, 1.0, 4.0], "t": [8.0, 8.0, 9.0]}
    row = measure.faster("a", "b", seconds, "o", "t", 9)
    assert (row["what"], row["peer"], row["target"]) == ("a, times faster than", "b", ">= 9x")
    assert row["ratio"] == pytest.approx({"ratio": 8, "min": 2.25, "max": 8, "n": 3, "sd": 3.3198}, abs=1e-4)
    assert row["seconds"] == {"ours": [1, 1, 4], "theirs": [8, 8, 9]}
    assert [measure.faster("a", "b", seconds, "o", "t", least)["met"] for least in (9, 8, 7)] == [False, True, True]


def test_dearer_is_our_median_over_the_bounds_and_met_up_to_its_target(benchmarks):
    measure, _ = benchmarks
    seconds = {"o": [3.0, 3.0, 9.0], "bound": [2.0, 2.0, 2.0]}
    row = measure.dearer("a", "b", seconds, "o", "bound", 1.4)
    assert (row["what"], row["peer"], row["target"]) == ("a, cost beside", "b", "<= 1.4x")
    assert (row["ratio"]["ratio"], row["ratio"]["min"], row["ratio"]["max"]) == (1.5, 1.5, 4.5)
    assert row["seconds"] == {"ours": [3, 3, 9], "bound": [2, 2, 2]}
    assert [measure.dearer("a", "b", seconds, "o", "bound", most)["met"] for most in (1.4, 1.5, 1.6)] == [
        False, True, True
    ]  # fmt: skip


def test_turns_warm_up_then_take_all_in_turn_and_leave_what_comes_before_out_of_the_clock(benchmarks):
    measure, _ = benchmarks
    told, now = [], [0.0]

    def call(name, seconds):
        def told_and_timed():
            told.append(name)
            now[0] += seconds

        return told_and_timed

    what = {"a": call("a", 1.0), "b": call("b", 10.0)}
    seconds = measure.turns(what, 2, clock=lambda: now[0], before={"a": call("before a", 100.0)})
    assert told == ["a", "b", "before a", "a", "b", "before a", "a", "b"]
    assert seconds == {"a": [1, 1], "b": [10, 10]}


def test_the_page_says_where_when_and_of_which_code_a_file_was_measured(benchmarks):
    _, report = benchmarks
    made = {
        "command": "python benchmarks/one.py 8", "date": "2026-01-02T03:04:05Z", "commit": "0123456789abcdef",
        "changed": ["code.py", "b.py"], "machine": {"cores": 2, "cpu": "a chip", "memory_gib": 7.8, "load": 0.5},
        "versions": {"python": "3.11", "numpy": "2.0"}, "notes": "Wall clock.",
    }  # fmt: skip
    what = "- `one.py 8`, 2026-01-02, commit 0123456789 and changed code.py, b.py: "
    where = "2 cores of a chip, 8 GiB, load at its end 0.5; python 3.11, numpy 2.0. Wall clock."
    assert report.place(made) == what + where
    assert "changed" not in report.place({**made, "changed": []})


def test_an_amount_has_its_unit_in_the_table_and_a_hidden_row_is_not_there(benchmarks, tmp_path, monkeypatch):
    measure, report = benchmarks
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmarks/one.py", "8"])
    rows = [measure.amount("a run", [2.0, 3.0, 7.0], "s", 1, beyond="a peer's"), {**ROW, "shown": False}]
    rows[1]["ratio"] = measure.ratio([2.0], [1.0])
    measure.keep("another_name", rows, ())
    shown = report.table(report.records())
    assert "| a run, beyond a peer's | <= 1 s beyond | 3.00 s (sd 2.65, n=3): NOT met | `one.py` |" in shown
    assert "times faster" not in shown
    assert f"- `one.py 8`, {measure.BEGAN['date'][:10]}" in shown


def test_each_device_has_a_column_and_what_was_not_measured_there_is_a_dash(benchmarks, tmp_path, monkeypatch):
    measure, report = benchmarks
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    for script, device, what, times in (
        ("b.py", "AMD EPYC", "both", 2.0), ("b.py", "Intel(R) Xeon(R) Processor", "both", 0.5),
        ("a.py", "Intel(R) Xeon(R) Processor", "one", 3.0), ("gpu.py", "NVIDIA H100", "both", 4.0),
    ):  # fmt: skip
        monkeypatch.setattr(sys, "argv", [f"benchmarks/{script}"])
        found = measure.faster(what, "a peer", {"ours": [1.0], "theirs": [times]}, "ours", "theirs", 1)
        measure.keep(script.removesuffix(".py"), [found], (), device=device)
    processors, gpus, places = report.table(report.records()).split("\n\n")
    assert processors.splitlines() == [
        "| what | target | amd-epyc | intel-xeon | file |",
        "|---|---|---|---|---|",
        "| one, times faster than a peer | >= 1x | - | 3.00 (n=1): met | `a.py` |",
        "| both, times faster than a peer | >= 1x | 2.00 (n=1): met | 0.50 (n=1): NOT met | `b.py` |",
    ]
    assert gpus.splitlines()[0] == "| what | target | nvidia-h100 | file |"
    assert gpus.splitlines()[2:] == ["| both, times faster than a peer | >= 1x | 4.00 (n=1): met | `gpu.py` |"]
    assert [line.split("`")[1] for line in places.splitlines()] == ["b.py", "a.py", "b.py", "gpu.py"]


@pytest.mark.parametrize(
    ("device", "folder"),
    [
        ("Intel(R) Xeon(R) Platinum 8488C CPU @ 2.40GHz", "intel-xeon-platinum-8488c"), ("AMD EPYC", "amd-epyc"),
        ("NVIDIA H100 80GB HBM3", "nvidia-h100-80gb-hbm3"), ("../..", "unknown"),
    ],
)  # fmt: skip
def test_a_devices_folder_is_its_name_in_small_letters(benchmarks, device, folder):
    assert benchmarks[0].slug(device) == folder


def test_the_pages_show_what_the_files_hold(benchmarks):
    _, report = benchmarks
    for path, figures in report.pages().items():
        page = path.read_text(encoding="utf-8")
        assert report.filled(page, figures, path) == page, f"{path} is older: run python benchmarks/_report.py"


def test_every_headline_is_measured_somewhere_and_none_is_of_two_targets(benchmarks):
    _, report = benchmarks
    titles = {title: of for (_, title), of in report.shown(report.records()).items()}
    for what, beginnings in report.HEADLINES.items():
        rows = [row for begin in beginnings for t, of in titles.items() if t.startswith(begin) for row in of.values()]
        assert rows, what
        assert len({row["target"] for row in rows}) == 1, what
    assert len(report.short(report.records())) == 2 + len(report.HEADLINES)


def test_a_headline_takes_the_first_title_that_a_device_has(benchmarks, monkeypatch):
    _, report = benchmarks
    monkeypatch.setattr(report, "HEADLINES", {"fast": ("both cores,", "one core,"), "unmeasured": ("nothing",)})

    def made(script, *rows):
        found = {"sd": 0.0, "min": 1.0, "max": 9.0, "n": 2}
        rows = [
            {"what": what, "peer": "", "ratio": {**found, "ratio": x}, "target": ">= 2x", "met": x >= 2}
            for what, x in rows
        ]
        return {"command": f"python benchmarks/{script}", "rows": rows}

    found = [
        ("a", made("x.py", ("one core, a", 1.0), ("both cores, a", 3.0))),
        ("b", made("y.py", ("one core, b", 2.5))),
    ]
    assert report.short(found)[2:] == ["| fast | >= 2x | 3.00: met | 2.50: met | `x.py`, `y.py` |"]


@pytest.mark.parametrize("name", LIGHT)
def test_a_benchmark_starts(benchmarks, name):
    assert callable(importlib.import_module(name).main)


def test_every_curve_of_growth_has_its_points(benchmarks, monkeypatch):
    growth = importlib.import_module("growth")
    monkeypatch.setattr(growth, "N", 32)
    monkeypatch.setattr(growth, "BATCH", 16)
    assert growth.cache_mib("signal", 8) > growth.cache_mib("signal", 4) > 0
    for points in (growth.epochs("teachers", (0, 1), 2)[0], growth.filling((8, 16), 2)):
        rows = growth.Curve("time", "us", "things", points).rows()
        assert [row["ratio"]["n"] for row in rows] == [2]
        assert rows[-1]["shown"]


def test_what_a_gpu_was_measured_by_is_kept_though_a_later_part_breaks(benchmarks, monkeypatch):
    gpu, kept = importlib.import_module("gpu"), []

    def broken(of, repeats):
        raise RuntimeError("the GPU is gone")

    monkeypatch.setattr(gpu, "Study", lambda *words: SimpleNamespace(how="as it may be"))
    monkeypatch.setattr(gpu, "keep_nothing", lambda name, rows: kept.append((name, list(rows))))
    monkeypatch.setattr(gpu, "students", lambda of, repeats: [ROW])
    monkeypatch.setattr(gpu, "filling", broken)
    monkeypatch.setattr(gpu.seeding, "set_flags", lambda **flags: None)
    with pytest.raises(RuntimeError, match="gone"):
        gpu.main(["--rehearse"])
    assert kept == [("gpu", [ROW])]
