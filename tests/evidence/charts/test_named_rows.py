import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from spkd.evidence.charts import named_rows
from spkd.evidence.charts.plots import Series


def series(number, letter=""):
    return Series(number, f"run {number}", letter, "#112233", "", ())


def texts(drawn):
    return ["".join(t.itertext()) for t in ElementTree.fromstring(str(drawn)).iter("text")]


def test_a_bar_is_as_long_as_its_value():
    drawn = named_rows.bars("x", [("a", [(series(0), 0.5)]), ("b", [(series(1), 1.0)])])
    half, whole = (float(w) for w in re.findall(r'<rect [^>]*width="([^"]+)"', drawn.inside))
    assert half == pytest.approx(whole / 2)
    assert "50.0" in texts(drawn) and "100.0" in texts(drawn)


def test_a_bar_of_no_number_is_a_dash():
    drawn = named_rows.bars("x", [("a", [(series(0), float("nan"))])], "F1 [%]")
    assert 'width="0.0"' in drawn.inside and "\u2013" in texts(drawn)


def test_the_mean_is_a_line_at_its_value_and_has_its_name():
    drawn = named_rows.bars("x", [("a", [(series(0), 0.25)])], "F1 [%]", ("macro-F1", 0.25))
    assert "macro-F1 25.0 %" in texts(drawn)
    start, width = map(float, re.search(r'<rect x="([^"]+)" y="[^"]+" width="([^"]+)"', drawn.inside).groups())
    assert f'd="M{start + width:.1f} ' in drawn.inside


@pytest.mark.parametrize(("value", "anchor"), [(0.9, "end"), (0.1, "start")])
def test_the_words_of_the_mean_reach_into_the_chart(value, anchor):
    drawn = named_rows.bars("x", [("a", [(series(0), 0.5)])], "F1 [%]", ("mean", value))
    words = next(t for t in ElementTree.fromstring(str(drawn)).iter("text") if "mean" in (t.text or ""))
    assert words.get("text-anchor") == anchor


def test_the_axis_below_the_bars_is_in_per_cent():
    drawn = named_rows.bars("x", [("a", [(series(0), 0.123)])], "F1 [%]")
    assert {"0", "20", "40", "60", "80", "100", "F1 [%]"} <= set(texts(drawn))


def test_rows_of_a_matrix_are_true_classes_and_columns_predicted_ones():
    words = np.array([["aa", "ab"], ["ba", "bb"]])
    drawn = named_rows.matrix(words, words, np.full((2, 2), "#ffffff"), ["a", "b"], "t")
    cells = {r[0].text: (float(r.get("x")), float(r.get("y"))) for r in ElementTree.fromstring(str(drawn)).iter("rect")}
    (x, y), side = cells["true a, predicted a: aa"], named_rows.cell_px(words)
    assert cells["true a, predicted b: ab"] == (x + side, y)
    assert cells["true b, predicted a: ba"] == (x, y + side)


def test_a_run_is_hidden_with_its_bar_and_its_number():
    drawn = named_rows.bars("x", [("a", [(series(3, "D"), 0.25)])])
    assert len(re.findall(r'class="[^"]*\br3\b', drawn.inside)) == 2


def test_a_name_is_escaped_and_its_whole_is_told_where_it_is_cut():
    name = "<i>" + "long " * 30
    for drawn in (
        named_rows.bars("x", [(name, [(series(0), 0.5)])]),
        named_rows.matrix(np.array([[1]]), np.array([["1"]]), np.array([["#ffffff"]]), [name], name),
    ):
        root = ElementTree.fromstring(str(drawn))
        titles = [t.text for t in root.iter("title")]
        assert name in titles
        assert all(len(t.text or "") < 60 for t in root.iter("text"))


def test_text_on_a_dark_cell_is_light():
    dark, pale = "#08306b", "#f7fbff"
    shades, words = np.array([[dark, pale], [pale, dark]]), np.array([["1", "2"], ["", "4"]])
    root = ElementTree.fromstring(str(named_rows.matrix(words, words, shades, ["a", "b"], "t")))
    found = {t.text: t.get("class") for t in root.iter("text") if "cell" in t.get("class")}
    assert found == {"1": "cell light", "2": "cell", "4": "cell light"}


def test_cells_are_as_wide_as_what_is_written_in_them():
    assert named_rows.cell_px(np.array([["+100"]])) == 27
    assert named_rows.cell_px(np.array([["12345678"]])) > 8 * 5
    assert named_rows.cell_px(np.full((15, 15), "")) == 27
    assert named_rows.cell_px(np.full((16, 16), "")) == 14


def test_shares_are_per_cents_of_the_row_and_unknown_for_an_empty_one():
    found = named_rows.shares(np.array([[3, 1], [0, 0]]))
    assert found[0].tolist() == [75.0, 25.0]
    assert np.isnan(found[1]).all()
