import xml.etree.ElementTree as ElementTree

import pytest

from spkd.evidence import compare_svg as svg
from spkd.evidence.compare_svg import Axis, Series


def series(number, points, marked=None):
    return Series(number, f"run {number}", "ABC"[number], "#112233", "", points, marked)


def test_an_axis_lays_values_on_pixels():
    up = Axis(0.0, 10.0, 200.0, 0.0)
    assert [up.at(v) for v in (0, 5, 10)] == [200, 100, 0]
    cost = Axis(1.0, 100.0, 0.0, 100.0, log=True)
    assert [cost.at(v) for v in (1, 10, 100)] == pytest.approx([0, 50, 100])


@pytest.mark.parametrize(
    ("low", "high", "log", "expected"),
    [
        (0.0, 1.0, False, [0, 0.5, 1.0]),
        (1.0, 10.0, False, [2, 4, 6, 8, 10]),
        (-0.2, 0.2, False, [-0.2, -0.1, 0, 0.1, 0.2]),
        (5.0, 300.0, True, [5, 10, 20, 50, 100, 200]),
        (5e3, 3e8, True, [1e4, 1e5, 1e6, 1e7, 1e8]),
    ],
)
def test_ticks_are_round_and_inside(low, high, log, expected):
    assert Axis(low, high, 0, 1, log).ticks == pytest.approx(expected)


def test_a_narrow_cost_axis_still_has_ticks():
    assert len(Axis(2.6e6, 3.4e6, 0, 1, log=True).ticks) == 2


def test_the_pareto_front_is_what_nothing_cheaper_beats():
    points = [(1.0, 50.0), (2.0, 40.0), (2.0, 60.0), (3.0, 60.0), (9.0, 61.0)]
    assert svg.pareto(points) == [0, 2, 4]
    assert svg.pareto([]) == []


def test_labels_are_moved_apart_in_their_order_and_no_further_than_needed():
    assert svg.apart([10.0, 10.0, 50.0], 12.0) == [4.0, 16.0, 50.0]
    assert svg.apart([30.0, 29.0, 28.0], 10.0) == [39.0, 29.0, 19.0]
    assert svg.apart([0.0, 100.0], 12.0) == [0.0, 100.0]


@pytest.mark.parametrize(
    "drawn",
    [
        svg.lines("a & b", "epoch", [series(0, [(1, 0.5), (2, float("nan")), (3, 0.7)], 3), series(1, [(1, 0.5)])]),
        svg.scatter("<worth>", "cost", [series(0, [(1e3, 50)]), series(1, [(1e6, 60)])]),
        svg.bars("x", [("s<1>", [(series(0, []), 0.5)])], 1.0),
    ],
)
def test_every_chart_is_valid_xml(drawn):
    assert ElementTree.fromstring(drawn).tag == "svg"


def test_a_curve_without_a_finite_point_is_left_out():
    assert svg.lines("loss", "epoch", [series(0, [(1, float("nan"))])]) == ""
    assert 'class="r1"' not in svg.lines("loss", "epoch", [series(0, [(1, 1.0)]), series(1, [(1, float("inf"))])])


def test_long_curves_are_thinned_to_a_bound_and_keep_their_ends():
    kept = svg.thinned([(x, 1.0) for x in range(5000)])
    assert len(kept) <= svg.MOST_POINTS + 1
    assert (kept[0][0], kept[-1][0]) == (0, 4999)


def test_the_reported_epoch_is_a_dot_on_its_curve():
    drawn = svg.lines("acc", "epoch", [series(0, [(1, 0.1), (2, 0.9)], marked=2)])
    assert 'r="4" fill="#112233"' in drawn
    assert 'r="4"' not in svg.lines("acc", "epoch", [series(0, [(1, 0.1), (2, 0.9)], marked=7)])


@pytest.mark.parametrize(("value", "text"), [(1_200_000, "1.2M"), (0.5, "0.5"), (0, "0"), (2e9, "2G"), (5000, "5k")])
def test_ticks_are_short(value, text):
    assert svg.label(value) == text
