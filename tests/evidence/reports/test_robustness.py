import io

import pytest

from spkd.evidence.reports import robustness as report

ROWS = [("net a", "noise", 0.0, 0.5), ("net a", "noise", 0.1, 0.4), ("net a", "noise", 0.1, 0.6),
        ("net b", "noise", 0.0, 0.9), ("net b", "noise", 0.1, 0.8), ("net b", "noise", 0.1, 0.8)]  # fmt: skip


def test_draws_are_collected_by_run_kind_and_level():
    assert report.collected(ROWS)["net a"] == {"noise": {0.0: [0.5], 0.1: [0.4, 0.6]}}


def test_the_spread_is_the_sample_standard_deviation():
    assert report.spread([0.4, 0.6]) == pytest.approx(0.141421, rel=1e-4)
    assert report.spread([0.4]) == 0.0


def test_the_table_shows_mean_and_spread_and_what_was_recorded():
    text = report.markdown(report.collected(ROWS), {"net a": 0.5, "net b": 0.9}, 2, simulated=False)
    assert "| net a | 50.00 | 50.00 | 50.00 ± 14.14 |" in text
    assert "| net b | 90.00 | 90.00 | 80.00 ± 0.00 |" in text
    assert "2 draws" in text and "Simulated" not in text


def test_simulated_data_are_named_in_text_and_figure():
    found = report.collected(ROWS)
    assert "Simulated data" in report.markdown(found, {"net a": 0.5, "net b": 0.9}, 2, simulated=True)
    assert "SIMULATED" in report.figure(found, simulated=True).get_suptitle()
    assert "SIMULATED" not in report.figure(found, simulated=False).get_suptitle()


def test_the_figure_has_a_line_for_every_run_at_its_means():
    figure = report.figure(report.collected(ROWS), simulated=False)
    (axes,) = figure.axes
    assert [line.get_ydata().tolist() for line in axes.lines] == [
        pytest.approx([50.0, 50.0]),
        pytest.approx([90.0, 80.0]),
    ]
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((50 - 14.1421, 50 + 14.1421), rel=1e-4)
    figure.savefig(io.BytesIO(), format="png")
