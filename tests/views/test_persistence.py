import math
import tracemalloc

import gudhi
import numpy as np
import pytest
import torch
from gudhi.representations import PersistenceImage

from spkd.data.windowset import WindowSet
from spkd.errors import SpkdError
from spkd.views import persistence
from spkd.views.persistence import Settings, diagrams, gather, prepare, render, scaled

SETTINGS = Settings(size=64, spread=0.015, low=-1.0, high=1.0, min_lifetime=0.01)


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def gait(seed: int, *shape: int) -> np.ndarray:
    """Steps with harmonics, drift and sensor noise, as an accelerometer has them."""
    t = np.arange(shape[-1]) / 33.3
    phase = np.abs(noise(seed, *shape[:-1], 1))
    steps = np.sin(12 * t + phase) + 0.4 * np.sin(24 * t + 2 * phase) + 0.2 * t
    return (steps + 0.05 * noise(seed + 1, *shape)).astype(np.float32)


def coarse(seed: int, *shape: int) -> np.ndarray:
    """Few distinct values: plateaus and ties everywhere."""
    return np.random.default_rng(seed).integers(0, 5, shape).astype(np.float32)


def peer_diagram(series: np.ndarray, min_lifetime: float) -> np.ndarray:
    """Finite points of gudhi's lower-star filtration of one series."""
    complex_ = gudhi.CubicalComplex(vertices=series)
    complex_.persistence(min_persistence=min_lifetime)
    found = complex_.persistence_intervals_in_dimension(0).reshape(-1, 2)
    return found[np.isfinite(found[:, 1])]


