"""Shows how far training is: one bar on a terminal, a plain line now and then in a log."""

import sys
import time

from spkd.meter import SILENT_S, Shown, spoken

QUIET_S = 5.0  # epochs that follow each other faster share a line


class Progress(Shown):
    """Counts windows over all epochs; shows loss, accuracy, windows/s and time left."""

    def __init__(self, title: str, epochs: int, windows: int, done: int) -> None:
        """title: what is trained. windows: per epoch. done: epochs already finished by an earlier start."""
        self.title, self.epochs, self.windows = title, epochs, windows
        self.total, self.first = epochs * windows, done * windows
        self.seen, self.started = self.first, time.monotonic()
        self.said = self.started - QUIET_S
        super().__init__(desc=title, total=self.total, initial=self.first, unit="window", unit_scale=True)

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
