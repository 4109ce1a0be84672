"""Simulated inertial sensors on a moving body: gravity, gait, postures, and people who differ.

Pure functions of a numpy Generator. A limb has an orientation and a linear acceleration; the sensor on it sees
both, turned into its own frame. File formats, rates, missing values and units belong to the data sets' simulators.
"""

from dataclasses import dataclass, replace

import numpy as np

EARTH_FIELD_UT = np.array([20.0, 0.0, -44.0])  # forward (north), left, up: central Europe, microtesla


@dataclass(frozen=True)
class Movement:
    """What one body part does during one activity.

    roll_deg, pitch_deg: resting orientation of the limb; 0, 0 has the sensor's third axis point up.
    step_hz: steps, strokes or jumps per second; 0 = a posture.
    bounce_g: peak linear acceleration (forward, left, up) at step_hz. sharp: share of its 2nd and 3rd harmonic.
    swing_deg: peak rotation (roll, pitch, yaw) about the resting orientation, at step_hz x swing_ratio (limbs: 0.5).
    fidget_deg: slow irregular rotation on top.
    """

    roll_deg: float
    pitch_deg: float
    step_hz: float = 0.0
    bounce_g: tuple[float, float, float] = (0.0, 0.0, 0.0)
    sharp: float = 0.3
    swing_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    swing_ratio: float = 0.5
    fidget_deg: float = 1.0


@dataclass(frozen=True)
class Person:
    """How one subject differs from the average one.

    amplitude, cadence: factors on bounce and swing, and on step_hz. phase: radians between the body's parts.
    mount_deg: (roll, pitch, yaw) by which the device sits turned on the limb. noise_g: the accelerometer's white noise.
    """

    amplitude: float
    cadence: float
    phase: float
    mount_deg: tuple[float, float, float]
    noise_g: float


@dataclass(frozen=True)
class Motion:
    """What the sensor on one limb reads: accel_g (n, 3), gyro_rad_s (n, 3), magnetic_ut (n, 3), in its own frame."""

    accel_g: np.ndarray
    gyro_rad_s: np.ndarray
    magnetic_ut: np.ndarray


def person(rng: np.random.Generator) -> Person:
    """One random subject."""
    return Person(
        amplitude=float(np.exp(rng.normal(0.0, 0.25))),
        cadence=float(np.exp(rng.normal(0.0, 0.10))),
        phase=float(rng.uniform(0.0, 2.0 * np.pi)),
        mount_deg=_triple(rng.normal(0.0, (10.0, 10.0, 15.0))),
        noise_g=0.01,
    )


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z


def habit(movement: Movement, rng: np.random.Generator, spread_deg: float = 15.0) -> Movement:
    """The movement as one person does it in every bout: posture shifted, vigour and tempo changed."""
    roll, pitch = rng.normal(0.0, spread_deg, size=2)
    vigour, tempo = np.exp(rng.normal(0.0, (0.2, 0.07)))
    bounce, swing = (vigour * np.array(axes) for axes in (movement.bounce_g, movement.swing_deg))
    return replace(
        movement,
        roll_deg=movement.roll_deg + float(roll),
        pitch_deg=movement.pitch_deg + float(pitch),
        step_hz=movement.step_hz * float(tempo),
        bounce_g=_triple(bounce),
        swing_deg=_triple(swing),
    )


def wander(n: int, rate_hz: float, rng: np.random.Generator) -> np.ndarray:
    """(n,) smooth irregular signal of unit variance: six sines between 0.05 and 0.7 Hz with random phases."""
    t = np.arange(n)[:, None] / rate_hz
    frequency, phase = rng.uniform(0.05, 0.7, size=6), rng.uniform(0.0, 2.0 * np.pi, size=6)
    waves: np.ndarray = np.sin(2.0 * np.pi * frequency * t + phase).sum(axis=1) / np.sqrt(3.0)
    return waves


