import xml.etree.ElementTree as ElementTree

import pytest

from spkd.evidence.charts.document import MARGIN, document
from spkd.evidence.charts.plots import Chart

SVG = "{http://www.w3.org/2000/svg}"


def box(width, height):
    return Chart("box", "a box", width, height, "")


def placed(text):
    root = ElementTree.fromstring(text)
    return [tuple(float(c.get(k)) for k in ("x", "y", "width", "height")) for c in root.findall(f"{SVG}svg")]


def test_charts_stand_row_by_row_and_none_reaches_into_another_or_out_of_the_document():
    text = document("title", "uci", [[box(100, 50), box(300, 80)], [box(500, 20)]])
    root = ElementTree.fromstring(text)
    (x0, y0, w0, _), (x1, y1, _, h1), (x2, y2, w2, h2) = placed(text)
    assert x0 + w0 < x1 and y0 == y1 and x2 == x0 and y2 > y1 + h1
    assert x2 + w2 < float(root.get("width")) and y2 + h2 < float(root.get("height"))
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"


def test_charts_side_by_side_keep_their_distance_from_the_edge():
    text = document("title", "uci", [[box(300, 50), box(300, 80)]])
    x, _, width, _ = placed(text)[1]
    assert x + width + MARGIN == float(ElementTree.fromstring(text).get("width"))


@pytest.mark.parametrize("origin", ["simulated", "uci"])
def test_only_simulated_data_are_said_to_be(origin):
    root = ElementTree.fromstring(document("title", origin, [[box(1, 1)]]))
    assert (" [SIMULATED DATA]" in root.find(f"{SVG}title").text) == (origin == "simulated")
    assert ("[SIMULATED DATA]" in [t.text for t in root.findall(f"{SVG}text")]) == (origin == "simulated")


def test_a_long_title_is_broken_into_lines_and_pushes_the_charts_down():
    short, long = document("run", "uci", [[box(1, 1)]]), document("word " * 40, "uci", [[box(1, 1)]])
    lines = [t.text for t in ElementTree.fromstring(long).findall(f"{SVG}text")]
    assert " ".join(lines).split() == ["word"] * 40
    assert len(lines) > 3
    assert placed(long)[0][1] > placed(short)[0][1] + 40


def test_a_hostile_title_stays_text():
    hostile = "</title><script>alert(1)</script>\x00"
    root = ElementTree.fromstring(document(hostile, "uci", [[box(1, 1)]]))
    assert root.find(f"{SVG}title").text == "</title><script>alert(1)</script>\ufffd"
    assert not list(root.iter(f"{SVG}script"))
