import re
import xml.etree.ElementTree as ElementTree

import pytest

from spkd.evidence.charts import plots
from spkd.evidence.charts.plots import Axis, Series


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
        (0.0, 1.0, False, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (1.0, 10.0, False, [2, 4, 6, 8, 10]),
        (-0.2, 0.2, False, [-0.2, -0.1, 0, 0.1, 0.2]),
        (5.0, 300.0, True, [5, 10, 20, 50, 100, 200]),
        (5e3, 3e8, True, [1e4, 1e5, 1e6, 1e7, 1e8]),
    ],
)
def test_ticks_are_round_and_inside(low, high, log, expected):
    assert Axis(low, high, 0, 1, log).ticks == pytest.approx(expected)


def test_a_whole_axis_has_no_tick_between_epochs():
    assert Axis(1.0, 3.0, 0, 1, whole=True).ticks == [1, 2, 3]
    assert Axis(0.9, 1.1, 0, 1, whole=True).ticks == [1]
    assert Axis(1.0, 200.0, 0, 1, whole=True).ticks == [50, 100, 150, 200]


def test_an_axis_of_equal_values_has_room_on_both_sides():
    for value in (0.0, -3.0, 7.0):
        around = plots.axis([value, value], 0.0, 100.0)
        assert around.at(value) == pytest.approx(50)


def test_neighbouring_ticks_have_different_texts():
    assert plots.labels([0.9995, 1.0, 1.0005]) == ["0.9995", "1", "1.0005"]
    assert plots.labels([0.1, 0.2, 0.30000000000000004]) == ["0.1", "0.2", "0.3"]
    assert plots.labels([]) == []


def test_a_narrow_cost_axis_still_has_ticks():
    assert len(Axis(2.6e6, 3.4e6, 0, 1, log=True).ticks) == 2


def test_the_pareto_front_is_what_nothing_cheaper_beats():
    points = [(1.0, 50.0), (2.0, 40.0), (2.0, 60.0), (3.0, 60.0), (9.0, 61.0)]
    assert plots.pareto(points) == [0, 2, 4]
    assert plots.pareto([(1.0, 50.0), (1.0, 50.0), (2.0, 55.0), (2.0, 60.0)]) == [0, 3]
    assert plots.pareto([]) == []


LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcd"


def letters(chart):
    """{letter: height of its baseline in the drawing}"""
    found = re.findall(r'<text x="[\d.]+" y="([-\d.]+)" class="letter" fill="[^"]*">(.)<', str(chart))
    return {name: float(y) + 18 for y, name in found}  # below the title


@pytest.mark.parametrize("n", [8, 12, 30])
@pytest.mark.parametrize("end", [0.0, 0.95, 1.0])
def test_the_letters_of_curves_that_end_alike_all_stay_in_the_drawing(n, end):
    drawn = [Series(k, f"run {k}", LETTERS[k], "#112233", "", [(1, 0.5), (2, end + k * 1e-4)]) for k in range(n)]
    found = letters(chart := plots.lines("accuracy", "epoch", drawn))
    assert sorted(found, key=found.get, reverse=True) == list(LETTERS[:n])  # the best one is the highest
    assert all(14 <= y <= chart.height - 20 for y in found.values())


def test_the_letter_of_a_curve_stands_where_it_ends():
    short, long = series(0, [(1, 0.5), (3, 0.6)]), series(1, [(1, 0.5), (10, 0.6)])
    found = re.findall(
        r'<text x="([\d.]+)" y="([\d.]+)" class="letter"', str(plots.lines("loss", "epoch", [short, long]))
    )
    (x, y), (end, same) = found
    assert y == same and float(end) == plots.WIDTH - plots.RIGHT + 5
    assert float(x) == pytest.approx(plots.LEFT + 2 / 9 * (plots.WIDTH - plots.LEFT - plots.RIGHT) + 5, abs=0.06)


def test_the_letters_of_points_at_one_cost_do_not_cover_each_other():
    drawn = [Series(k, f"run {k}", LETTERS[k], "#112233", "", [(1000.0, 0.9 + k * 1e-3)]) for k in range(8)]
    drawn.append(Series(8, "run 8", "Z", "#112233", "", [(9000.0, 0.903)]))
    found = letters(plots.scatter("accuracy", "parameters", drawn))
    heights = sorted(y for name, y in found.items() if name != "Z")
    assert min(b - a for a, b in zip(heights, heights[1:], strict=False)) > 11.8
    wide = [Series(k, f"run {k}", LETTERS[k], "#112233", "", [(1000 * 1.03**k, 0.8)]) for k in range(24)]
    spread = list(letters(plots.scatter("accuracy", "parameters", wide)).values())
    assert max(spread) - min(spread) < 30  # those that are near each other across, not all in a row
    alone = letters(plots.scatter("accuracy", "parameters", [drawn[0], drawn[7], drawn[8]]))
    assert alone["Z"] == found["Z"]  # which no letter is near