def rotation(roll: np.ndarray, pitch: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """(..., 3, 3) matrices Rz(yaw) Ry(pitch) Rx(roll) that turn sensor axes into world axes; angles in radians."""
    (cr, sr), (cp, sp), (cy, sy) = ((np.cos(a), np.sin(a)) for a in (roll, pitch, yaw))
    rows = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    return np.stack([np.stack(np.broadcast_arrays(*row), axis=-1) for row in rows], axis=-2)


def turning(angles: np.ndarray, rate_hz: float) -> np.ndarray:
    """(n, 3) angular velocity in the sensor's frame, rad/s, of a limb with these (n, 3) roll, pitch, yaw angles."""
    roll, pitch = angles[:, 0], angles[:, 1]
    d_roll, d_pitch, d_yaw = np.gradient(angles, 1.0 / rate_hz, axis=0).T
    x = d_roll - d_yaw * np.sin(pitch)
    y = d_pitch * np.cos(roll) + d_yaw * np.cos(pitch) * np.sin(roll)
    z = -d_pitch * np.sin(roll) + d_yaw * np.cos(pitch) * np.cos(roll)
    return np.stack([x, y, z], axis=1)


def steps(step_hz: float, who: Person, n: int, rate_hz: float, rng: np.random.Generator) -> np.ndarray:
    """(n,) phase of the gait in radians, its tempo drifting by some 3 %: give it to all limbs that move together."""
    tempo = step_hz * who.cadence * (1.0 + 0.03 * wander(n, rate_hz, rng))
    phase: np.ndarray = rng.uniform(0.0, 2.0 * np.pi) + 2.0 * np.pi * np.cumsum(tempo) / rate_hz
    return phase


def record(
    movement: Movement, who: Person, n: int, rate_hz: float, rng: np.random.Generator, gait: np.ndarray | None = None
) -> Motion:
    """n samples of one sensor on one person's limb. At rest the accelerometer reads 1 g upwards (specific force).

    gait: (n,) phase from `steps` where other limbs share it; None = this limb's own.
    """
    phase = who.phase + (steps(movement.step_hz, who, n, rate_hz, rng) if gait is None else gait)
    vigour = who.amplitude * (1.0 + 0.1 * wander(n, rate_hz, rng))
    swing = np.radians(movement.swing_deg) * np.sin(movement.swing_ratio * phase[:, None] + np.array([0.0, 0.6, 1.2]))
    fidget = np.radians(movement.fidget_deg) * np.stack([wander(n, rate_hz, rng) for _ in range(3)], axis=1)
    rest = np.radians([movement.roll_deg, movement.pitch_deg, rng.uniform(-180.0, 180.0)])
    angles = rest + vigour[:, None] * swing + fidget

    shape = np.sin(phase) + movement.sharp * (np.sin(2.0 * phase + 0.5) + np.sin(3.0 * phase + 1.0))
    thrust, sway = np.cos(phase), np.sin(0.5 * phase)
    forward, left, up = movement.bounce_g
    linear = vigour[:, None] * np.stack([forward * thrust, left * sway, up * shape], axis=1)

    to_world = rotation(*angles.T)
    mount = rotation(*np.radians(who.mount_deg))
    force = np.einsum("nji,nj->ni", to_world, linear + np.array([0.0, 0.0, 1.0])) @ mount
    field = np.einsum("nji,j->ni", to_world, EARTH_FIELD_UT) @ mount
    return Motion(
        accel_g=force + who.noise_g * rng.standard_normal((n, 3)),
        gyro_rad_s=turning(angles, rate_hz) @ mount + 0.01 * rng.standard_normal((n, 3)),
        magnetic_ut=field + 0.3 * rng.standard_normal((n, 3)),
    )


WRIST, CHEST, ANKLE = "wrist", "chest", "ankle"

ACTIVITIES: dict[str, dict[str, Movement]] = {
    "lying": {
        WRIST: Movement(20, 10, fidget_deg=2.0),
        CHEST: Movement(0, 5, 0.25, (0.0, 0.0, 0.01), fidget_deg=0.5),
        ANKLE: Movement(60, 0, fidget_deg=1.0),
    },
    "sitting": {
        WRIST: Movement(0, 15, fidget_deg=5.0),
        CHEST: Movement(0, -70, 0.28, (0.01, 0.0, 0.0), fidget_deg=1.5),
        ANKLE: Movement(0, -80, fidget_deg=2.0),
    },
    "standing": {
        WRIST: Movement(0, 65, fidget_deg=5.0),
        CHEST: Movement(0, -85, 0.28, (0.01, 0.0, 0.0), fidget_deg=2.0),
        ANKLE: Movement(0, -90, fidget_deg=0.8),
    },
    "talking": {
        WRIST: Movement(10, 30, 0.9, (0.05, 0.08, 0.05), swing_deg=(12, 15, 12), fidget_deg=12.0),
        CHEST: Movement(0, -85, 0.5, (0.02, 0.01, 0.01), swing_deg=(1, 1, 3), fidget_deg=3.0),
        ANKLE: Movement(0, -90, fidget_deg=1.5),
    },
    "working at computer": {
        WRIST: Movement(5, 5, 3.0, (0.01, 0.01, 0.02), swing_deg=(1, 1, 2), fidget_deg=2.0),
        CHEST: Movement(0, -65, 0.28, (0.01, 0.0, 0.0), fidget_deg=1.0),
        ANKLE: Movement(0, -75, fidget_deg=1.0),
    },
    "walking": {
        WRIST: Movement(0, 70, 1.85, (0.15, 0.08, 0.12), swing_deg=(5, 22, 8), fidget_deg=4.0),
        CHEST: Movement(0, -85, 1.85, (0.12, 0.08, 0.22), swing_deg=(3, 2, 5), fidget_deg=2.0),
        ANKLE: Movement(0, -90, 1.85, (0.4, 0.1, 0.4), 0.6, (4, 30, 5), fidget_deg=2.0),
    },
    "nordic walking": {
        WRIST: Movement(10, 40, 1.75, (0.35, 0.1, 0.2), 0.5, (10, 35, 8), fidget_deg=5.0),
        CHEST: Movement(0, -78, 1.75, (0.16, 0.1, 0.24), swing_deg=(3, 4, 9), fidget_deg=2.0),
        ANKLE: Movement(0, -90, 1.75, (0.45, 0.1, 0.4), 0.6, (4, 33, 5), fidget_deg=2.0),
    },
    "running": {
        WRIST: Movement(10, 0, 2.7, (0.5, 0.3, 0.9), swing_deg=(12, 35, 12), fidget_deg=5.0),
        CHEST: Movement(0, -78, 2.7, (0.3, 0.2, 0.9), swing_deg=(4, 4, 9), fidget_deg=3.0),
        ANKLE: Movement(0, -80, 2.7, (1.2, 0.3, 1.2), 0.7, (8, 50, 8), fidget_deg=3.0),
    },
    "cycling": {
        WRIST: Movement(0, 35, 1.3, (0.05, 0.05, 0.1), swing_deg=(2, 2, 2), fidget_deg=3.0),
        CHEST: Movement(0, -50, 1.3, (0.04, 0.06, 0.06), swing_deg=(3, 1, 2), fidget_deg=2.0),
        ANKLE: Movement(0, -80, 1.3, (0.2, 0.05, 0.2), 0.2, (3, 20, 3), 1.0, fidget_deg=2.0),
    },
    "ascending stairs": {
        WRIST: Movement(0, 60, 1.6, (0.12, 0.08, 0.1), swing_deg=(5, 15, 7), fidget_deg=6.0),
        CHEST: Movement(0, -72, 1.6, (0.1, 0.1, 0.18), swing_deg=(4, 3, 5), fidget_deg=3.0),
        ANKLE: Movement(0, -85, 1.6, (0.3, 0.1, 0.3), 0.4, (4, 26, 5), fidget_deg=3.0),
    },
    "descending stairs": {
        WRIST: Movement(0, 65, 1.9, (0.15, 0.1, 0.25), 0.6, (5, 12, 7), fidget_deg=6.0),
        CHEST: Movement(0, -88, 1.9, (0.14, 0.1, 0.35), 0.6, (4, 3, 5), fidget_deg=3.0),
        ANKLE: Movement(0, -90, 1.9, (0.35, 0.1, 0.6), 0.8, (4, 20, 5), fidget_deg=3.0),
    },
    "vacuum cleaning": {
        WRIST: Movement(0, 45, 0.7, (0.25, 0.1, 0.06), 0.1, (8, 15, 10), 1.0, fidget_deg=8.0),
        CHEST: Movement(5, -65, 0.7, (0.06, 0.06, 0.05), 0.1, (3, 5, 6), 1.0, fidget_deg=6.0),
        ANKLE: Movement(0, -88, 0.7, (0.06, 0.04, 0.06), 0.5, (2, 5, 3), fidget_deg=6.0),
    },
    "ironing": {
        WRIST: Movement(10, 15, 0.9, (0.15, 0.12, 0.03), 0.1, (4, 5, 15), 1.0, fidget_deg=5.0),
        CHEST: Movement(0, -75, 0.9, (0.02, 0.02, 0.02), 0.1, (2, 2, 3), 1.0, fidget_deg=3.0),
        ANKLE: Movement(0, -90, fidget_deg=1.5),
    },
    "rope jumping": {
        WRIST: Movement(20, 20, 2.1, (0.4, 0.3, 1.0), 0.4, (25, 15, 10), 1.0, fidget_deg=4.0),
        CHEST: Movement(0, -84, 2.1, (0.15, 0.1, 1.2), 0.5, (2, 3, 2), 1.0, fidget_deg=2.0),
        ANKLE: Movement(0, -90, 2.1, (0.3, 0.15, 1.8), 0.6, (4, 18, 4), 1.0, fidget_deg=2.0),
    },
}