def rows_of(points: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    return np.split(points, np.cumsum(counts)[:-1])


def in_order(diagram: np.ndarray) -> np.ndarray:
    return diagram[np.lexsort(diagram.T)].astype(np.float64)


def window_set(signal: np.ndarray, length: int, step: int) -> WindowSet:
    starts = np.arange(0, signal.shape[1] - length + 1, step)
    zeros = np.zeros(len(starts), np.int16)
    return WindowSet(signal, starts, zeros, zeros, {"length": length})


def on_device(prepared: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in prepared.items()}


@pytest.mark.parametrize("length", [1, 2, 3, 100, 156])
@pytest.mark.parametrize("kind", [noise, gait, coarse])
def test_diagrams_are_those_of_gudhi(kind, length):
    series = scaled(kind(length, 60, length))
    points, counts = diagrams(series, 0.01)
    for row, found in zip(series, rows_of(points, counts), strict=True):
        np.testing.assert_array_equal(in_order(found), in_order(peer_diagram(row, 0.01)))


def test_diagram_by_hand():
    # Floors -1, 0.2, -0.5; rims 0.6 and 1: the floor at 0.2 dies at 0.6, then -0.5 dies at 1.
    series = np.array([[-1, 1, 0.2, 0.6, -0.5, 0.9]], np.float32)
    points, counts = diagrams(series, 0.01)
    np.testing.assert_array_equal(points, np.array([[-0.5, 1], [0.2, 0.6]], np.float32))
    np.testing.assert_array_equal(counts, [2])


def test_the_deepest_valley_is_dropped_and_a_single_valley_leaves_nothing():
    points, counts = diagrams(np.array([[3, 2, 1, 2, 3], [1, 2, 3, 4, 5]], np.float32), 0.0)
    assert points.shape == (0, 2)
    np.testing.assert_array_equal(counts, [0, 0])


def test_only_lives_longer_than_the_limit_are_kept():
    series = np.array([[-1, 0.5, 0.25, 1]], np.float32)
    assert diagrams(series, 0.25)[1][0] == 0
    assert diagrams(series, 0.2499)[1][0] == 1


def test_offset_gain_and_direction_of_time_do_not_change_the_diagram():
    series = noise(0, 20, 100).astype(np.float64)
    plain = rows_of(*diagrams(scaled(series), 0.01))
    other = rows_of(*diagrams(scaled(series[:, ::-1] * 37 - 1e3), 0.01))
    for a, b in zip(plain, other, strict=True):
        np.testing.assert_allclose(in_order(a), in_order(b), atol=1e-6)


def test_scaling_reaches_both_ends_and_a_constant_becomes_zero():
    x = np.stack([noise(1, 50) * 1e-3 + 9, np.full(50, 72, np.float32)])
    values = scaled(x)
    assert (values[0].min(), values[0].max()) == (-1, 1)
    assert not values[1].any()


@pytest.mark.parametrize("chunk", [1, 1000, 400_000])
def test_prepared_offsets_find_the_diagram_of_each_window_and_channel(chunk, monkeypatch):
    monkeypatch.setattr(persistence, "CHUNK_SAMPLES", chunk)
    windows = window_set(gait(2, 3, 400), length=100, step=30)
    stored = prepare(windows, SETTINGS)
    assert stored["points"].dtype == np.float32
    assert stored["offsets"].dtype == np.int64
    assert stored["offsets"].shape == (len(windows) * 3 + 1,)
    for i, window in enumerate(windows.windows(np.arange(len(windows)))):
        for c, series in enumerate(scaled(window)):
            first, end = stored["offsets"][i * 3 + c :][:2]
            np.testing.assert_array_equal(in_order(stored["points"][first:end]), in_order(peer_diagram(series, 0.01)))


def test_preparing_twice_gives_the_same_bytes():
    windows = window_set(coarse(3, 3, 500), length=100, step=22)
    first, second = prepare(windows, SETTINGS), prepare(windows, SETTINGS)
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_memory_beside_the_result_does_not_grow_with_the_number_of_windows():
    windows = window_set(gait(4, 10, 20_000), length=100, step=10)
    tracemalloc.start()
    stored = prepare(windows, SETTINGS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - 2 * sum(a.nbytes for a in stored.values()) < 100e6


def test_the_settings_of_prepare_are_those_that_change_what_it_gives():
    windows, other = (
        window_set(gait(5, 2, 400), 100, 100),
        Settings(size=9, spread=0.1, low=0, high=2, min_lifetime=0.3),
    )
    plain = prepare(windows, SETTINGS)["points"]
    for name in Settings.model_fields:
        changed = prepare(windows, SETTINGS.model_copy(update={name: getattr(other, name)}))["points"]
        assert np.array_equal(plain, changed) is (name not in persistence.PREPARED), name


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("chunk", [persistence.CHUNK_SAMPLES, 1])
def test_a_window_that_is_not_finite_is_refused_by_its_number(chunk, value, monkeypatch):
    monkeypatch.setattr(persistence, "CHUNK_SAMPLES", chunk)
    signal = gait(5, 2, 400)
    signal[1, 250] = value
    with pytest.raises(SpkdError, match="window 2: expected finite values"):
        prepare(window_set(signal, length=100, step=100), SETTINGS)


def image_of(diagram: list[list[float]], settings: Settings = SETTINGS) -> np.ndarray:
    points = torch.tensor(diagram, dtype=torch.float32).reshape(1, 1, -1, 2)
    return render(points, torch.ones(points.shape[:3], dtype=torch.bool), settings)[0, 0].numpy()


@pytest.mark.parametrize("spread", [0.015, 0.1])
def test_images_are_those_of_gudhi(spread):
    settings = SETTINGS.model_copy(update={"spread": spread})
    windows = window_set(gait(6, 4, 600), length=100, step=50)
    x = torch.zeros(len(windows), 4, 100)
    images = persistence.view(settings, on_device(prepare(windows, settings)))(x, torch.arange(len(windows)))
    series = scaled(windows.windows(np.arange(len(windows))).reshape(-1, 100))
    peer = PersistenceImage(bandwidth=spread, resolution=[64, 64], im_range=[-1, 1, -1, 1])
    expected = peer.fit_transform([peer_diagram(row, 0.01) for row in series]).reshape(-1, 64, 64)
    # Where every valley is deeper than the image is high, gudhi's image is 1e-20 or less and its maximum means nothing.
    seen = expected.max((1, 2)) > 1e-15
    found = images.reshape(-1, 64, 64).numpy()
    assert seen.mean() > 0.5
    assert not found[~seen].any()
    np.testing.assert_allclose(found[seen], expected[seen] / expected[seen].max((1, 2), keepdims=True), atol=2e-5)


def test_one_point_lies_at_its_birth_column_and_its_lifetime_row():
    image = image_of([[-1.0, 0.0]], SETTINGS.model_copy(update={"size": 3, "spread": 0.5}))
    near, far = math.exp(-2), math.exp(-8)
    np.testing.assert_allclose(image[2], [1, near, far], rtol=1e-6)
    np.testing.assert_allclose(image[:, 0], [far, near, 1], rtol=1e-6)


def test_empty_diagrams_give_zero_images():
    windows = window_set(np.zeros((2, 300), np.float32), length=100, step=100)
    images = persistence.view(SETTINGS, on_device(prepare(windows, SETTINGS)))(torch.zeros(3, 2, 100), torch.arange(3))
    assert images.shape == (3, 2, 64, 64)
    assert not images.any()


def test_an_empty_diagram_among_full_ones_gives_a_zero_image():
    signal = noise(7, 2, 300)
    signal[1, 100:200] = 5
    windows = window_set(signal, length=100, step=100)
    images = persistence.view(SETTINGS, on_device(prepare(windows, SETTINGS)))(torch.zeros(3, 2, 100), torch.arange(3))
    assert images.amax((2, 3)).tolist() == [[1, 1], [1, 0], [1, 1]]


def test_a_point_far_outside_the_image_is_zero_and_not_blown_up():
    assert not image_of([[-1.0, 0.9]]).any()
    assert image_of([[-1.0, 0.05]]).max() == 1


def test_no_pixel_is_a_denormal_number():
    image = image_of([[b, d] for b, d in np.random.default_rng(8).uniform(-1, 1, (40, 2)) if b < d])
    assert not ((image > 0) & (image < np.finfo(np.float32).tiny)).any()


def test_rows_may_come_in_any_order_and_twice():
    windows = window_set(gait(9, 3, 600), length=100, step=50)
    view = persistence.view(SETTINGS, on_device(prepare(windows, SETTINGS)))
    every = view(torch.zeros(len(windows), 3, 100), torch.arange(len(windows)))
    some = torch.tensor([4, 0, 4, 9])
    torch.testing.assert_close(view(torch.zeros(4, 3, 100), some), every[some], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("at_a_time", "lots"), [(1, [1] * 33), (14, [14, 14, 5]), (320, [33])])
def test_images_drawn_in_lots_are_those_drawn_at_once(at_a_time, lots, monkeypatch):
    windows, drawn = window_set(gait(10, 3, 600), length=100, step=50), []
    stored = on_device(prepare(windows, SETTINGS))
    rows, sizes = torch.tensor([4, 0, 4, 9, 10, 1, 2, 3, 8, 7, 5]), stored["offsets"].diff()
    which = (rows.unsqueeze(1) * 3 + torch.arange(3)).flatten()
    at_once = render(*gather(stored["points"], stored["offsets"], which, int(sizes.max())), SETTINGS)

    def counted(points, present, settings):
        drawn.append((len(points), points.shape[1]))
        return render(points, present, settings)

    monkeypatch.setattr(persistence, "CPU_CHANNELS", at_a_time)
    monkeypatch.setattr(persistence, "render", counted)
    in_lots = persistence.view(SETTINGS, stored)(torch.zeros(11, 3, 100), rows)
    assert [n for n, _ in drawn] == lots
    # Diagrams of like size share a lot, which has room for its own largest and no more.
    assert [room for _, room in drawn] == [int(lot.max()) for lot in sizes[which].sort().values.split(at_a_time)]
    # Another number of products at a time may take another kernel, which adds in another order.
    torch.testing.assert_close(in_lots, at_once.view(11, 3, 64, 64), rtol=0, atol=1e-6)


def test_no_windows_have_no_images():
    stored = on_device(prepare(window_set(gait(10, 3, 600), length=100, step=50), SETTINGS))
    none = persistence.view(SETTINGS, stored)(torch.zeros(0, 3, 100), torch.zeros(0, dtype=torch.int64))
    assert none.shape == (0, 3, 64, 64)
    of_none = persistence.view(SETTINGS, {"points": torch.zeros(0, 2), "offsets": torch.zeros(1, dtype=torch.int64)})
    assert of_none(torch.zeros(0, 3, 100), torch.zeros(0, dtype=torch.int64)).shape == (0, 3, 64, 64)


def test_padding_is_not_drawn():
    points, offsets = torch.tensor([[-1.0, 0.0], [0.0, 0.5], [0.5, 0.9]]), torch.tensor([0, 2, 3, 3])
    block, present = gather(points, offsets, torch.tensor([1, 0, 2]), n_points=2)
    assert present.tolist() == [[True, False], [True, True], [False, False]]
    images = render(block, present, SETTINGS).numpy()
    np.testing.assert_array_equal(images[0], image_of([[0.5, 0.9]]))
    assert not images[2].any()


@pytest.mark.parametrize("make", [noise, coarse])
def test_samples_sort_as_by_numpys_stable_sort(make):
    series = make(12, 50, 100)
    series[0, ::3], series[1, ::2], series[1, 1::2] = -0.0, 0.0, -0.0
    series[2, :4] = [1e-45, -1e-45, 3e38, -3e38]
    np.testing.assert_array_equal(persistence._ascending(series), np.argsort(series, axis=1, kind="stable"))


def test_autocast_does_not_round_the_image():
    points = torch.tensor([[[[-0.4, 0.1], [0.1, 0.4]]]])
    present = torch.ones(1, 1, 2, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = render(points, present, SETTINGS)
    assert torch.equal(inside, render(points, present, SETTINGS))


@pytest.mark.parametrize("missing", ["points", "offsets"])
def test_unprepared_diagrams_are_refused_with_what_to_run(missing):
    stored = {"points": torch.zeros(0, 2), "offsets": torch.zeros(1, dtype=torch.int64)}
    del stored[missing]
    with pytest.raises(SpkdError, match=f"prepared {missing}.*dvc repro"):
        persistence.view(SETTINGS, stored)


def test_diagrams_of_another_number_of_channels_are_refused():
    view = persistence.view(SETTINGS, {"points": torch.zeros(0, 2), "offsets": torch.zeros(9, dtype=torch.int64)})
    with pytest.raises(SpkdError, match="diagrams for 3 channels"):
        view(torch.zeros(2, 3, 100), torch.arange(2))


@pytest.mark.parametrize("high", [-1.0, 1.0])
def test_an_image_range_upside_down_or_empty_is_refused(high):
    with pytest.raises(ValueError, match="low must be below high"):
        Settings(size=64, spread=0.015, low=1.0, high=high, min_lifetime=0.01)