@pytest.mark.parametrize(
    "drawn",
    [
        plots.lines("a & b", "epoch", [series(0, [(1, 0.5), (2, float("nan")), (3, 0.7)], 3), series(1, [(1, 0.5)])]),
        plots.scatter("<worth>", "cost", [series(0, [(1e3, 50)]), series(1, [(1e6, 60)])]),
        plots.legend([("a <b>", "#112233", "5 3")]),
        plots.note("x < \x00 y"),
    ],
)
def test_every_chart_is_valid_xml(drawn):
    assert ElementTree.fromstring(str(drawn)).tag == "svg"
    placed = ElementTree.fromstring(drawn.at(3, 4.5))
    assert (placed.get("x"), placed.get("y"), float(placed.get("width"))) == ("3", "4.5", pytest.approx(drawn.width))


def test_a_curve_without_a_finite_point_is_left_out():
    assert plots.lines("loss", "epoch", [series(0, [(1, float("nan"))])]) is None
    drawn = plots.lines("loss", "epoch", [series(0, [(1, 1.0)]), series(1, [(1, float("inf"))])])
    assert 'class="r0"' in drawn.inside and 'class="r1"' not in drawn.inside


def test_a_curve_of_one_point_is_a_dot():
    assert 'r="3" fill="#112233"' in plots.lines("loss", "epoch", [series(0, [(1, 1.0)])]).inside
    assert 'r="3"' not in plots.lines("loss", "epoch", [series(0, [(1, 1.0), (2, 1.0)])]).inside


def test_the_chosen_epoch_is_a_dashed_line_at_its_place():
    points = [(0, 1.0), (10, 2.0)]
    middle = (plots.LEFT + plots.WIDTH - plots.RIGHT) / 2
    assert f'd="M{middle:.1f} ' in plots.lines("loss", "epoch", [series(0, points)], chosen=5).inside
    assert "chosen" not in plots.lines("loss", "epoch", [series(0, points)], chosen=11).inside


def test_long_curves_are_thinned_to_a_bound_and_keep_their_ends():
    kept = plots.thinned([(x, 1.0) for x in range(5000)])
    assert len(kept) <= plots.MOST_POINTS + 1
    assert (kept[0][0], kept[-1][0]) == (0, 4999)


def test_the_reported_epoch_is_a_dot_on_its_curve():
    drawn = plots.lines("acc", "epoch", [series(0, [(1, 0.1), (2, 0.9)], marked=2)])
    assert 'r="4" fill="#112233"' in drawn.inside
    assert 'r="4"' not in plots.lines("acc", "epoch", [series(0, [(1, 0.1), (2, 0.9)], marked=7)]).inside


def test_the_reported_epoch_of_a_long_curve_is_a_dot_on_it():
    points = [(x, 0.9 if x == 138 else 0.1) for x in range(1, 1001)]
    drawn = plots.lines("acc", "epoch", [series(0, points, marked=138)]).inside
    (dot,) = re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="4"', drawn)
    assert " ".join(dot) in drawn  # a corner of the curve
    assert len(plots.thinned(points, 138)) <= plots.MOST_POINTS + 2


@pytest.mark.parametrize(
    ("value", "text"), [(1_200_000, "1.2M"), (-1_200_000, "-1.2M"), (0.5, "0.5"), (0, "0"), (2e9, "2G"), (5000, "5k")]
)
def test_ticks_are_short(value, text):
    assert plots.label(value) == text


def words(drawn):
    return {t.text: t for t in ElementTree.fromstring(str(drawn)).iter("text")}


def test_worth_stands_over_cost_with_a_step_up_where_a_costlier_run_is_better():
    drawn = plots.scatter("mAP", "FLOPs", [series(0, [(1e9, 50)]), series(1, [(1e10, 60)])])
    (left, low), (right, high) = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', drawn.inside)
    assert float(left) < float(right) and float(low) > float(high)  # y grows downwards
    edge = plots.WIDTH - plots.RIGHT
    assert f'd="M{left} {low}H{right}V{high}H{edge}" class="front"' in drawn.inside
    assert {"mAP against FLOPs", "FLOPs", "1G", "2G", "5G", "10G"} <= words(drawn).keys()
    notes = [t.text for t in ElementTree.fromstring(str(drawn)).iter("title")]
    assert notes == ["run 0\n50, FLOPs 1e+09", "run 1\n60, FLOPs 1e+10"]


def test_the_ticks_of_a_curve_are_told_in_their_unit():
    drawn = plots.lines("samples/s", "epoch", [series(0, [(1, 1_000_000.0), (2, 3_000_000.0)])])
    assert {"1M", "1.5M", "2M", "2.5M", "3M"} <= words(drawn).keys()


def test_names_in_a_legend_do_not_overlap():
    found = words(plots.legend([("train", "#111111", ""), ("validation", "#222222", ""), ("test", "#333333", "")]))
    starts = [float(t.get("x")) for t in found.values()]
    for name, start, after in zip(found, starts, starts[1:], strict=False):
        assert start + plots.text_px(name) < after
