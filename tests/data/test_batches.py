import errno
import math
import os

import numpy as np
import pytest
import torch

from spkd.data import batches, scaled, scaling, windowing
from spkd.data.recordings import Recording, Recordings, Report
from spkd.errors import SpkdError


@pytest.fixture(scope="module")
def windows():
    rng = np.random.default_rng(0)
    items = []
    for i, subject in enumerate("abc"):
        signal = rng.normal(i, 1 + i, size=(60, 3)).astype(np.float32)
        label = np.repeat([0, 1], 30).astype(np.int16)
        items.append(Recording(subject, subject, signal, label, np.zeros(60, np.int32)))
    found = Recordings(items, ["x", "y", "z"], ["rest", "walk"], 10.0, "simulated", "none", "none", Report())
    return windowing.cut(found, 10, 4, "sound")


def measured(windows, rule):
    return scaling.measure(windows, np.flatnonzero(windows.subject < 2), rule)


@pytest.mark.parametrize("rule", ["training", "paper", "subject"])
def test_a_batch_equals_the_windows_scaled_one_by_one(windows, rule):
    found = measured(windows, rule)
    on_device = batches.DeviceWindows(windows, found, "cpu")
    rows = np.array([17, 0, 5, 5])
    group = windows.subject[rows] if rule == "subject" else np.zeros(4, int)
    expected = (windows.windows(rows) - found.mean[group][..., None]) / found.std[group][..., None]
    batch = on_device.batch(on_device.rows(rows))
    assert batch.dtype == torch.float32
    assert batch.transpose(1, 2).is_contiguous()
    np.testing.assert_allclose(batch.numpy(), expected, rtol=0, atol=1e-5)


def test_subject_scaling_gives_every_subject_mean_zero_and_spread_one(windows):
    on_device = batches.DeviceWindows(windows, measured(windows, "subject"), "cpu")
    for s in range(3):
        inside = scaling.covered(windows.signal.shape[1], windows.starts[windows.subject == s], windows.length)
        samples = on_device.signal.numpy()[inside].T
        np.testing.assert_allclose(samples.mean(axis=1), 0, atol=1e-5)
        np.testing.assert_allclose(samples.std(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 500, 2**26])
@pytest.mark.parametrize("rule", ["training", "paper", "subject"])
def test_windows_read_from_a_file_are_the_same_bits(windows, rule, chunk, tmp_path, monkeypatch):
    monkeypatch.setattr(scaled, "CHUNK_BYTES", chunk)
    found = measured(windows, rule)
    in_memory, from_file = (batches.DeviceWindows(windows, found, "cpu", n, tmp_path) for n in (math.inf, 1))
    assert from_file.signal is None
    for rows in ([17, 0, 5, 5], list(range(len(windows))), [2], []):
        batch = from_file.batch(from_file.rows(np.array(rows)))
        assert torch.equal(batch, in_memory.batch(in_memory.rows(np.array(rows))))
        assert batch.transpose(1, 2).is_contiguous()


def test_a_signal_is_held_up_to_the_bytes_that_it_may_take(windows, tmp_path):
    found, n_bytes = measured(windows, "training"), 4 * windows.signal.size
    held = [batches.DeviceWindows(windows, found, "cpu", n, tmp_path).signal for n in (n_bytes, n_bytes - 1)]
    assert held[0] is not None
    assert held[1] is None


def test_what_was_expected_of_a_file_is_read_once_and_comes_in_any_order(windows, tmp_path, monkeypatch):
    found = measured(windows, "training")
    in_memory, from_file = (batches.DeviceWindows(windows, found, "cpu", n, tmp_path) for n in (math.inf, 1))
    few, many, other = (from_file.rows(np.array(rows)) for rows in ([3, 0], [9, 4, 7, 1, 8, 2, 6, 5, 0, 3, 9], [5]))
    asked, begin = [], from_file._file.begin
    monkeypatch.setattr(from_file._file, "begin", lambda starts: asked.append(starts.tolist()) or begin(starts))
    from_file.expect(few, many)
    for rows in (many, other, few):
        assert torch.equal(from_file.batch(rows), in_memory.batch(rows))
    assert asked == [windows.starts[rows.numpy()].tolist() for rows in (few, many, other)]
    for _ in range(5):
        from_file.expect(other)
    assert len(from_file._ahead) == 2


