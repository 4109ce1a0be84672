import re

import pytest

from spkd.evidence.reports import robustness as report

ROWS = [("net a", "noise", 0.0, 0.5), ("net a", "noise", 0.1, 0.4), ("net a", "noise", 0.1, 0.6),
        ("net b", "noise", 0.0, 0.9), ("net b", "noise", 0.1, 0.8), ("net b", "noise", 0.1, 0.8)]  # fmt: skip

RECORDED = {"net a": 0.5, "net b": 0.9}
ALIKE = {"net a": "training", "net b": "training"}


def test_draws_are_collected_by_run_kind_and_level():
    assert report.collected(ROWS)["net a"] == {"noise": {0.0: [0.5], 0.1: [0.4, 0.6]}}


def test_the_spread_is_the_sample_standard_deviation():
    assert report.spread([0.4, 0.6]) == pytest.approx(0.141421, rel=1e-4)
    assert report.spread([0.4]) == 0.0


def test_the_table_shows_mean_and_spread_and_what_was_recorded():
    text = report.markdown(report.collected(ROWS), RECORDED, 2, simulated=False, data="toy, 9 samples", scalings=ALIKE)
    assert "## Gaussian noise [standard deviations of the run's scaling]\n\n| run | recorded | 0 | 0.1 |\n|---|" in text
    assert "| net a | 50.00 | 50.00 | 50.00 ± 14.14 |" in text
    assert "| net b | 90.00 | 90.00 | 80.00 ± 0.00 |" in text
    assert "Data: toy, 9 samples." in text
    assert "2 draws" in text and "Simulated" not in text


def test_simulated_data_are_named_in_text_and_figure():
    found = report.collected(ROWS)
    told = report.markdown(found, RECORDED, 2, simulated=True, data="toy, 9 samples", scalings=ALIKE)
    assert "Simulated data" in told
    assert "SIMULATED" in report.figure(found, "simulated")
    assert "SIMULATED" not in report.figure(found, "recorded")


def test_runs_of_other_scalings_are_named_with_the_warning_that_noise_is_measured_in_them():
    def told(scalings):
        return report.markdown(report.collected(ROWS), RECORDED, 2, False, "toy", scalings)

    assert "are those of the scaling: training.\n" in told(ALIKE) and "**" not in told(ALIKE)
    assert "the scaling: paper (net b) | training (net a). **The same level" in told(
        {"net b": "paper", "net a": "training"}
    )


def test_the_figure_has_a_line_and_a_band_for_every_run_at_its_means_on_one_scale():
    second = [(run, "gain", level, accuracy / 2) for run, _, level, accuracy in ROWS]
    text = report.figure(report.collected([*ROWS, *second]), "recorded")
    ticks = [
        {int(t): float(y) for y, t in re.findall(r'y="([\d.]+)" dy="4" class="tick" text-anchor="end">(\d+)<', part)}
        for part in text.split('class="chart"')[1:]
    ]
    assert ticks[0] == ticks[1]
    pixels = (ticks[0][20] - ticks[0][80]) / 60

    def heights(path):
        return [100 - (float(y) - (ticks[0][20] - 80 * pixels)) / pixels for y in re.findall(r" ([\d.]+)", path)]

    drawn = re.findall(r'<path d="M([^"]+)" class="line"', text)
    assert [heights(path) for path in drawn] == [
        pytest.approx(values, abs=0.2) for values in ([50, 50], [90, 80], [25, 25], [45, 40])
    ]
    band = heights(re.search(r'<path d="M([^"]+)Z"', text)[1])
    assert band == pytest.approx([50, 50 - 14.1421, 50 + 14.1421, 50], abs=0.2)
    assert ">A: net a<" in text and ">B: net b<" in text
