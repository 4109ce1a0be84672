import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from spkd.evidence import figures
from spkd.evidence.charts import colours

SVG = "{http://www.w3.org/2000/svg}"
CLASSES = ["lie", "sit", "walk"]
HOSTILE = "</text><script>alert('x')</script>&\x1b"


def texts(drawn, look=""):
    root = ElementTree.fromstring(drawn)
    return [t.text for t in root.iter(f"{SVG}text") if look in t.get("class", "")]


def notes(drawn):
    return [t.text for t in ElementTree.fromstring(drawn).iter(f"{SVG}title")]


def test_confusion_colours_shares_of_the_row_and_writes_counts():
    drawn = figures.confusion(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 8]]), CLASSES, "run", "uci")
    cells = [r for r in ElementTree.fromstring(drawn).iter(f"{SVG}rect") if len(r)]
    shares = np.array([[75, 25, 0], [np.nan] * 3, [0, 0, 100]])
    assert [c.get("fill") for c in cells] == colours.shades(shares, (0, 100), "Blues").ravel().tolist()
    assert cells[3].get("fill") == "#ececec"
    assert [c[0].text for c in cells][:2] == ["true lie, predicted lie: 3 windows (75.0 %)",
                                              "true lie, predicted sit: 1 windows (25.0 %)"]  # fmt: skip
    assert texts(drawn, "cell") == ["3", "1", "8"]
    assert {"true", "predicted", "% of the true class", "100", *CLASSES} <= set(texts(drawn, "tick"))


def test_counts_are_not_written_where_they_would_not_fit():
    drawn = figures.confusion(np.eye(16, dtype=int), [str(k) for k in range(16)], "run", "uci")
    assert texts(drawn, "cell") == []
    assert texts(figures.confusion(np.eye(15, dtype=int), [str(k) for k in range(15)], "r", "u"), "cell") == ["1"] * 15


def every(origin, name="run", classes=CLASSES):
    return [
        figures.confusion(np.eye(3, dtype=int), classes, name, origin),
        figures.class_bars([0.5, 1.0, 0.2], [4, 4, 4], classes, name, origin),
        figures.subject_bars({classes[0]: 0.5}, {classes[0]: 9}, name, origin),
        figures.curves({f"train/{classes[0]}": [(0, 1.0)]}, name, origin),
    ]


def test_figures_of_simulated_data_say_so_and_others_do_not():
    for origin, marked in (("simulated", True), ("uci", False)):
        assert [("SIMULATED" in "".join(texts(figure))) for figure in every(origin)] == [marked] * 4


def test_hostile_names_stay_text():
    for drawn in every("uci", HOSTILE, [HOSTILE, HOSTILE, HOSTILE]):
        root = ElementTree.fromstring(drawn)
        assert not list(root.iter(f"{SVG}script"))
        assert HOSTILE.replace("\x1b", "\ufffd") in notes(drawn)


def test_a_figure_needs_nothing_from_elsewhere():
    for drawn in every("uci"):
        root = ElementTree.fromstring(drawn)
        addresses = [v for part in root.iter() for k, v in part.attrib.items() if k.endswith(("href", "src"))]
        assert all(address.startswith("data:image/png;base64,") for address in addresses)
        assert not re.findall(r"@import|url\(", drawn)


def test_macro_f1_leaves_out_a_class_without_windows():
    drawn = figures.class_bars([0.5, 0.25, float("nan"), 1.0], [4, 0, 0, 2], [*CLASSES, "run"], "run", "uci")
    assert "macro-F1 75.0 %" in texts(drawn)
    bars = re.findall(r'width="([\d.]+)" height="13" fill="(#\w+)"', drawn)
    full, pale, none, whole = ((float(width), fill) for width, fill in bars)
    assert full[0] == pytest.approx(whole[0] / 2, abs=0.1) and none[0] == 0
    assert (full[1], pale[1], none[1]) == (figures.FULL, figures.WEAK, figures.WEAK)
    assert {"lie (4)", "sit (0)", "50.0", "100.0", "\u2013"} <= set(texts(drawn))


def test_each_subject_counts_once_in_the_mean():
    drawn = figures.subject_bars({"101": 0.5, "102": 1.0}, {"101": 900, "102": 1}, "run", "uci")
    assert "mean of subjects 75.0 %" in texts(drawn)
    assert {"101 (900)", "102 (1)"} <= set(texts(drawn))


def test_curves_put_the_splits_of_a_quantity_into_one_plot():
    history = {"train/loss": [(0, 1.0), (1, 0.5)], "loss/kd": [(0, 3.0), (1, 2.0)], "val/loss": [(0, 2.0), (1, 1.5)],
               "val/accuracy": [(0, 0.1)]}  # fmt: skip
    drawn = figures.curves(history, "run", "uci", chosen=1)
    assert texts(drawn, "title") == ["loss", "accuracy", "loss/kd"]
    charts = [c for c in ElementTree.fromstring(drawn).iter(f"{SVG}svg") if c.get("class") == "chart"]
    strokes = [[p.get("stroke") for p in c.iter(f"{SVG}path") if p.get("class") == "line"] for c in charts]
    (train, _), (val, _), _ = figures.SPLITS.values()
    assert strokes == [[train, val], [val], [figures.OTHER]]
    assert [sum(p.get("class") == "chosen" for p in c.iter(f"{SVG}path")) for c in charts] == [1, 0, 1]
    assert {"train", "val", "epoch 1, chosen"} <= set(texts(drawn)) and "test" not in texts(drawn)
    assert {"train/loss\nloss 0.5, epoch 1", "val/loss\nloss 2, epoch 0"} <= set(notes(drawn))


@pytest.mark.parametrize("count", [1, 3, 7])
def test_any_number_of_quantities_fits(count):
    drawn = figures.curves({f"train/q{k}": [(0, 1.0), (1, float("nan"))] for k in range(count)}, "run", "uci")
    root = ElementTree.fromstring(drawn)
    charts = [c for c in root if c.get("class") == "chart"]
    assert len(charts) == count
    assert len({(c.get("x"), c.get("y")) for c in charts}) == count
    assert all(float(c.get("x")) + float(c.get("width")) < float(root.get("width")) for c in charts)


def test_quantities_without_a_finite_value_are_named():
    drawn = figures.curves({"train/loss": [(0, float("nan"))], "val/loss": [], "val/f1": [(0, 0.5)]}, "run", "uci")
    assert "Without a finite value: loss." in texts(drawn)
    assert texts(drawn, "title") == ["f1"]
    assert "Without a finite value: everything." in texts(figures.curves({}, "run", "uci"))


def test_the_splits_are_told_apart_without_colours():
    drawn = figures.curves({f"{split}/loss": [(1, 1.0), (2, 0.5)] for split in figures.SPLITS}, "run", "uci")
    curves = re.findall(r'class="line" stroke="[^"]+"( stroke-dasharray="[^"]+")?', drawn)
    assert len(set(curves)) == 3
