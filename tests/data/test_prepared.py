"""What a view stored comes back as it was, and for the windows and settings that it was made of alone."""

import numpy as np
import pytest

from spkd.data import prepared
from spkd.errors import SpkdError


def test_prepared_arrays_come_back_as_tensors(waves, tmp_path):
    folder = tmp_path / "demo" / "persistence"
    points = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
    prepared.save(folder, waves, {"points": points}, "persistence", {"keep": 0.5, "size": 8})
    found = prepared.load(folder, waves, "cpu", {"keep": 0.5})["points"]
    np.testing.assert_array_equal(found.numpy(), points)
    with pytest.raises(SpkdError, match=r"'keep': 0.1.*got .*'keep': 0.5.*dvc repro views@demo-persistence"):
        prepared.load(folder, waves, "cpu", {"keep": 0.1})


def test_a_prepared_file_with_one_other_bit_is_refused(waves, tmp_path):
    folder = tmp_path / "demo" / "persistence"
    prepared.save(folder, waves, {"points": np.zeros((7, 2), np.float32)}, "persistence", {})
    damaged = bytearray((folder / "points.npy").read_bytes())
    damaged[-1] ^= 1
    (folder / "points.npy").write_bytes(damaged)
    with pytest.raises(SpkdError, match="content with md5 .*dvc repro views@demo-persistence"):
        prepared.load(folder, waves, "cpu", {})


def test_a_prepared_view_that_does_not_say_its_settings_is_refused(waves, tmp_path):
    folder = tmp_path / "demo" / "persistence"
    prepared.save(folder, waves, {"points": np.zeros(3)}, "persistence", {"size": 8})
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"settings"', '"settings of"'))
    with pytest.raises(SpkdError, match="a view prepared with .*dvc repro views@demo-persistence"):
        prepared.load(folder, waves, "cpu", {"size": 8})


def test_prepared_arrays_of_other_windows_are_refused_with_the_stage_that_renews_them(waves, tmp_path):
    folder = tmp_path / "demo" / "persistence"
    changed = type(waves)(waves.signal, waves.starts, waves.label, waves.subject, waves.manifest | {"digest": "x"})
    prepared.save(folder, changed, {"points": np.zeros(3)}, "persistence", {})
    with pytest.raises(SpkdError, match="dvc repro views@demo-persistence"):
        prepared.load(folder, waves, "cpu", {})
    told = r'run "dvc repro views@demo-gaf", where a row demo-gaf stands under `prepare` in params.yaml'
    with pytest.raises(SpkdError, match=told):
        prepared.load(tmp_path / "demo" / "gaf", waves, "cpu", {})
