import base64
import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

from spkd.evidence.charts import colours


@pytest.mark.parametrize("name", ["viridis", "Blues", "RdBu", "RdBu_r"])
def test_the_maps_are_matplotlibs(name):
    """To the last of 256 levels: straight lines between rounded stops may end one beside."""
    theirs = matplotlib.colormaps[name](np.arange(256), bytes=True)[:, :3].astype(int)
    assert np.abs(colours.table(name) - theirs).max() <= 1
    entries = np.linspace(-0.2, 1.2, 57)
    theirs = matplotlib.colormaps[name](np.clip(entries, 0, 1), bytes=True)[:, :3].astype(int)
    assert np.abs(colours.pixels(entries, (0, 1), name) - theirs).max() <= 1


def test_entries_beyond_the_limits_take_the_ends_and_what_is_no_number_is_blank():
    found = colours.pixels(np.array([-5.0, 1.0, 3.0, 50.0, np.nan, np.inf]), (1, 3), "viridis")
    assert found.tolist() == [
        [68, 1, 84],
        [68, 1, 84],
        [253, 231, 36],
        [253, 231, 36],
        [*colours.BLANK],
        [253, 231, 36],
    ]


def test_a_shade_is_the_css_colour_of_its_pixel():
    assert colours.shades(np.array([[0.0, np.nan], [1.0, 1.0]]), (0, 1), "Blues").tolist() == [
        ["#f7fbff", "#ececec"],
        ["#08306b", "#08306b"],
    ]


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("shape", [(5, 7), (20, 30)])
def test_a_png_holds_one_pixel_an_entry(broken, shape):
    entries = np.random.default_rng(0).random(shape)
    if broken:
        entries[2, 3] = np.nan
    image = Image.open(io.BytesIO(base64.b64decode(colours.png(entries, (0.2, 0.9), "RdBu_r"))))
    assert (np.asarray(image.convert("RGB")) == colours.pixels(entries, (0.2, 0.9), "RdBu_r")).all()


def test_a_picture_of_fewer_pixels_than_colours_is_stored_without_their_table():
    bar = colours.png(np.linspace(1, 0, 128)[:, None], (0, 1), "viridis")
    assert len(base64.b64decode(bar)) < 3 * 256


def test_seventy_lines_are_told_apart_by_colour_and_dashes():
    assert len({colours.of_line(k) for k in range(70)}) == 70
    assert colours.of_line(70) == colours.of_line(0)
