import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spkd.data import windowing
from spkd.data.recordings import UNLABELLED, Recording, Recordings, Report
from spkd.errors import SpkdError


def recording(label, subject="a", segment=None, signal=None, seed=0):
    label = np.asarray(label, dtype=np.int16)
    if signal is None:
        signal = np.random.default_rng([seed, *subject.encode()]).normal(size=(len(label), 2)).astype(np.float32)
    segment = np.zeros(len(label), np.int32) if segment is None else np.asarray(segment, np.int32)
    return Recording(subject, f"{subject}.dat", signal, label, segment)


def recordings(*items, report=None):
    return Recordings(list(items), ["x", "y"], ["rest", "walk"], 10.0, "simulated", "none", "none", report or Report())


@pytest.fixture
def recording_with_gap():
    return recording([0] * 20, segment=[0] * 9 + [1] * 11)


def test_no_window_crosses_a_gap(recording_with_gap):
    windows = windowing.cut(recordings(recording_with_gap), 4, 3, "sound")
    assert windows.starts.tolist() == [0, 3, 9, 12, 15]


def test_no_window_crosses_a_label_change_and_each_run_starts_anew():
    windows = windowing.cut(recordings(recording([0] * 5 + [1] * 7)), 4, 2, "sound")
    assert windows.starts.tolist() == [0, 5, 7]
    assert windows.label.tolist() == [0, 1, 1]


def test_no_window_holds_or_bridges_an_unlabelled_sample():
    windows = windowing.cut(recordings(recording([0] * 3 + [UNLABELLED] + [0] * 4)), 3, 1, "sound")
    assert windows.starts.tolist() == [0, 3, 4]
    assert windows.signal.shape == (2, 7)
    assert windows.manifest["drops"]["unlabelled sample"] == 1


def test_no_window_joins_two_recordings_of_a_subject():
    windows = windowing.cut(recordings(recording([0] * 5), recording([0] * 5, seed=1)), 4, 1, "sound")
    assert windows.starts.tolist() == [0, 1, 5, 6]


def test_paper_starts_are_the_published_loop():
    label = np.array([0] * 50 + [1] * 50 + [0] * 41)
    expected, j = [], 6
    while j < len(label) - 20:
        if label[j] == label[j + 19]:
            expected.append(j)
        j += 6
    assert windowing.paper_starts(label, 20, 6).tolist() == expected
    assert expected[0] == 6


def test_paper_windows_have_one_label_at_their_first_and_their_last_sample():
    assert windowing.paper_starts(np.array([0, 0, 0, 0, 1, 1, 1, 1, 0]), 3, 1).tolist() == [1, 4, 5]


def test_paper_windows_may_cross_a_gap_and_join_bouts():
    windows = windowing.cut(recordings(recording([0] * 6), recording([0] * 6, seed=1)), 4, 2, "paper")
    assert windows.starts.tolist() == [2, 4, 6]


@given(
    st.lists(st.tuples(st.integers(-1, 1), st.integers(1, 9), st.booleans()), min_size=1, max_size=12),
    st.integers(2, 5),
    st.integers(1, 4),
)
def test_sound_starts_equal_those_of_a_slow_twin(runs, length, step):
    label = np.concatenate([np.full(n, value) for value, n, _ in runs])
    segment = np.cumsum(np.concatenate([[new] + [0] * (n - 1) for _, n, new in runs]))
    expected = []
    run_start = 0
    for i in range(len(label)):
        if i and (label[i] != label[i - 1] or segment[i] != segment[i - 1]):
            run_start = i
        inside = slice(i, i + length)
        whole = i + length <= len(label) and len(set(label[inside])) == len(set(segment[inside])) == 1
        if whole and label[i] != UNLABELLED and (i - run_start) % step == 0:
            expected.append(i)
    assert windowing.sound_starts(label, segment, length, step).tolist() == expected


def test_subjects_are_sorted_and_their_samples_lie_together():
    windows = windowing.cut(
        recordings(recording([0] * 4, "b"), recording([1] * 4, "a"), recording([1] * 4, "b", seed=1)), 4, 4, "sound"
    )
    assert windows.subjects == ["a", "b"]
    assert windows.subject.tolist() == [0, 1, 1]
    assert windows.label.tolist() == [1, 0, 1]


def test_a_subject_without_a_window_is_counted_and_left_out():
    windows = windowing.cut(recordings(recording([0] * 9, "a"), recording([0] * 3, "b")), 4, 4, "sound")
    assert windows.subjects == ["a"]
    assert windows.manifest["drops"]["subject without a window"] == 1
    assert windows.manifest["first_seen"]["subject without a window"] == "subject b"


def test_samples_in_no_window_are_counted():
    windows = windowing.cut(recordings(recording([0] * 11)), 4, 4, "sound")
    assert windows.manifest["drops"]["sample outside every window"] == 3


def test_no_window_at_all_is_an_error():
    with pytest.raises(SpkdError, match="at least one window"):
        windowing.cut(recordings(recording([0, 1, 0, 1])), 4, 4, "sound")
    with pytest.raises(SpkdError, match="at least one window"):
        windowing.cut(recordings(), 4, 4, "sound")


def test_the_same_recording_in_two_subjects_is_an_error_that_names_both():
    signal = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    items = [recording([0] * 8, "a", signal=signal), recording([0] * 8, "b", signal=signal)]
    with pytest.raises(SpkdError, match="subject b, sample 8 and subject a, sample 0"):
        windowing.cut(recordings(*items), 4, 4, "sound")


def test_the_same_file_twice_gives_each_window_once_and_counts_the_copies():
    once = windowing.cut(recordings(recording([0] * 8)), 4, 2, "sound")
    twice = windowing.cut(recordings(recording([0] * 8), recording([0] * 8)), 4, 2, "sound")
    np.testing.assert_array_equal(once.windows(np.arange(3)), twice.windows(np.arange(3)))
    assert len(twice) == len(once) == 3
    assert twice.manifest["drops"]["duplicate window"] == 3


def test_windows_that_only_share_a_fingerprint_are_no_copies(monkeypatch):
    monkeypatch.setattr(windowing, "fingerprints", lambda signal, starts, length: np.zeros(len(starts), np.uint64))
    windows = windowing.cut(recordings(recording([0] * 8), recording([0] * 8, "b")), 4, 2, "sound")
    assert len(windows) == 6
    assert "duplicate window" not in windows.manifest["drops"]


def test_windows_of_a_sensor_at_rest_are_equal_by_nature_and_kept():
    items = [recording([0] * 8, s, signal=np.zeros((8, 2), np.float32)) for s in "ab"]
    windows = windowing.cut(recordings(*items), 4, 4, "sound")
    assert len(windows) == 4
    assert windows.manifest["notes"]["equal_windows_without_motion"] == 3


def test_minus_zero_is_zero_where_windows_are_compared():
    signal = np.array([[0.0, 1.0], [2.0, 0.0], [-0.0, 1.0], [2.0, -0.0]], np.float32)
    windows = windowing.cut(recordings(recording([0] * 4, signal=signal)), 2, 2, "sound")
    assert len(windows) == windows.manifest["drops"]["duplicate window"] == 1


def test_the_first_place_of_a_drop_is_remembered():
    report = Report()
    for where, n in (("a", 0), ("b", 2), ("c", 1)):
        report.drop("bad", where, n)
    assert (report.drops, report.first_seen) == ({"bad": 3}, {"bad": "b"})


def test_fingerprints_are_equal_exactly_where_windows_are():
    rng = np.random.default_rng(0)
    signal = rng.integers(0, 2, size=(1, 3000)).astype(np.float32)
    starts = np.arange(2990)
    found = windowing.fingerprints(signal, starts, 8)
    content = [tuple(signal[0, s : s + 8]) for s in starts]
    pairs = {c: set() for c in content}
    for c, f in zip(content, found, strict=True):
        pairs[c].add(int(f))
    assert all(len(f) == 1 for f in pairs.values())
    assert len({f for fs in pairs.values() for f in fs}) == len(pairs) == 256


def test_the_readers_drops_reach_the_manifest_and_the_reader_is_not_changed():
    report = Report()
    report.drop("row too short", "a.dat: row 3", 2)
    windows = windowing.cut(recordings(recording([0] * 9), report=report), 4, 4, "sound")
    assert windows.manifest["drops"] == {"row too short": 2, "sample outside every window": 1}
    assert report == Report(Counter({"row too short": 2}), {"row too short": "a.dat: row 3"})
    still = recording([0] * 9, signal=np.zeros((9, 2)))
    assert windowing.cut(recordings(still, report=report), 4, 4, "sound").manifest["notes"] != report.notes == {}


def test_a_recording_without_a_sample_is_one_without_a_window():
    windows = windowing.cut(recordings(recording([]), recording([0] * 9, "b")), 4, 4, "sound")
    assert windows.subjects == ["b"]
    assert windows.manifest["first_seen"]["subject without a window"] == "subject a"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (recording([0] * 5, signal=np.zeros((4, 2), np.float32)), r"signal \(5, 2\)"),
        (recording([0] * 5, signal=np.zeros((5, 3), np.float32)), r"signal \(5, 2\)"),
        (recording([0, 0, 2, 0, 0]), "labels from -1 to 1"),
        (recording([0, 0, -2, 0, 0]), "labels from -1 to 1, got -2 to 0"),
        (recording([0] * 4, signal=np.array([[0, 0], [0, np.nan], [0, 0], [0, 0]], np.float32)), "first at 1"),
    ],
)
def test_a_recording_that_breaks_its_contract_is_refused(item, message):
    with pytest.raises(SpkdError, match=message):
        windowing.cut(recordings(item), 2, 1, "sound")


def test_an_unknown_rule_is_refused():
    with pytest.raises(SpkdError, match="'fast'"):
        windowing.cut(recordings(recording([0] * 9)), 4, 4, "fast")


def test_cutting_takes_memory_for_the_signal_and_for_one_subject_not_several_times_the_signal():
    items = [recording([0] * 50_000, str(k)) for k in range(30)]
    tracemalloc.start()
    try:
        windows = windowing.cut(recordings(*items), 50, 50, "sound")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(windows) == 30_000
    assert peak < 2.5 * windows.signal.nbytes


def test_cutting_one_long_recording_takes_no_8_bytes_a_sample_for_its_segments():
    one = recording([0] * 1_000_000)
    tracemalloc.start()
    try:
        windows = windowing.cut(recordings(one), 500, 500, "sound")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(windows) == 2000
    assert peak < 32 * 1_000_000
