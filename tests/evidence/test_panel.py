import base64
import io
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from spkd.evidence import panel
from spkd.evidence.charts import colours
from spkd.evidence.similarity import Layer

SVG = "{http://www.w3.org/2000/svg}"
LABELS, CLASSES = np.repeat([0, 1, 2], 4), ["lie", "sit", "walk"]


def random_layer(seed, teachers):
    f = np.random.default_rng(seed).normal(size=(1 + teachers, 12, 5))
    products = f @ f.transpose(0, 2, 1)
    return Layer(products[0], {f"t{k}": products[1 + k] for k in range(teachers)})


def maps_of(root):
    """{(name, y): pixels} of the maps and differences in a drawing."""
    found = {}
    for part in root.iter(f"{SVG}svg"):
        if part.get("class") in ("map", "diff"):
            data = part.find(f"{SVG}image").get("href").partition("base64,")[2]
            image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
            found[part.get("aria-label"), float(part.get("y"))] = np.asarray(image)
    return found


@pytest.mark.parametrize("teachers", [0, 1, 2])
def test_a_row_has_one_scale_for_maps_and_one_as_wide_to_either_side_for_differences(teachers):
    layers = {"group1": random_layer(1, teachers), "group2": random_layer(2, teachers)}
    root = ElementTree.fromstring(panel.draw(layers, LABELS, CLASSES, "run, epoch 3", "simulated"))
    found = maps_of(root)
    rows = sorted({y for _, y in found})
    columns = [f"t{k}" for k in range(teachers)] + ["student"] + [f"student - t{k}" for k in range(teachers)]
    assert list(found) == [(name, y) for y in rows for name in columns]
    for y, layer in zip(rows, layers.values(), strict=True):
        for name, entries in layer.maps.items():
            assert (found[name, y] == colours.pixels(entries, layer.limits, "viridis")).all()
        for name, entries in layer.differences.items():
            limits = (layer.limits[0] - layer.limits[1], layer.limits[1] - layer.limits[0])
            assert (found[f"student - {name}", y] == colours.pixels(entries, limits, "RdBu_r")).all()


def test_each_scale_has_the_colours_of_the_maps_beside_it():
    root = ElementTree.fromstring(panel.draw({"a": random_layer(1, 1)}, LABELS, CLASSES, "run", "uci"))
    scales = [p.find(f"{SVG}image").get("href") for p in root.iter(f"{SVG}svg") if p.get("class") == "scale"]
    highest = [Image.open(io.BytesIO(base64.b64decode(s.partition("base64,")[2]))).convert("RGB") for s in scales]
    expected = [tuple(colours.table(name)[-1].tolist()) for name in ("viridis", "RdBu_r")]
    assert [image.getpixel((0, 0)) for image in highest] == expected


def test_layers_columns_and_classes_are_named():
    layers = {"group<1>": random_layer(1, 1), "group2": random_layer(2, 1)}
    root = ElementTree.fromstring(panel.draw(layers, LABELS, CLASSES, "run, epoch 3", "simulated"))
    words = [t.text for t in root.iter(f"{SVG}text")]
    assert {"run, epoch 3", "[SIMULATED DATA]", "group<1>", "group2"} <= set(words)
    for once in ("t0", "student", "student - t0"):
        assert words.count(once) == 1
    for each_row in CLASSES:
        assert words.count(each_row) == 2


def test_columns_stand_under_each_other_whatever_the_numbers_of_a_scale_are():
    layer = random_layer(1, 1)
    quiet = Layer(layer.student, {"t0": np.ones((12, 12)) + 1e-4 * layer.student})
    root = ElementTree.fromstring(panel.draw({"a": layer, "b": quiet}, LABELS, CLASSES, "run", "uci"))
    places = {(p.get("aria-label"), p.get("x")) for p in root.iter(f"{SVG}svg") if p.get("class") in ("map", "diff")}
    assert len(places) == 3
    widths = {p.get("width") for p in root.iter(f"{SVG}svg") if p.get("class") == "scale"}
    assert len(widths) > 1  # or there was nothing to see


def test_a_diverged_student_is_drawn_blank_beside_its_teacher():
    layer = random_layer(1, 1)
    broken = Layer(np.full((12, 12), np.nan), layer.teachers)
    found = maps_of(ElementTree.fromstring(panel.draw({"a": broken}, LABELS, CLASSES, "run", "uci")))
    (teacher, _), (student, _), (difference, _) = found
    assert (teacher, student, difference) == ("t0", "student", "student - t0")
    blank = [bool((image == colours.BLANK).all()) for image in found.values()]
    assert blank == [False, True, True]
