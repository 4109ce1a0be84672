"""What a log is told of a long download."""

from types import SimpleNamespace

from spkd.data import meter


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
    assert meter.Meter("a.bin", None).line().startswith("a.bin: 0 MB, ")
