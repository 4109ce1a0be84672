"""What a log is told of a long download, and of other long work."""

import io
import os
import pty
import subprocess
import sys
from types import SimpleNamespace

import pytest

from spkd import meter


def test_rate_and_time_left_are_of_what_came_since_the_start(monkeypatch, capsys):
    now = SimpleNamespace(s=50.0)
    monkeypatch.setattr(meter, "time", SimpleNamespace(monotonic=lambda: now.s))
    shown = meter.Meter("val2017.zip", 816_000_000, 20_000_000)  # of which an earlier start brought 20 MB
    now.s = 60.0
    shown.add(100_000_000)
    assert shown.line() == "val2017.zip: 120 of 816 MB, 10.0 MB/s, 70 s left"
    assert capsys.readouterr().err == ""
    now.s = 65.0
    shown.add(30_000_000)
    assert capsys.readouterr().err == "val2017.zip: 150 of 816 MB, 8.7 MB/s, 77 s left\n"
    now.s = 66.0
    shown.add(1)
    assert capsys.readouterr().err == ""  # a line every 15 s
    assert meter.Meter("a.bin", None).line().startswith("a.bin: 0 MB, ")
    assert meter.Meter("a.bin", 5_000_000).line() == "a.bin: 0 of 5 MB, 0.0 MB/s"


@pytest.fixture
def now(monkeypatch):
    """The clock, at 100 s; `log` is what was said."""
    clock = SimpleNamespace(s=100.0, log=io.StringIO())
    monkeypatch.setattr(meter, "time", SimpleNamespace(monotonic=lambda: clock.s))
    monkeypatch.setattr(meter, "sys", SimpleNamespace(stderr=clock.log))
    return clock


def test_work_of_several_kinds_is_judged_by_the_pace_of_each(now):
    with meter.Work("answers", {"asked": 10, "multiplied": 55}) as work:
        for block in range(1, 5):
            now.s += 40
            work.did("asked")
            now.s += 2 * block
            work.did("multiplied", block)
    # After 82 s 8 * 40 + 54 * 2 s are left, after 172 s 6 * 40 + 49 * 2 s.
    assert now.log.getvalue().splitlines() == ["answers: 16%  7 min left", "answers: 34%  6 min left"]


def test_a_bar_stands_where_the_work_does_and_is_closed(now, monkeypatch):
    shown, closed = SimpleNamespace(n=0.0), []
    shown.update = lambda by: setattr(shown, "n", shown.n + by)
    shown.set_postfix_str = lambda text, refresh: None
    shown.close = lambda: closed.append(shown.n)
    monkeypatch.setattr(meter, "tqdm", lambda **words: shown)
    monkeypatch.setattr(meter.sys.stderr, "isatty", lambda: True, raising=False)
    stood = []
    with meter.Work("a", {"asked": 4}) as work:
        for _ in range(4):
            now.s += 10
            work.did("asked")
            stood.append(shown.n)
    assert stood == [25, 50, 75, 100] and closed == [100]
    with meter.Meter("b", 5) as bytes_of:
        bytes_of.add(5)
    assert closed == [100, 105]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (89.4, "89 s"),
        (90, "2 min"),
        (5369, "89 min"),
        (12_000, "3 h 20 min"),
        (100_000, "27 h 47 min"),
        (190_000, "2 d 5 h"),
    ],
)
def test_a_length_of_time_is_said_as_people_say_it(seconds, said):
    assert meter.spoken(seconds) == said


def test_items_are_given_in_order_and_heard_of(now):
    seen = []
    for item in meter.each("device files", ["a", "b", "c"]):
        now.s += 35
        seen.append(item)
    assert seen == ["a", "b", "c"]
    assert now.log.getvalue() == "device files: 67%  35 s left\n"


def test_a_terminal_that_tells_no_size_shows_a_bar_all_the_same():
    ours, theirs = pty.openpty()  # 0 rows of 0 columns
    code = "from spkd.meter import Meter\nwith Meter('val2017.zip', 10) as shown: shown.add(5)"
    subprocess.run([sys.executable, "-c", code], stderr=theirs, check=True)
    os.close(theirs)
    assert b"val2017.zip:  50%" in os.read(ours, 4096)
