"""Shows how far training is: one bar on a terminal, one plain line an epoch (at most every few seconds) in a log."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

QUIET_S = 5.0


class Progress:
    """Counts windows over all epochs; shows loss, accuracy, windows/s and time left."""

    def __init__(self, title: str, epochs: int, windows: int, done: int) -> None:
        """title: what is trained. windows: per epoch. done: epochs already finished by an earlier start."""
        self.title, self.epochs, self.windows = title, epochs, windows
        self.started, self.first, self.said = time.monotonic(), done, 0.0
        total = epochs * windows
        self.bar = (
            tqdm(total=total, initial=done * windows, desc=title, unit="window", unit_scale=True)
            if sys.stderr.isatty()
            else None
        )

    def __enter__(self) -> "Progress":
        """Start."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the terminal clean."""
        if self.bar is not None:
            self.bar.close()

    def step(self, n_windows: int) -> None:
        """n more windows went through."""
        if self.bar is not None:
            self.bar.update(n_windows)

    def epoch(self, epoch: int, loss: float, accuracy: float | None, windows_per_s: float) -> None:
        """One more epoch is done: epoch counts from 1; accuracy is on validation subjects, in [0, 1], None = none."""
        if self.bar is not None:
            shown: dict[str, object] = {"epoch": f"{epoch}/{self.epochs}", "loss": f"{loss:.4f}"}
            self.bar.set_postfix(shown if accuracy is None else {**shown, "val_accuracy": f"{accuracy:.3f}"})
            return
        now = time.monotonic()
        if epoch < self.epochs and now - self.said < QUIET_S:
            return
        self.said = now
        validated = "" if accuracy is None else f"val accuracy {accuracy:.3f}  "
        left = (now - self.started) / max(epoch - self.first, 1) * (self.epochs - epoch)
        print(
            f"{self.title}: epoch {epoch}/{self.epochs}  loss {loss:.4f}  {validated}{windows_per_s:.0f} windows/s  "
            f"{left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )
