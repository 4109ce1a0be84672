import hashlib
import json

import numpy as np
import pytest

from spkd.data import windowset
from spkd.errors import SpkdError


def example(**changes):
    content = {
        "signal": np.arange(20, dtype=np.float32).reshape(2, 10),
        "starts": np.array([0, 2, 6]),
        "label": np.array([0, 1, 1]),
        "subject": np.array([0, 0, 1]),
    }
    manifest = {
        **{"dataset": "demo", "channels": ["x", "y"], "classes": ["rest", "walk"], "subjects": ["a", "b"]},
        **{"rate_hz": 10.0, "length": 4, "step": 2, "rule": "sound", "drops": {}, "first_seen": {}, "notes": {}},
        **{"settings": {}, "origin": "simulated", "licence": "none", "citation": "none"},
    }
    for key, value in changes.items():
        (content if key in content else manifest)[key] = value
    return windowset.build(content, manifest)


def test_a_window_is_the_slice_of_the_signal_at_its_start():
    windows = example().windows(np.array([2, 0]))
    np.testing.assert_array_equal(windows[0], [[6, 7, 8, 9], [16, 17, 18, 19]])
    np.testing.assert_array_equal(windows[1], [[0, 1, 2, 3], [10, 11, 12, 13]])


def test_counts_are_those_of_each_subject_and_class():
    assert example().manifest["counts"] == {"a": {"rest": 1, "walk": 1}, "b": {"rest": 0, "walk": 1}}
    assert example(label=np.array([1, 1, 1])).manifest["counts"]["a"] == {"rest": 0, "walk": 2}
    assert example().manifest["n_windows"] == len(example()) == 3


def test_a_saved_set_is_loaded_equal_and_mapped(tmp_path):
    example().save(tmp_path / "demo")
    loaded = windowset.load(tmp_path / "demo")
    assert isinstance(loaded.signal, np.memmap)
    assert loaded.digest == example().digest
    np.testing.assert_array_equal(loaded.windows(np.arange(3)), example().windows(np.arange(3)))
    assert sorted(p.name for p in (tmp_path / "demo").iterdir()) == [
        *("label.npy", "manifest.json", "signal.npy", "starts.npy", "subject.npy")
    ]


def test_the_digest_is_an_md5_over_arrays_and_meaning_computed_by_hand():
    total = hashlib.md5()
    total.update(b"signal(2, 10)" + np.arange(20, dtype="<f4").tobytes())
    total.update(b"starts(3,)" + np.array([0, 2, 6], "<i8").tobytes())
    total.update(b"label(3,)" + np.array([0, 1, 1], "<i2").tobytes())
    total.update(b"subject(3,)" + np.array([0, 0, 1], "<i2").tobytes())
    meaning = {"channels": ["x", "y"], "classes": ["rest", "walk"], "length": 4, "rate_hz": 10.0}
    meaning |= {"rule": "sound", "step": 2, "subjects": ["a", "b"]}
    total.update(json.dumps(meaning).encode())
    assert example().digest == total.hexdigest()
    assert len(example().digest) <= 36


@pytest.mark.parametrize(
    "change",
    [
        {"signal": np.arange(20, dtype=np.float32).reshape(2, 10) + 1},
        {"starts": np.array([0, 2, 5])},
        {"label": np.array([0, 1, 0])},
        {"subject": np.array([0, 1, 1])},
        {"classes": ["rest", "run"]},
        {"rate_hz": 20.0},
        {"length": 3},
        {"step": 3},
        {"rule": "paper"},
    ],
    ids=lambda c: next(iter(c)),
)
def test_the_digest_changes_with_anything_that_changes_a_window_or_its_meaning(change):
    assert example(**change).digest != example().digest


def test_the_digest_ignores_where_the_data_came_from():
    assert example(origin="UCI", notes={"rows": 3}, citation="someone").digest == example().digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"starts": np.array([0, 2, 7])}, "starts from 0 to 6, got 0 to 7"),
        ({"label": np.array([0, 1, 2])}, "label from 0 to 1, got 0 to 2"),
        ({"label": np.array([-1, 0, 1])}, "label from 0 to 1, got -1 to 1"),
        ({"subject": np.array([0, 1, 2])}, "subject from 0 to 1"),
        ({"subject": np.array([1, 0, 1])}, "subject in ascending order, got a step back at row 1"),
        ({"starts": np.array([0, 2])}, r"\(3,\)|\(2,\)"),
        ({"signal": np.zeros((3, 10), np.float32)}, r"signal \(2, samples\)"),
    ],
)
def test_arrays_that_contradict_the_manifest_are_refused(change, message):
    with pytest.raises(SpkdError, match=message):
        example(**change)


def test_one_changed_bit_on_disk_is_found_by_the_digest(tmp_path):
    example().save(tmp_path / "demo")
    raw = bytearray((tmp_path / "demo" / "signal.npy").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "demo" / "signal.npy").write_bytes(raw)
    with pytest.raises(SpkdError, match="dvc repro windows@demo"):
        windowset.load(tmp_path / "demo")


@pytest.mark.parametrize(("key", "value"), [("length", "4"), ("channels", 2), ("classes", None), ("subjects", {})])
def test_a_manifest_edited_by_hand_is_found_by_the_digest(tmp_path, key, value):
    example().save(tmp_path / "demo")
    path = tmp_path / "demo" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(SpkdError, match="content with digest .*dvc repro windows@demo"):
        windowset.load(tmp_path / "demo")


def test_a_missing_folder_names_the_stage_that_makes_it(tmp_path):
    with pytest.raises(SpkdError, match="dvc repro windows@pamap2"):
        windowset.load(tmp_path / "pamap2")


def test_a_manifest_without_a_key_is_refused(tmp_path):
    example().save(tmp_path / "demo")
    manifest = json.loads((tmp_path / "demo" / "manifest.json").read_text())
    del manifest["classes"]
    (tmp_path / "demo" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SpkdError, match="classes"):
        windowset.load(tmp_path / "demo")
