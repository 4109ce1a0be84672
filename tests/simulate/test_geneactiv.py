from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from spkd import config
from spkd.data.recordings import Recordings, Report
from spkd.datasets import _geneactiv_bin, _geneactiv_csv
from spkd.datasets import geneactiv as reader
from spkd.datasets._wrist_device import DeviceRecording
from spkd.simulate import geneactiv

REPO = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw") / "geneactiv"
    geneactiv.write(folder, 0)
    return folder


@pytest.fixture(scope="module")
def recordings(written: Path) -> Recordings:
    tree = config.read(REPO / "params.yaml")
    return reader.read(written, config.part("datasets", "geneactiv", tree))


def test_two_runs_write_the_same_bytes_and_other_seeds_others(written: Path, tmp_path: Path) -> None:
    again = geneactiv.write(tmp_path / "again", 0)
    assert all(path.read_bytes() == (written / path.relative_to(tmp_path / "again")).read_bytes() for path in again)
    assert sorted(p for p in written.rglob("*") if p.is_file()) == sorted(
        written / path.relative_to(tmp_path / "again") for path in again
    )
    other = geneactiv.write(tmp_path / "again", 1)
    assert (
        sum(path.read_bytes() != (written / path.relative_to(tmp_path / "again")).read_bytes() for path in other) > 400
    )


def test_the_sample_in_the_repository_is_what_seed_0_writes(written: Path) -> None:
    sample = REPO / "sample" / "geneactiv"
    names = {path.relative_to(sample) for path in sample.rglob("*") if path.is_file()}
    assert names == {path.relative_to(written) for path in written.rglob("*") if path.is_file()}
    for name in sorted(names):
        ours, kept = written / name, sample / name
        if name.suffix == ".mat":  # compared by content: another zlib packs the same numbers into other bytes
            assert_same_steps(*(loadmat(str(path))["xw"] for path in (ours, kept)))
        elif name.name.startswith("wrist_"):
            found, known = device_file(ours), device_file(kept)
            assert_same_steps(found.accel_g, known.accel_g)
            for field in ("subject_code", "rate_hz", "time_s", "segment"):
                np.testing.assert_array_equal(getattr(found, field), getattr(known, field))
        else:
            assert ours.read_bytes() == kept.read_bytes(), name


def device_file(path: Path) -> DeviceRecording:
    if path.suffix == ".csv":
        return _geneactiv_csv.decode(path)
    return _geneactiv_bin.decode(path.read_bytes(), path.name, Report())


def assert_same_steps(ours: np.ndarray, kept: np.ndarray) -> None:
    """Within a step of the device, written with four digits: another machine's sine may round to the next one."""
    assert ours.shape == kept.shape and len(ours) > 0
    assert np.abs(ours - kept).max() <= 1 / geneactiv.STEPS_PER_G + 1e-4


def test_the_sample_is_small(written: Path) -> None:
    files = [path for path in written.rglob("*") if path.is_file()]
    assert len(files) < 1200 and sum(path.stat().st_size for path in files) <= 1.5e6


def test_the_reader_finds_10_subjects_14_classes_and_one_lost_page(recordings: Recordings) -> None:
    assert recordings.origin == "simulated" and recordings.rate_hz == 100
    assert len({item.subject for item in recordings.items}) == 10 and len(recordings.classes) == 14
    assert dict(recordings.report.drops) == {"missing page (sequence number)": 1, "unlabelled device sample": 3050}
    assert recordings.report.notes == {"gaps": 1}
    labels = {item.subject: np.unique(item.label).size for item in recordings.items}
    assert labels.pop("202") == 5 and set(labels.values()) == {14}


def test_windows_are_doubles_on_the_devices_steps_named_as_the_lab_names_them(written: Path) -> None:
    path = written / "windows" / "ID-102_CLASS-13_Window-0001.mat"
    assert path.read_bytes()[:116] == b"MATLAB 5.0 MAT-file, simulated".ljust(116)  # scipy would write the time here
    xw = loadmat(str(path))["xw"]
    assert xw.shape == (500, 3) and xw.dtype == np.float64
    assert (xw * 256 == np.rint(xw * 256)).all()


def test_gravity_is_1_g_for_every_subject(recordings: Recordings) -> None:
    for item in recordings.items:
        assert 0.95 <= np.median(np.linalg.norm(item.signal, axis=1)) <= 1.05


def accuracy(features: np.ndarray, label: np.ndarray, test: np.ndarray) -> float:
    """Of the nearest class mean, on scaled features."""
    train = ~test
    scaled = (features - features[train].mean(0)) / features[train].std(0)
    means = np.stack([scaled[train & (label == k)].mean(0) for k in range(14)])
    guess = np.linalg.norm(scaled[test, None] - means, axis=2).argmin(1)
    return float((guess == label[test]).mean())


def test_a_model_can_learn_the_classes_and_a_new_person_is_harder_than_a_known_one(recordings: Recordings) -> None:
    items = [item for item in recordings.items if item.name.endswith("windows")]
    windows = np.concatenate([item.signal.reshape(-1, 500, 3) for item in items])
    label = np.concatenate([item.label[::500] for item in items])
    subject = np.repeat(np.arange(len(items)), 56)
    spectrum = np.abs(np.fft.rfft(windows - windows.mean(1, keepdims=True), axis=1))[:, 1:40].mean(2)
    features = np.concatenate([windows.mean(1), windows.std(1), np.log(spectrum + 1)], axis=1)
    new = np.mean([accuracy(features, label, subject == k) for k in range(len(items))])
    draw = np.random.default_rng(0).integers(8, size=len(label))
    known = np.mean([accuracy(features, label, draw == k) for k in range(8)])
    assert 3 / 14 < new < known - 0.05
