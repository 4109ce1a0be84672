import numpy as np
import pytest

from spkd.data import inspection, windowset
from spkd.data.windowset import WindowSet


def windows(n_channels: int = 3, origin: str = "a lab", **manifest: object) -> WindowSet:
    """Subject a: 2 windows of walk; b: 1 of walk, 3 of rest; none of fly. Sample k of channel c is 100 c + k."""
    signal = 100.0 * np.arange(n_channels)[:, None] + np.arange(60.0)
    content = {
        "signal": signal,
        "starts": np.arange(6) * 10,
        "label": np.array([0, 0, 0, 1, 1, 1]),
        "subject": np.array([0, 0, 1, 1, 1, 1]),
    }
    base = {
        "dataset": "toy",
        "channels": [f"c{k}" for k in range(n_channels)],
        "classes": ["walk", "rest", "fly"],
        "subjects": ["a", "b"],
        "rate_hz": 20.0,
        "length": 10,
        "step": 5,
        "rule": "sound",
        "drops": {"page lost": 1, "duplicate window": 12},
        "first_seen": {"page lost": "x.bin: page 3", "duplicate window": "subject a, sample 7"},
        "notes": {"gaps": 4, "resampled to 100 Hz, from": {"x.bin": 50.0}},
        "settings": {},
        "origin": origin,
        "licence": "CC BY 4.0",
        "citation": "",
    }
    return windowset.build(content, {**base, **manifest})


def test_counts_are_per_subject_and_class_with_sums_and_dots_for_none() -> None:
    assert inspection.counts(windows()) == "\n".join(
        [
            "windows per subject and class:",
            "subject  0  1  2  all",
            "-------  -  -  -  ---",
            "a        2  .  .    2",
            "b        1  3  .    4",
            "all      3  3  .    6",
            "  0  walk",
            "  1  rest",
            "  2  fly",
        ]
    )


@pytest.mark.parametrize(
    "fact",
    [
        "windows   6 of 10 samples (0.5 s), step 5 (0.25 s), rule sound",
        "rate      20 Hz, 0.1 minutes of labelled signal",
        "channels  3: c0, c1, c2",
        # What was dropped most stands first.
        "         12  duplicate window (first: subject a, sample 7)\n          1  page lost (first: x.bin: page 3)",
        "duplicate windows: 12",
        "gaps in time: 4",
        "resampled to 100 Hz, from: {'x.bin': 50.0}",
    ],
)
def test_the_description_states(fact: str) -> None:
    assert fact in inspection.describe(windows())


def test_nothing_dropped_is_said_too() -> None:
    text = inspection.describe(windows(drops={}, first_seen={}, notes={}))
    assert (
        "dropped: nothing" in text and "duplicate windows: 0" in text and "gaps in time: the reader notes none" in text
    )


def test_simulated_data_says_so_in_text_and_figure() -> None:
    made = windows(origin="simulated")
    assert inspection.describe(made).startswith("SIMULATED")
    assert "SIMULATED" in inspection.figure(made).get_suptitle()
    assert "SIMULATED" not in inspection.describe(windows()) + inspection.figure(windows()).get_suptitle()


def test_the_figure_draws_the_middle_window_of_each_class_that_has_one() -> None:
    drawn = inspection.figure(windows())
    titles = [axes.get_title() for axes in drawn.axes if axes.get_title()]
    assert titles == ["walk (subject a, window 1)", "rest (subject b, window 4)"]
    first = drawn.axes[0].lines
    assert [line.get_ydata()[0] for line in first] == [10.0, 110.0, 210.0]
    assert first[0].get_xdata().tolist() == [k / 20 for k in range(10)]


def test_many_channels_are_drawn_as_a_map_in_standard_deviations() -> None:
    drawn = inspection.figure(windows(n_channels=12))
    image = drawn.axes[0].images[0].get_array()
    expected = (np.arange(10, 20) - 29.5) / np.arange(60.0).std()
    assert image.shape == (12, 10) and drawn.axes[0].images[0].get_extent() == [0.0, 0.5, 11.5, -0.5]
    np.testing.assert_allclose(image, np.tile(expected, (12, 1)), atol=1e-4)
