import math

import pytest

from spkd.errors import SpkdError
from spkd.training.schedule import early_epoch, learning_rate


def rates(epochs: int, schedule: str, lr: float = 0.05, lr_final: float = 0.0001) -> list[float]:
    return [learning_rate(epoch, epochs, lr, lr_final, schedule) for epoch in range(epochs)]


def test_paper_steps_are_exactly_the_published_ones_at_200_epochs():
    assert rates(200, "paper") == [0.05] * 11 + [0.01] * 55 + [0.001] * 67 + [0.0001] * 67


def test_paper_boundaries_scale_with_the_number_of_epochs():
    assert rates(400, "paper") == [0.05] * 22 + [0.01] * 110 + [0.001] * 134 + [0.0001] * 134
    assert rates(6, "paper") == [0.05, 0.01, 0.001, 0.001, 0.0001, 0.0001]


def test_paper_rates_keep_their_place_between_first_and_last():
    steps = sorted(set(rates(200, "paper", 0.3, 0.003)), reverse=True)
    places = [math.log(0.3 / step) / math.log(0.3 / 0.003) for step in steps]
    published = [math.log(0.05 / step) / math.log(500) for step in (0.05, 0.01, 0.001, 0.0001)]
    assert places == pytest.approx(published)
    assert (steps[0], steps[-1]) == (0.3, 0.003)


@pytest.mark.parametrize("epochs", [2, 3, 50, 200])
def test_cosine_goes_from_first_to_last_without_rising(epochs):
    values = rates(epochs, "cosine")
    assert values[0] == pytest.approx(0.05)
    assert values[-1] == pytest.approx(0.0001)
    assert values == sorted(values, reverse=True)


def test_cosine_is_half_way_in_the_middle():
    assert learning_rate(50, 101, 0.05, 0.0001, "cosine") == pytest.approx((0.05 + 0.0001) / 2)


@pytest.mark.parametrize("schedule", ["paper", "cosine"])
def test_a_single_epoch_runs_at_the_first_rate(schedule):
    assert rates(1, schedule) == [0.05]


@pytest.mark.parametrize("schedule", ["paper", "cosine"])
def test_a_run_may_warm_up_instead(schedule):
    values = rates(200, schedule, 0.001, 0.1)
    assert values == sorted(values)


@pytest.mark.parametrize("epoch", [-1, 200])
def test_an_epoch_outside_the_run_is_refused(epoch):
    with pytest.raises(SpkdError, match="0 to 199"):
        learning_rate(epoch, 200, 0.05, 0.0001, "paper")


def test_an_unknown_schedule_is_refused():
    with pytest.raises(SpkdError, match="paper or cosine"):
        learning_rate(0, 200, 0.05, 0.0001, "linear")


@pytest.mark.parametrize(
    ("share", "epochs", "epoch"),
    [(0.25, 200, 50), (0.25, 7, 2), (0.25, 3, 1), (0.01, 3, 1), (1.0, 10, 10), (0.0, 10, None)],
)
def test_the_early_epoch_is_a_share_of_all(share, epochs, epoch):
    assert early_epoch(share, epochs) == epoch