def test_askers_beside_each_other_share_the_file_and_read_ahead_each_for_itself(windows, tmp_path, monkeypatch):
    one = batches.DeviceWindows(windows, measured(windows, "training"), "cpu", 1, tmp_path)
    other, rows = one.beside(), one.rows(np.array([3, 0]))
    assert other._file is one._file and len(other) == len(one)
    asked, begin = [], one._file.begin
    monkeypatch.setattr(one._file, "begin", lambda starts: asked.append(starts.tolist()) or begin(starts))
    one.expect(rows)
    other.expect(other.rows(np.array([5])))
    assert torch.equal(one.batch(rows), other.batch(rows))
    assert len(asked) == 3  # the other had expected something else


def test_a_disk_that_fills_up_while_the_signal_is_written_is_named(windows, tmp_path, monkeypatch):
    def full(*words):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(scaled, "_part", full)
    with pytest.raises(OSError, match="No space left") as error:
        batches.DeviceWindows(windows, measured(windows, "training"), "cpu", 1, tmp_path)
    assert error.value.filename == str(tmp_path)


def test_the_file_has_no_name_and_is_gone_with_its_windows(windows, tmp_path):
    from_file = batches.DeviceWindows(windows, measured(windows, "training"), "cpu", 1, tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []
    held = os.fstat(descriptor := from_file._file.file)
    assert (held.st_nlink, held.st_size) == (0, 4 * windows.signal.size)
    del from_file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_disk_without_room_for_the_scaled_signal_is_refused_before_a_byte_is_written(windows, tmp_path, monkeypatch):
    room = {tmp_path: 4 * windows.signal.size - 1}
    monkeypatch.setattr(scaled.memory, "disk_bytes", lambda folder: room[folder])
    monkeypatch.setattr(scaled.tempfile, "TemporaryFile", None)
    with pytest.raises(SpkdError, match=r"scaled copy of the signal.*raise train.windows_gib"):
        batches.DeviceWindows(windows, measured(windows, "training"), "cpu", 1, tmp_path)


def test_a_file_that_was_cut_is_an_error_and_not_a_window(windows, tmp_path):
    from_file = batches.DeviceWindows(windows, measured(windows, "training"), "cpu", 1, tmp_path)
    os.ftruncate(from_file._file.file, 4 * windows.signal.size - 1)
    last = from_file.rows(np.array([len(windows) - 1]))
    assert windows.starts[-1] + windows.length == windows.signal.shape[1]
    with pytest.raises(OSError, match="119 of 120 bytes"):
        from_file.batch(last)


def test_a_batch_copies_only_itself(windows):
    on_device = batches.DeviceWindows(windows, measured(windows, "training"), "cpu")
    before = on_device.signal.clone()
    on_device.batch(on_device.rows(np.arange(3))).zero_()
    assert torch.equal(on_device.signal, before)


def test_scaling_leaves_the_stored_windows_alone(windows):
    before = windows.signal.copy()
    batches.DeviceWindows(windows, measured(windows, "training"), "cpu")
    np.testing.assert_array_equal(windows.signal, before)


def test_labels_and_subjects_travel_as_int64(windows):
    on_device = batches.DeviceWindows(windows, measured(windows, "training"), "cpu")
    assert on_device.label.dtype == on_device.subject.dtype == torch.int64
    assert on_device.label.tolist() == windows.label.tolist()
    assert len(on_device) == len(windows)


def test_an_epochs_order_is_a_permutation_that_depends_on_seed_and_epoch_alone():
    rows = torch.arange(100, 150)
    torch.manual_seed(1)
    first = batches.order(rows, 0, 3)
    torch.manual_seed(2)
    assert torch.equal(batches.order(rows, 0, 3), first)
    assert sorted(first.tolist()) == rows.tolist()
    assert not torch.equal(batches.order(rows, 0, 4), first)
    assert not torch.equal(batches.order(rows, 1, 3), first)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_batch_on_the_gpu_equals_one_on_the_cpu(windows):
    found = measured(windows, "training")
    on_cpu, on_gpu = (batches.DeviceWindows(windows, found, d) for d in ("cpu", "cuda"))
    rows = np.array([3, 9])
    assert torch.equal(on_gpu.batch(on_gpu.rows(rows)).cpu(), on_cpu.batch(on_cpu.rows(rows)))
