import numpy as np
import pytest

from spkd.data import disturb

N, C, T = 6, 4, 10
WINDOWS = np.random.default_rng(0).normal(5, 2, (N, C, T)).astype(np.float32)
MEAN, STD = np.full((N, C), 5.0), np.full((N, C), 2.0)


def rng(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


@pytest.mark.parametrize("kind", disturb.KINDS)
def test_level_zero_gives_the_very_windows(kind):
    found = disturb.KINDS[kind](WINDOWS, MEAN, STD, 0.0, rng())
    assert found.dtype == np.float32
    assert (found == WINDOWS).all()
    assert found is not WINDOWS


@pytest.mark.parametrize("kind", disturb.KINDS)
def test_the_same_stream_disturbs_alike_and_another_differently_and_the_input_stays(kind):
    before = WINDOWS.copy()
    one, same, other = (disturb.KINDS[kind](WINDOWS, MEAN, STD, 0.5, rng(seed)) for seed in (0, 0, 1))
    assert one.shape == WINDOWS.shape and one.dtype == np.float32
    assert (one == same).all()
    assert (one != other).any()
    assert (before == WINDOWS).all()


def test_noise_is_white_and_as_strong_as_the_level_in_units_of_the_channel():
    windows, std = np.zeros((2000, 2, 10), np.float32), np.tile([1.0, 10.0], (2000, 1))
    found = disturb.noise(windows, np.zeros((2000, 2)), std, 0.5, rng())
    assert found.std(axis=(0, 2)) == pytest.approx([0.5, 5.0], rel=0.02)
    assert found.mean(axis=(0, 2)) == pytest.approx([0, 0], abs=0.1)
    assert np.corrcoef(found[:, 0, 0], found[:, 0, 1])[0, 1] == pytest.approx(0, abs=0.08)


def test_noise_is_what_the_stream_draws_by_hand():
    drawn = rng().standard_normal((N, C, T), dtype=np.float32)
    found = disturb.noise(WINDOWS, MEAN, STD, 0.25, rng())
    assert found == pytest.approx(WINDOWS + 0.5 * drawn, rel=1e-6)


def test_a_gain_is_one_factor_for_a_window_and_channel_about_zero():
    factor = disturb.gain(WINDOWS, MEAN, STD, 0.2, rng()) / WINDOWS
    assert np.ptp(factor, axis=2).max() < 1e-5
    assert factor[:, :, 0] == pytest.approx(1 + 0.2 * rng().standard_normal((N, C)), rel=1e-5)
    assert (disturb.gain(np.zeros_like(WINDOWS), MEAN, STD, 0.2, rng()) == 0).all()


def test_one_piece_of_the_share_is_lost_in_all_channels_and_becomes_the_mean():
    found = disturb.segments(WINDOWS, MEAN, STD, 0.3, rng())
    gone = (found == 5.0).all(axis=1)
    assert gone.sum(axis=1).tolist() == [3] * N
    assert all(np.diff(np.flatnonzero(row)).tolist() == [1, 1] for row in gone)
    kept = ~np.broadcast_to(gone[:, None], found.shape)
    assert (found[kept] == WINDOWS[kept]).all()
    assert len({int(np.flatnonzero(row)[0]) for row in gone}) > 1


def test_a_whole_lost_window_is_the_mean():
    assert (disturb.segments(WINDOWS, MEAN, STD, 1.0, rng()) == 5.0).all()


@pytest.mark.parametrize(("level", "lost"), [(0.01, 1), (0.25, 1), (0.5, 2), (0.75, 3), (1.0, 4)])
def test_the_share_of_channels_is_lost_and_at_least_one(level, lost):
    gone = (disturb.channels(WINDOWS, MEAN, STD, level, rng()) == 5.0).all(axis=2)
    assert gone.sum(axis=1).tolist() == [lost] * N


def test_every_channel_is_lost_as_often():
    windows = np.ones((4000, 4, 2), np.float32)
    gone = disturb.channels(windows, np.zeros((4000, 4)), np.ones((4000, 4)), 0.25, rng())[:, :, 0] == 0
    assert gone.mean(axis=0) == pytest.approx(0.25, abs=0.03)


def test_a_set_of_disturbed_windows_holds_them_in_order(waves):
    rows = np.array([3, 4, 50])
    windows = waves.windows(rows) + 1
    found = disturb.as_set(windows, waves, rows)
    assert (found.windows(np.arange(3)) == windows).all()
    assert (found.label == waves.label[rows]).all() and (found.subject == waves.subject[rows]).all()
    assert found.digest == "" and waves.digest != ""
