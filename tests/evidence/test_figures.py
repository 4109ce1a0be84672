import io

import numpy as np
import pytest

from spkd.evidence import figures

CLASSES = ["lie", "sit", "walk"]


def drawn(figure) -> None:
    figure.savefig(io.BytesIO(), format="png")


def test_confusion_colours_shares_of_the_row_and_writes_counts():
    figure = figures.confusion(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 8]]), CLASSES, "run", "uci")
    axes = figure.axes[0]
    shares = axes.images[0].get_array()
    assert shares[0].tolist() == [0.75, 0.25, 0.0]
    assert np.ma.getmaskarray(shares)[1].all()
    assert sorted((t.get_position(), t.get_text()) for t in axes.texts) == [((0, 0), "3"), ((1, 0), "1"), ((2, 2), "8")]
    assert axes.get_xlabel() == "predicted" and axes.get_ylabel() == "true"
    drawn(figure)


def test_counts_are_not_written_where_they_would_not_fit():
    figure = figures.confusion(np.eye(16, dtype=int), [str(k) for k in range(16)], "run", "uci")
    assert len(figure.axes[0].texts) == 0


def test_figures_of_simulated_data_say_so_and_others_do_not():
    for origin, marked in (("simulated", True), ("uci", False)):
        made = [
            figures.confusion(np.eye(3, dtype=int), CLASSES, "run", origin),
            figures.class_bars([0.5, 1.0, 0.2], [4, 4, 4], CLASSES, "run", origin),
            figures.subject_bars({"101": 0.5}, {"101": 9}, "run", origin),
            figures.curves({"train/loss": [(0, 1.0)]}, "run", origin),
        ]
        assert [("SIMULATED" in figure.get_suptitle()) for figure in made] == [marked] * 4


def test_macro_f1_leaves_out_a_class_without_windows():
    figure = figures.class_bars([0.5, float("nan"), 1.0], [4, 0, 2], CLASSES, "run", "uci")
    assert figure.axes[0].get_title() == "macro-F1 0.750"
    assert [bar.get_width() for bar in figure.axes[0].patches][::2] == [0.5, 1.0]
    drawn(figure)


def test_each_subject_counts_once_in_the_mean():
    figure = figures.subject_bars({"101": 0.5, "102": 1.0}, {"101": 900, "102": 1}, "run", "uci")
    assert figure.axes[0].get_title() == "mean of subjects 0.750"
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["101 (900)", "102 (1)"]


def test_curves_put_the_splits_of_a_quantity_into_one_plot():
    history = {"train/loss": [(0, 1.0), (1, 0.5)], "val/loss": [(0, 2.0), (1, 1.5)], "val/accuracy": [(0, 0.1)]}
    figure = figures.curves(history, "run", "uci", chosen=1)
    loss, accuracy = figure.axes[:2]
    assert (loss.get_title(), accuracy.get_title()) == ("loss", "accuracy")
    assert [line.get_label() for line in loss.lines[:2]] == ["train", "val"]
    assert list(loss.lines[1].get_ydata()) == [2.0, 1.5]
    assert list(loss.lines[2].get_xdata()) == [1, 1]
    drawn(figure)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_any_number_of_quantities_fits(count):
    drawn(figures.curves({f"train/q{k}": [(0, 1.0), (1, float("nan"))] for k in range(count)}, "run", "uci"))
