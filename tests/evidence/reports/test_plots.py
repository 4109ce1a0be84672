"""The plots of a table's page: every mark stands where its number is."""

import re

import pytest

from spkd.evidence.reports import document, plots
from spkd.evidence.reports.findings import Record


def record(row, trial, accuracy, **more):
    return Record(row, 0, trial, results={"headline/accuracy": accuracy}, **more)


def places(svg, pattern):
    return [float(x) for x in re.findall(pattern, svg)]


def test_dots_bar_and_diamond_stand_at_their_accuracies_on_the_axis_below():
    records = [record("a", 0, 0.60), record("a", 1, 0.70, published=80.0)]
    svg = plots.dots(records)[1]
    ticks = {int(t): float(x) for x, t in re.findall(r'<text x="([\d.]+)" y="48" [^>]*>(\d+)<', svg)}
    pixels = (ticks[80] - ticks[60]) / 20
    assert places(svg, r'<circle cx="([\d.]+)"') == pytest.approx([ticks[60], ticks[70]], abs=0.2)
    assert places(svg, r'd="M([\d.]+) [\d.]+v18" class="mean"') == pytest.approx([ticks[60] + 5 * pixels], abs=0.2)
    assert places(svg, r'<path d="M([\d.]+) \d+l6') == pytest.approx([ticks[80]], abs=0.2)
    assert "a, trial 1: 70.00 %" in svg and "published: 80.00 %" in svg


def test_a_better_epoch_stands_higher_and_a_row_is_switched_by_its_own_box():
    rows = {"a": [(1, 0.2), (3, 0.4)], "b": [(1, 0.3), (3, 0.3)]}
    records = [record(row, 0, 0.5, curve=points) for row, points in rows.items()]
    head, svg = plots.curves(records)
    heights = {
        k: [float(point.split()[1]) for point in points.split("L")]
        for k, points in re.findall(r'class="r(\d)">.*?<path d="M([^"]+)" class="line"', svg)
    }
    assert heights["0"][1] < heights["1"][0] == heights["1"][1] < heights["0"][0]  # y grows downwards
    assert re.findall(r'value="(\d)">.*?</svg> (\w)<', head) == [("0", "a"), ("1", "b")]
    assert re.findall(r'class="r(\d)"><title>(\w)<', svg) == [("0", "a"), ("1", "b")]
    assert "querySelectorAll('.r'+box.value)" in document.SCRIPT


def test_a_long_name_is_cut_and_a_wide_one_has_its_room():
    long, korean = "word " * 30, "\uac00" * 15
    svg = plots.dots([record(long, 0, 0.5), record(korean, 0, 0.6)])[1]
    starts = [float(x) for x in re.findall(r'<text x="([\d.]+)" y="\d+" class="tick" text-anchor="end">', svg)]
    assert starts == [244, 244]
    assert f"<title>{long}</title>" in svg and f">{korean}<title>" in svg
