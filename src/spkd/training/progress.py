"""Shows how far training is: one bar on a terminal, a plain line now and then in a log."""

import sys
import time

from spkd.meter import BAR, SILENT_S, Shown, spoken

QUIET_S = 5.0  # epochs that follow each other faster share a line


class Progress(Shown):
    """Counts windows over all epochs; shows loss, accuracy, windows/s and time left."""

    def __init__(self, title: str, epochs: int, windows: int, done: int) -> None:
        """title: what is trained. windows: per epoch. done: windows, over all epochs, of an earlier start."""
        self.title, self.epochs, self.windows = title, epochs, windows
        self.total, self.first = epochs * windows, done
        self.seen, self.started = self.first, time.monotonic()
        self.said, self.result = self.started - QUIET_S, ""
        super().__init__(desc=title, total=self.total, initial=self.first, bar_format=BAR)

    def step(self, n_windows: int) -> None:
        """n more windows went through."""
        self.seen += n_windows
        if self.bar is not None:
            self.bar.set_postfix_str(self._left() + self.result, refresh=False)
            self.bar.update(n_windows)
        elif time.monotonic() - self.said >= SILENT_S:
            rate = (self.seen - self.first) / (time.monotonic() - self.started)
            self._say(f"{self.seen / self.total:.1%} of {self.epochs} epochs  {rate:.0f} windows/s")

    def epoch(self, epoch: int, loss: float, accuracy: float | None, windows_per_s: float) -> None:
        """One more epoch is done: epoch counts from 1; accuracy is on validation subjects, in [0, 1], None = none."""
        validated = "" if accuracy is None else f"val accuracy {accuracy:.3f}"
        if self.bar is not None:
            told = (validated, f"loss {loss:.4f}", f"epoch {epoch}/{self.epochs}", f"{windows_per_s:.0f} windows/s")
            self.result = "".join(f", {one}" for one in told if one)
            self.bar.set_postfix_str(self._left() + self.result)
        elif epoch == self.epochs or time.monotonic() - self.said >= QUIET_S:
            validated = validated and f"{validated}  "
            self._say(f"epoch {epoch}/{self.epochs}  loss {loss:.4f}  {validated}{windows_per_s:.0f} windows/s")

    def _say(self, what: str) -> None:
        """A line in the log."""
        self.said = time.monotonic()
        print(f"{self.title}: {what}  {self._left()}", file=sys.stderr, flush=True)

    def _left(self) -> str:
        """The time left at the pace so far, evaluation included."""
        pace = (time.monotonic() - self.started) / max(self.seen - self.first, 1)
        return f"{spoken(pace * (self.total - self.seen))} left"
