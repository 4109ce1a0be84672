"""The table of runs: every number stands below its own head, in its own unit."""

import csv
import io
import re
from dataclasses import replace

import pytest

from spkd.evidence.comparison import plain_text
from spkd.evidence.tracking.reading import RunInfo

METRICS = {
    "headline/accuracy": 0.123, "headline/macro_f1": 0.234, "last/accuracy": 0.345, "best/accuracy": 0.456,
    "validation/accuracy": 0.567, "cost/parameters": 12345.0, "cost/macs": 6.7e6, "cost/latency_ms": 8.91,
    "best/mAP50-95": 0.0123, "best/mAP50": 0.0234, "coco/AP": 0.0345, "train/loss": 9.0,
}  # fmt: skip
HAR = {
    "run": "a net", "accuracy %": "12.3", "macro-F1 %": "23.4", "last %": "34.5", "best on test %": "45.6",
    "parameters": "12,345", "MMACs": "6.7", "ms/window": "8.91", "id": "01234567",
}  # fmt: skip
DETECTION = {
    "run": "a net", "mAP50-95": "0.0123", "mAP50": "0.0234", "COCO AP": "0.0345", "parameters": "12,345",
    "id": "01234567",
}  # fmt: skip


def run(metrics, **tags):
    return RunInfo("0123456789abcdef" * 2, "a net", "FINISHED", "0", 0, 0, {"cfg/fold": "2"}, metrics, tags)


@pytest.mark.parametrize(("columns", "shown"), [(plain_text.HAR, HAR), (plain_text.DETECTION, DETECTION)])
def test_every_number_stands_below_its_head_in_its_unit(columns, shown):
    head, line, row = plain_text.text([run(METRICS)], columns).splitlines()
    heads, cells = (re.split(r"\s{2,}", text) for text in (head, row))
    assert dict(zip(heads, cells, strict=True)) == shown and set(line) == {"-"}


@pytest.mark.parametrize("columns", [plain_text.HAR, plain_text.DETECTION])
def test_what_a_run_did_not_record_is_a_dash(columns):
    assert [value(run({})) for _, value in columns[1:-1]] == ["-"] * (len(columns) - 2)


def test_the_csv_has_results_and_costs_as_they_are_and_the_facts_that_were_asked_for():
    text = plain_text.csv_text([run(METRICS, kind="student"), run({"cost/macs": 1.0})], ["kind", "cfg/fold"])
    first, second = csv.DictReader(io.StringIO(text))
    assert (first["run"], first["name"], first["kind"], first["cfg/fold"]) == (
        "0123456789abcdef" * 2,
        "a net",
        "student",
        "2",
    )
    kept = {key: str(value) for key, value in METRICS.items() if key != "train/loss"}
    assert {key: first[key] for key in kept} == kept and "train/loss" not in first
    assert (second["kind"], second["cost/macs"], second["best/accuracy"]) == ("", "1.0", "")


def test_the_data_are_told_with_window_rate_and_digest():
    long = {"data.dataset": "gene", "data.window": "1000 samples at 100 Hz", "data.digest": "0123456789"}
    short = {**long, "data.window": "500 samples at 100 Hz", "data.digest": "abcdefghij"}
    told = plain_text.data([run({}, **tags) for tags in (long, short, long)])
    assert told == "gene, 1000 samples at 100 Hz, data 01234567 | gene, 500 samples at 100 Hz, data abcdefgh"
    assert plain_text.data([run({}, **{"data.name": "coco", "data.digest": "0123456789"})]) == "coco, data 01234567"


def test_what_drifted_between_rows_is_told_and_not_what_makes_them_rows():
    settings = {"cfg/train.batch": "32", "cfg/distill.lambda": "0.7", "cfg/run.seed": "0", "env/gpu": "none"}
    one = replace(run({}), params=settings, tags={"code.commit": "0123456789"})
    same = replace(one, name="b net", params={**settings, "cfg/distill.lambda": "0.9", "cfg/run.seed": "1"})
    assert plain_text.differing([one, same]) == ""
    other = replace(
        one, name="c net", params={"cfg/train.batch": "64", "env/gpu": "none"}, tags={**one.tags, "code.dirty": "true"}
    )
    told = "not the same in every row: train.batch 32 | 64; code 01234567 | 01234567 changed"
    assert plain_text.differing([one, same, other]) == told


def test_rows_of_one_name_are_told_apart_by_their_settings_and_their_teachers():
    def student(number, sp, teacher, name="a net"):
        params = {"cfg/distill.beta.sp": sp, "cfg/distill.lambda": "0.7"}
        tags = {"teacher.gaf.run_id": teacher * 32, "teacher.gaf.sha256": teacher, "ended": f"process {number}"}
        return replace(run({}, **tags), id=number * 32, name=name, params=params)

    one, elsewhere, other, third = (
        student(*row) for row in [("1", "50", "a"), ("2", "7", "c", "another"), ("3", "9", "b"), ("4", "50", "b")]
    )
    told = "distill.beta.sp 50 | 9 | 50; teacher.gaf.run_id aaaaaaaa | bbbbbbbb | bbbbbbbb"
    assert (
        plain_text.differing([one, elsewhere, other, third]) == f"called alike, 11111111 | 33333333 | 44444444: {told}"
    )
    assert plain_text.differing([one, elsewhere]) == ""
