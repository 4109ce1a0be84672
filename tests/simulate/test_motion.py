from dataclasses import replace

import numpy as np
import pytest

from spkd.simulate import motion
from spkd.simulate.motion import ACTIVITIES, Movement, Person

RATE_HZ = 100.0
NOBODY = Person(1.0, 1.0, 0.0, (0.0, 0.0, 0.0), 0.0)


def stream(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("roll", "pitch", "expected"),
    [(0, 0, [0, 0, 1]), (90, 0, [0, 1, 0]), (0, 90, [-1, 0, 0]), (180, 0, [0, 0, -1]), (30, 0, [0, 0.5, 0.75**0.5])],
)
def test_a_sensor_at_rest_reads_1_g_in_the_direction_of_up(roll, pitch, expected):
    read = motion.record(Movement(roll, pitch, fidget_deg=0.0), NOBODY, 50, RATE_HZ, stream())
    np.testing.assert_allclose(read.accel_g, np.tile(expected, (50, 1)), atol=1e-12)
    assert np.abs(read.gyro_rad_s).max() < 0.06


def test_rotations_are_orthogonal_and_right_handed():
    turns = motion.rotation(*stream().uniform(-3, 3, size=(3, 20)))
    np.testing.assert_allclose(turns @ turns.swapaxes(1, 2), np.tile(np.eye(3), (20, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turns), 1)


def test_the_gyroscope_reads_the_rate_at_which_the_orientation_turns():
    t = np.arange(2000) / 1000
    angles = np.stack([0.5 * np.sin(3 * t), 0.4 * np.cos(2 * t), 0.8 * np.sin(t)], axis=1)
    turns = motion.rotation(*angles.T)
    skew = turns[1:-1].swapaxes(1, 2) @ (turns[2:] - turns[:-2]) * 500
    expected = np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], axis=1)
    np.testing.assert_allclose(motion.turning(angles, 1000.0)[1:-1], expected, atol=1e-4)


def test_the_steps_of_a_walk_are_at_the_persons_cadence():
    who = replace(NOBODY, cadence=1.1)
    read = motion.record(ACTIVITIES["walking"][motion.CHEST], who, 6000, RATE_HZ, stream())
    spectrum = np.abs(np.fft.rfft(np.linalg.norm(read.accel_g, axis=1) - 1))
    frequency = np.fft.rfftfreq(6000, 1 / RATE_HZ)
    assert frequency[spectrum.argmax()] == pytest.approx(1.85 * 1.1, rel=0.05)


def test_limbs_that_share_a_gait_keep_its_phase_whatever_their_own_noise():
    gait = motion.steps(2.0, NOBODY, 1000, RATE_HZ, stream(1))
    mover = ACTIVITIES["rope jumping"][motion.CHEST]
    a, b = (
        np.linalg.norm(motion.record(mover, NOBODY, 1000, RATE_HZ, stream(s), gait).accel_g, axis=1) for s in (2, 3)
    )
    assert np.corrcoef(a, b)[0, 1] > 0.95


def test_livelier_activities_move_more():
    order = ("lying", "ironing", "walking", "running", "rope jumping")
    moved = []
    for activity in order:
        read = motion.record(ACTIVITIES[activity][motion.CHEST], NOBODY, 2000, RATE_HZ, stream())
        moved.append(float(np.linalg.norm(read.accel_g, axis=1).std()))
    assert moved == sorted(moved)


@pytest.mark.parametrize("place", [motion.WRIST, motion.CHEST, motion.ANKLE])
def test_nothing_leaves_the_range_of_a_real_sensor(place):
    for parts in ACTIVITIES.values():
        read = motion.record(parts[place], motion.person(stream(3)), 500, RATE_HZ, stream())
        assert np.abs(read.accel_g).max() < 16
        assert np.abs(read.gyro_rad_s).max() < 26
        np.testing.assert_allclose(np.linalg.norm(read.magnetic_ut, axis=1), 48.3, atol=2)


def test_people_differ_and_the_same_stream_gives_the_same_person_and_motion():
    walking = ACTIVITIES["walking"][motion.WRIST]
    assert motion.person(stream(1)) == motion.person(stream(1)) != motion.person(stream(2))
    assert motion.habit(walking, stream(1)) == motion.habit(walking, stream(1)) != motion.habit(walking, stream(2))
    a, b, c = (motion.record(walking, NOBODY, 100, RATE_HZ, stream(s)).accel_g for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
