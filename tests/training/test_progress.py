"""What a log is told while a network trains."""

import io
from types import SimpleNamespace

from spkd.training import progress


def test_a_log_has_a_line_now_and_then_and_one_at_the_end_with_the_time_left(monkeypatch):
    now, log = SimpleNamespace(s=100.0), io.StringIO()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now.s))
    monkeypatch.setattr(progress.sys, "stderr", log)
    with progress.Progress("net", 10, 48, 2) as shown:  # two of ten epochs were done by an earlier start
        for epoch, s in ((5, 130.0), (6, 134.9), (7, 135.0), (10, 136.0)):
            now.s = s
            shown.epoch(epoch, 0.25, 0.5, 480.0)
    start, end = "net: epoch ", "  loss 0.2500  val accuracy 0.500  480 windows/s  "
    assert log.getvalue().splitlines() == [
        f"{start}5/10{end}50 s left", f"{start}7/10{end}21 s left", f"{start}10/10{end}0 s left"
    ]  # fmt: skip
