import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from spkd.evidence.charts import colours, heatmaps


def test_a_map_holds_a_pixel_an_entry_and_lines_where_a_class_ends():
    entries, classes = np.arange(16.0).reshape(4, 4), np.array([0, 0, 0, 2])
    drawn = heatmaps.square(entries, (0, 15), "t", classes, 200, signed=False)
    data = re.search(r"base64,([^\"]+)", drawn.inside)[1]
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    assert (image == colours.pixels(entries, (0, 15), "viridis")).all()
    assert 'd="M0 150.00H200M150.00 0V200"' in drawn.inside
    assert "path" not in heatmaps.square(entries, (0, 15), "t", np.zeros(4), 200, signed=False).inside


@pytest.mark.parametrize(("signed", "kind"), [(False, "map"), (True, "diff")])
def test_a_difference_has_its_own_colours_and_kind(signed, kind):
    drawn = heatmaps.square(np.array([[0.0]]), (-1, 1), "t", np.zeros(1), 10, signed)
    assert drawn.kind == kind
    data = re.search(r"base64,([^\"]+)", drawn.inside)[1]
    pixel = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))[0, 0].tolist()
    assert pixel == colours.table("RdBu_r" if signed else "viridis")[128].tolist()


def test_a_class_is_named_at_the_middle_of_its_rows():
    drawn = heatmaps.row_names(np.array([0, 0, 2, 2]), ["lie", "sit", "<walk>"], 100)
    rows = list(ElementTree.fromstring(str(drawn)).iter("text"))
    assert [row.text for row in rows] == ["lie", "<walk>"]
    assert [float(row.get("y")) for row in rows] == pytest.approx([25 + 3.1, 75 + 3.1], abs=0.1)


def test_names_do_not_overlap_and_too_many_are_left_out():
    classes = np.repeat(np.arange(25), [1] * 24 + [60])
    drawn = heatmaps.row_names(classes, [f"c{k}" for k in range(25)], 180)
    places = [float(row.get("y")) for row in ElementTree.fromstring(str(drawn)).iter("text")]
    assert min(np.diff(places)) > 7
    assert heatmaps.row_names(np.arange(31), [f"c{k}" for k in range(31)], 180) is None
    assert heatmaps.row_names(np.array([0, 5]), ["only one"], 180) is None


def test_a_colour_bar_has_its_numbers_at_their_heights():
    drawn = heatmaps.colour_bar((0.0, 100.0), "Blues", 200, "% of <all>")
    found = {t.text: t.get("y") for t in ElementTree.fromstring(str(drawn)).iter("text")}
    heights = {"0": "200.0", "20": "160.0", "40": "120.0", "60": "80.0", "80": "40.0", "100": "0.0"}
    assert found == {**heights, "% of <all>": "100"}
    data = re.search(r"base64,([^\"]+)", drawn.inside)[1]
    column = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    assert column.shape == (128, 1, 3)
    assert (column[0, 0] == colours.table("Blues")[-1]).all() and (column[-1, 0] == colours.table("Blues")[0]).all()
