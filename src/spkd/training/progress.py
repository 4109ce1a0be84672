"""Shows how far training and other long work are: a bar on a terminal, a plain line now and then in a log."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NoReturn

from tqdm import tqdm

QUIET_S = 5.0  # epochs that follow each other faster share a line
SILENT_S = 60.0  # a log says at least this often that work goes on


class Progress:
    """Counts windows over all epochs; shows loss, accuracy, windows/s and time left."""

    def __init__(self, title: str, epochs: int, windows: int, done: int) -> None:
        """title: what is trained. windows: per epoch. done: epochs already finished by an earlier start."""
        self.title, self.epochs, self.windows = title, epochs, windows
        self.total, self.first = epochs * windows, done * windows
        self.seen, self.started = self.first, time.monotonic()
        self.said = self.started - QUIET_S
        self.bar = _bar(desc=title, total=self.total, initial=self.first, unit="window", unit_scale=True)

    def __enter__(self) -> "Progress":
        """Start."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the terminal clean."""
        if self.bar is not None:
            self.bar.close()

    def step(self, n_windows: int) -> None:
        """n more windows went through."""
        self.seen += n_windows
        if self.bar is not None:
            self.bar.update(n_windows)
        elif time.monotonic() - self.said >= SILENT_S:
            rate = (self.seen - self.first) / (time.monotonic() - self.started)
            self._say(f"{self.seen / self.total:.1%} of {self.epochs} epochs  {rate:.0f} windows/s")

    def epoch(self, epoch: int, loss: float, accuracy: float | None, windows_per_s: float) -> None:
        """One more epoch is done: epoch counts from 1; accuracy is on validation subjects, in [0, 1], None = none."""
        if self.bar is not None:
            shown: dict[str, object] = {"epoch": f"{epoch}/{self.epochs}", "loss": f"{loss:.4f}"}
            self.bar.set_postfix(shown if accuracy is None else {**shown, "val_accuracy": f"{accuracy:.3f}"})
        elif epoch == self.epochs or time.monotonic() - self.said >= QUIET_S:
            validated = "" if accuracy is None else f"val accuracy {accuracy:.3f}  "
            self._say(f"epoch {epoch}/{self.epochs}  loss {loss:.4f}  {validated}{windows_per_s:.0f} windows/s")

    def _say(self, what: str) -> None:
        """A line in the log, with the time left at the pace so far, evaluation included."""
        self.said = time.monotonic()
        left = (self.said - self.started) / max(self.seen - self.first, 1) * (self.total - self.seen)
        print(f"{self.title}: {what}  {spoken(left)} left", file=sys.stderr, flush=True)


class Work:
    """Shows the share done, and the time left, of work of several kinds that each have a pace of their own."""

    def __init__(self, title: str, totals: Mapping[str, int]) -> None:
        """totals: pieces of each kind that there are to do."""
        self.title, self.left, self.paces = title, dict(totals), dict.fromkeys(totals, (0.0, 0))
        self.started = self.last = self.said = time.monotonic()
        self.bar = _bar(desc=title, total=100, bar_format="{desc}: {percentage:3.0f}%|{bar}|{postfix}", leave=False)

    def __enter__(self) -> "Work":
        """Start."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the terminal clean."""
        if self.bar is not None:
            self.bar.close()

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


def _bar(**shown: Any) -> "tqdm[NoReturn] | None":
    return tqdm(**shown) if sys.stderr.isatty() else None
