"""Progress of long work, in bytes or in pieces: a bar on a terminal, a plain line now and then in a log."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from tqdm import tqdm

LOG_EVERY_S = 15.0
SILENT_S = 60.0  # a log says at least this often that work of minutes goes on
ROWS = 20  # of a terminal, for tqdm: one that tells no size (`docker run -t`, `script` in a batch job) shows nothing
BAR = "{desc}: {percentage:3.0f}%{postfix} |{bar}|"  # a narrow terminal cuts off the end of a line: there is the bar
Item = TypeVar("Item")


class Shown:
    """Work that shows itself while its block lasts. bar: as tqdm takes its arguments, on a terminal; None in a log."""

    def __init__(self, **shown: Any) -> None:
        self.bar = tqdm(nrows=ROWS, **shown) if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.close()


class Meter(Shown):
    """Counts bytes towards a total and shows them on stderr."""

    def __init__(self, what: str, total: int | None, done: int = 0) -> None:
        self.what, self.total, self.done, self.first = what, total, done, done
        self.started = self.shown = time.monotonic()
        super().__init__(desc=what, total=total, initial=done, unit="B", unit_scale=True)

    def add(self, n_bytes: int) -> None:
        """Count n more bytes."""
        self.done += n_bytes
        if self.bar is not None:
            self.bar.update(n_bytes)
        elif time.monotonic() - self.shown >= LOG_EVERY_S:
            self.shown = time.monotonic()
            print(self.line(), file=sys.stderr, flush=True)

    def line(self) -> str:
        """`val2017.zip: 120 of 816 MB, 8.1 MB/s, 86 s left`."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        rate = (self.done - self.first) / seconds
        of = f" of {self.total / 1e6:.0f}" if self.total else ""
        left = f", {spoken((self.total - self.done) / rate)} left" if self.total and rate else ""
        return f"{self.what}: {self.done / 1e6:.0f}{of} MB, {rate / 1e6:.1f} MB/s{left}"


class Work(Shown):
    """Shows the share done, and the time left, of work of several kinds that each have a pace of their own."""

    def __init__(self, title: str, totals: Mapping[str, int]) -> None:
        """totals: pieces of each kind that there are to do."""
        self.title, self.left, self.paces = title, dict(totals), dict.fromkeys(totals, (0.0, 0))
        self.started = self.last = self.said = time.monotonic()
        super().__init__(desc=title, total=100, bar_format=BAR, leave=False, delay=2.0)

    def did(self, kind: str, n: int = 1) -> None:
        """n pieces of a kind took the time since the last call."""
        now = time.monotonic()
        taken, before = self.paces[kind]
        self.paces[kind], self.last = (taken + now - self.last, before + n), now
        self.left[kind] -= n
        left = sum(self.left[one] * seconds / max(pieces, 1) for one, (seconds, pieces) in self.paces.items())
        share = (now - self.started) / max(now - self.started + left, 1e-9)
        if self.bar is not None:
            self.bar.set_postfix_str(f"{spoken(left)} left", refresh=False)
            self.bar.update(100 * share - self.bar.n)
        elif now - self.said >= SILENT_S:
            self.said = now
            print(f"{self.title}: {share:.0%}  {spoken(left)} left", file=sys.stderr, flush=True)


def each(what: str, items: Sequence[Item]) -> Iterator[Item]:
    """The items, one after the other, shown as work."""
    with Work(what, {"items": len(items)}) as work:
        for item in items:
            yield item
            work.did("items")


def spoken(seconds: float) -> str:
    """A length of time as people say it: `40 s`, `12 min`, `3 h 20 min`, `2 d 5 h`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 36 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"
