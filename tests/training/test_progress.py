"""What a log is told while a network trains."""

import io
from types import SimpleNamespace

import pytest
from tqdm import tqdm

from spkd import meter
from spkd.training import progress


@pytest.fixture
def now(monkeypatch):
    """The clock, at 100 s; `log` is what was said."""
    clock = SimpleNamespace(s=100.0, log=io.StringIO())
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.s))
    for module in (progress, meter):
        monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=clock.log))
    return clock


def test_a_log_has_a_line_now_and_then_and_one_at_the_end_with_the_time_left(now):
    with progress.Progress("net", 10, 48, 96) as shown:  # two of ten epochs were done by an earlier start
        for epoch, s in ((5, 130.0), (6, 134.9), (7, 135.0), (10, 136.0)):
            now.s = s
            shown.step(48 * (epoch - 2) - (shown.seen - shown.first))
            shown.epoch(epoch, 0.25, 0.5, 480.0)
    start, end = "net: epoch ", "  loss 0.2500  val accuracy 0.500  480 windows/s  "
    assert now.log.getvalue().splitlines() == [
        f"{start}5/10{end}50 s left", f"{start}7/10{end}21 s left", f"{start}10/10{end}0 s left"
    ]  # fmt: skip


def test_a_long_epoch_is_heard_of_every_minute(now):
    with progress.Progress("net", 4, 1000, 1000) as shown:
        for s in range(110, 240, 10):  # 10 windows/s
            now.s = float(s)
            shown.step(100)
    assert now.log.getvalue().splitlines() == [
        "net: 40.0% of 4 epochs  10 windows/s  4 min left",  # 60 of 300 s
        "net: 55.0% of 4 epochs  10 windows/s  3 min left",
    ]


def test_a_bar_of_80_columns_shows_the_time_left_and_how_good_the_network_is(now, monkeypatch):
    drawn = io.StringIO()
    monkeypatch.setattr(now.log, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(meter, "tqdm", lambda **shown: tqdm(**shown, file=drawn, ncols=80, mininterval=0))
    with progress.Progress("wrn16-1 <- gaf:wrn16-3 kd sp pamap2 s101 t0", 10, 48, 0) as shown:
        now.s += 10
        shown.step(48)
        shown.epoch(1, 0.25, 0.5, 480.0)
    line = drawn.getvalue().split("\r")[-1].strip()
    assert line == "wrn16-1 <- gaf:wrn16-3 kd sp pamap2 s101 t0:  10%, 2 min left, val accuracy 0.50"
