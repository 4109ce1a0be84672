import json

import numpy as np
import pytest

from spkd.data import scaling, windowset
from spkd.errors import SpkdError

ROWS = np.arange(2)  # the training windows of `example`: those of subject a


def example(signal=None, subjects=("a", "b")):
    """Two overlapping windows of subject a, samples 0-3 and 2-5; one of subject b, samples 6-9."""
    if signal is None:
        signal = [[0, 0, 4, 4, 8, 8, 100, 200, 300, 400], [5, 5, 5, 5, 5, 5, 1, 2, 3, 4]]
    content = {"signal": np.array(signal, np.float32), "starts": [0, 2, 6], "label": [0, 0, 0], "subject": [0, 0, 1]}
    manifest = {
        **{"dataset": "demo", "channels": ["x", "y"], "classes": ["rest"], "subjects": list(subjects)},
        **{"rate_hz": 1.0, "length": 4, "step": 2, "rule": "sound", "drops": {}, "first_seen": {}, "notes": {}},
        **{"settings": {}, "origin": "simulated", "licence": "none", "citation": "none"},
    }
    return windowset.build({k: np.asarray(v) for k, v in content.items()}, manifest)


def test_training_statistics_count_each_covered_sample_once():
    found = scaling.measure(example(), ROWS, "training")
    assert found.mean[0, 0] == 4.0
    assert found.std[0, 0] == pytest.approx(np.sqrt(32 / 3))
    assert found.subjects == ["a"]


def test_paper_statistics_count_overlaps_again_and_average_the_windows_stds():
    found = scaling.measure(example([[0, 0, 4, 4, 8, 10, 9, 9, 9, 9], [1, 2, 1, 2, 1, 2, 1, 2, 1, 2]]), ROWS, "paper")
    first, second = [0, 0, 4, 4], [4, 4, 8, 10]
    assert found.mean[0, 0] == pytest.approx(np.mean(first + second))
    assert found.std[0, 0] == pytest.approx((np.std(first) + np.std(second)) / 2)


def test_paper_statistics_are_of_all_windows_though_a_few_at_a_time_are_read(waves, monkeypatch):
    rows = np.arange(7, 12)
    monkeypatch.setattr(scaling, "CHUNK_WINDOWS", 2)  # three lots, of which the last is one window
    found = scaling.measure(waves, rows, "paper")
    windows = waves.windows(rows).astype(np.float64)
    assert found.mean[0] == pytest.approx(windows.mean(axis=(0, 2)), rel=1e-12)
    assert found.std[0] == pytest.approx(windows.std(axis=2).mean(axis=0), rel=1e-12)


def test_held_out_subjects_do_not_move_the_training_statistics():
    other = example()
    changed = example(np.where(np.arange(10) < 6, other.signal, -7.0))
    for rule in ("training", "paper"):
        a, b = scaling.measure(other, ROWS, rule), scaling.measure(changed, ROWS, rule)
        np.testing.assert_array_equal(a.mean, b.mean)
        np.testing.assert_array_equal(a.std, b.std)


def test_subject_statistics_are_each_subjects_own():
    found = scaling.measure(example(), ROWS, "subject")
    assert found.subjects == ["a", "b"]
    assert found.mean[:, 0].tolist() == [4.0, 250.0]
    assert found.group(example(subjects=("b", "a"))).tolist() == [1, 0]


def test_a_constant_channel_is_named_and_its_std_is_one():
    found = scaling.measure(example(), ROWS, "training")
    assert found.constant == ["y"]
    assert found.std[0, 1] == 1.0


def test_a_channel_that_is_constant_for_one_subject_is_named_and_others_keep_their_spread():
    found = scaling.measure(example(), ROWS, "subject")
    assert found.constant == ["y"]
    assert found.std[:, 1] == pytest.approx([1.0, np.std([1, 2, 3, 4])])


def test_a_large_constant_is_constant_in_spite_of_rounding():
    signal = np.full((2, 10), 0.1) * np.array([[1e6], [1.0]])
    for rule in ("training", "paper", "subject"):
        assert scaling.measure(example(signal), ROWS, rule).constant == ["x", "y"]


@pytest.mark.parametrize("rule", ["training", "paper", "subject"])
def test_units_decide_nothing_and_rounding_is_no_spread(rule):
    """A millionth of a millionth that moves is a channel; two neighbours of float32 at a million are one number."""
    signal = np.array([[1e-12, 2e-12] * 5, [1e6, np.nextafter(np.float32(1e6), 2e6)] * 5], np.float32)
    assert scaling.measure(example(signal), ROWS, rule).constant == ["y"]


@pytest.mark.parametrize("rule", ["training", "paper", "subject"])
def test_a_small_spread_beside_a_large_mean_is_measured_in_double_precision(rule):
    signal = 4096 + np.array([[0, 0, 1, 0, 0, 1, 0, 0, 1, 0]] * 2) / 1024
    assert scaling.measure(example(signal), np.array([2]), rule).std[-1] == pytest.approx(np.std([0, 0, 1, 0]) / 1024)


@pytest.mark.parametrize("rule", ["training", "paper", "subject"])
def test_a_channel_of_zeros_is_constant_and_is_not_divided_by_zero(rule):
    found = scaling.measure(example(np.zeros((2, 10))), ROWS, rule)
    assert found.constant == ["x", "y"]
    assert (found.std == 1.0).all()


def test_statistics_survive_json_exactly():
    for rule in ("training", "paper", "subject"):
        found = scaling.measure(example(), ROWS, rule)
        again = scaling.from_dict(json.loads(json.dumps(found.to_dict())))
        np.testing.assert_array_equal(found.mean, again.mean)
        np.testing.assert_array_equal(found.std, again.std)
        assert again.to_dict() == found.to_dict()


@pytest.mark.parametrize(
    "change", [{"mean": [1.0]}, {"rule": "guess"}, {"std": None}, {"channels": ["x"]}], ids=lambda c: next(iter(c))
)
def test_damaged_statistics_are_refused(change):
    stored = scaling.measure(example(), ROWS, "training").to_dict()
    with pytest.raises(SpkdError, match="scaling"):
        scaling.from_dict({**stored, **change})
    with pytest.raises(SpkdError, match="scaling"):
        scaling.from_dict({k: v for k, v in stored.items() if k not in change})


def test_statistics_of_other_channels_or_other_subjects_are_refused():
    other = example(subjects=("a", "c"))
    with pytest.raises(SpkdError, match="statistics of subjects c"):
        scaling.measure(example(), ROWS, "subject").group(other)
    renamed = scaling.from_dict({**scaling.measure(example(), ROWS, "training").to_dict(), "channels": ["x", "z"]})
    with pytest.raises(SpkdError, match="channels"):
        renamed.group(example())
    swapped = scaling.from_dict({**scaling.measure(example(), ROWS, "training").to_dict(), "channels": ["y", "x"]})
    with pytest.raises(SpkdError, match="channels"):
        swapped.group(example())


def test_no_training_window_is_an_error():
    with pytest.raises(SpkdError, match="training windows"):
        scaling.measure(example(), np.array([], dtype=int), "training")
