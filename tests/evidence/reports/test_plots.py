"""The plots of a table's page: every mark stands where its number is."""

import re

import pytest

from spkd.evidence.reports import plots
from spkd.evidence.reports.findings import Record


def record(row, trial, accuracy, **more):
    return Record(row, 0, trial, results={"headline/accuracy": accuracy}, **more)


def places(svg, pattern):
    return [float(x) for x in re.findall(pattern, svg)]


def test_dots_bar_and_diamond_stand_at_their_accuracies_on_the_axis_below():
    records = [record("a", 0, 0.60), record("a", 1, 0.70, published=80.0)]
    svg = plots.dots(records)[1]
    ticks = {int(t): float(x) for x, t in re.findall(r'<text x="([\d.]+)" y="50.0" [^>]*>(\d+)<', svg)}
    pixels = (ticks[80] - ticks[60]) / 20
    assert places(svg, r'<circle cx="([\d.]+)"') == pytest.approx([ticks[60], ticks[70]], abs=0.2)
    assert places(svg, r'<path d="M([\d.]+) [\d.]+L[\d. ]+" stroke="var\(--ink\)"') == pytest.approx(
        [ticks[60] + 5 * pixels], abs=0.2
    )
    assert places(svg, r'<path d="M([\d.]+) \d+l6') == pytest.approx([ticks[80]], abs=0.2)
    assert "a, trial 1: 70.00 %" in svg and "published: 80.00 %" in svg


def test_a_better_epoch_stands_higher_and_a_row_is_switched_by_its_own_box():
    rows = {"a": [(1, 0.2), (3, 0.4)], "b": [(1, 0.3), (3, 0.3)]}
    records = [record(row, 0, 0.5, curve=points) for row, points in rows.items()]
    head, svg = plots.curves(records)
    heights = {
        k: [float(point.split(",")[1]) for point in points.split()]
        for k, points in re.findall(r'data-row="(\d)" points="([^"]+)"', svg)
    }
    assert heights["0"][1] < heights["1"][0] == heights["1"][1] < heights["0"][0]  # y grows downwards
    assert re.findall(r'value="(\d)">.*?</svg> (\w)<', head) == [("0", "a"), ("1", "b")]
    assert re.findall(r'data-row="(\d)".*?<title>(\w)<', svg) == [("0", "a"), ("1", "b")]
