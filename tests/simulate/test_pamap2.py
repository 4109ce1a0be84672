import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from spkd import config
from spkd.data import windowing
from spkd.datasets import pamap2 as reader
from spkd.simulate import pamap2

SAMPLE = Path(__file__).parents[2] / "sample" / "pamap2"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "pamap2"
    return folder, pamap2.write(folder, 0)


@pytest.fixture(scope="module")
def tables(written):
    return {name: np.loadtxt(io.BytesIO(content)) for name, content in members(written[0]).items()}


def members(folder):
    with zipfile.ZipFile(folder / pamap2.OUTER) as outer:
        assert outer.namelist() == [pamap2.INNER]
        with outer.open(pamap2.INNER) as stream, zipfile.ZipFile(stream) as inner:
            return {name: inner.read(name) for name in inner.namelist()}


def read(folder, rule):
    settings = config.part("datasets", "pamap2", config.read(Path(__file__).parents[2] / "params.yaml"))
    windows = settings.windows.model_copy(update={"rule": rule})
    return reader.read(folder, settings.model_copy(update={"windows": windows}))


def test_the_committed_sample_is_what_seed_0_writes(written):
    """Made by `spkd simulate --only pamap2`. Contents are compared, since another zlib may pack them differently."""
    assert members(SAMPLE) == members(written[0])
    for name in ("README.md", "SIMULATED"):
        assert (SAMPLE / name).read_bytes() == (written[0] / name).read_bytes()


def test_a_second_run_writes_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(pamap2, "SUBJECTS", (101,))
    first, second = (pamap2.write(tmp_path / name, 3) for name in ("a", "b"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert [p.read_bytes() for p in pamap2.write(tmp_path / "c", 4)] != [p.read_bytes() for p in first]


def test_the_sample_is_small_and_says_that_it_is_simulated(written):
    folder, paths = written
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in paths)
    assert sum(p.stat().st_size for p in paths) < 2.5e6
    assert "Simulated" in (folder / "README.md").read_text()
    assert (folder / "SIMULATED").exists()


def test_every_row_has_54_columns_at_100_hz_and_all_activities_occur(tables):
    protocol = {name: rows for name, rows in tables.items() if "Protocol" in name}
    assert len(protocol) >= 5
    for rows in protocol.values():
        assert rows.shape[1] == 54
        np.testing.assert_allclose(np.diff(rows[:, 0]), 0.01, atol=1e-6)
        assert set(rows[:, 1]) == {0, *reader.CLASS_OF_ID}
        np.testing.assert_array_equal(rows[0, 16:20], [1, 0, 0, 0])


def test_heart_rate_comes_at_about_9_hz_and_drop_outs_hit_one_imu_at_a_time(tables):
    rows = tables["PAMAP2_Dataset/Protocol/subject101.dat"]
    heart = ~np.isnan(rows[:, 2])
    assert heart.mean() * 100 == pytest.approx(9.1, abs=0.1)
    assert 40 < np.nanmin(rows[:, 2]) < np.nanmax(rows[:, 2]) < 200
    for first in (3, 20, 37):
        missing = np.isnan(rows[:, first : first + 17])
        assert 0 < missing.mean() < 0.03
        assert (missing.any(axis=1) == missing.all(axis=1)).all()


def test_lying_still_reads_gravity_in_metres_per_second_squared(tables):
    for name, rows in tables.items():
        if "Protocol" in name:
            norm = np.linalg.norm(rows[rows[:, 1] == 1, 21:24], axis=1)
            assert np.nanmedian(norm) == pytest.approx(9.81, abs=0.1)


@pytest.mark.parametrize("rule", ["sound", "paper"])
def test_the_real_reader_finds_every_class_in_every_subject_and_counts_what_it_drops(written, rule):
    found = read(written[0], rule)
    windows = windowing.cut(found, 100, 22, rule)
    assert windows.manifest["origin"] == "simulated"
    assert all(n >= 3 for counts in windows.manifest["counts"].values() for n in counts.values())
    assert windows.manifest["drops"]["row of activity 0 (transient)"] == 3600
    long_gaps = windows.manifest["drops"].get("row in a drop-out longer than 0.5 s", 0)
    assert (long_gaps > 0) == (rule == "sound")
    assert "duplicate window" not in windows.manifest["drops"]


def test_a_subject_is_harder_to_recognise_from_others_than_from_itself(written):
    """The nearest neighbour by means and spreads: a new person is clearly harder than a person already seen."""
    windows = windowing.cut(read(written[0], "sound"), 100, 22, "sound")
    x = windows.windows(np.arange(len(windows)))
    features = np.concatenate([x.mean(axis=2), x.std(axis=2)], axis=1)[:, windows_of_motion(windows.channels)]
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    fold = np.random.default_rng(0).integers(0, 6, size=len(windows))
    seen, new = (accuracy(features, windows.label, group) for group in (fold, windows.subject))
    assert new > 3 / 12
    assert seen > new + 0.1


def test_temperatures_alone_do_not_tell_the_activity_of_another_person(written):
    """All follow one protocol: a temperature that rose alike in everyone would be a clock, and so the label."""
    windows = windowing.cut(read(written[0], "sound"), 100, 22, "sound")
    warm = [i for i, name in enumerate(windows.channels) if "temperature" in name]
    features = windows.windows(np.arange(len(windows)))[:, warm].mean(axis=2)
    assert len(warm) == 3
    assert accuracy(features / features.std(axis=0), windows.label, windows.subject) < 3 / 12
    own = np.empty_like(features)
    for subject in np.unique(windows.subject):
        rows = windows.subject == subject
        own[rows] = (features[rows] - features[rows].mean(axis=0)) / features[rows].std(axis=0)
    assert accuracy(own, windows.label, windows.subject) < 4 / 12


def windows_of_motion(channels):
    kept = [i for i, name in enumerate(channels) if "acc16" in name or "gyro" in name]
    return kept + [i + len(channels) for i in kept]


def accuracy(features, label, group):
    right = 0
    for g in np.unique(group):
        test = group == g
        distance = ((features[test][:, None] - features[~test][None]) ** 2).sum(axis=2)
        right += int((label[~test][distance.argmin(axis=1)] == label[test]).sum())
    return right / len(label)
