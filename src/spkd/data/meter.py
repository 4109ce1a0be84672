"""Progress of a long byte stream: a bar with rate and time left on a terminal, a plain line now and then in a log."""

import sys
import time
from types import TracebackType
from typing import NoReturn, Self

from tqdm import tqdm

LOG_EVERY_S = 15.0


class Meter:
    """Counts bytes towards a total and shows them on stderr."""

    def __init__(self, what: str, total: int | None, done: int = 0) -> None:
        self.what, self.total, self.done, self.first = what, total, done, done
        self.started = self.shown = time.monotonic()
        self.bar: tqdm[NoReturn] | None = None
        if sys.stderr.isatty():
            self.bar = tqdm(desc=what, total=total, initial=done, unit="B", unit_scale=True, leave=True)

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
        left = f", {(self.total - self.done) / rate:.0f} s left" if self.total and rate else ""
        return f"{self.what}: {self.done / 1e6:.0f}{of} MB, {rate / 1e6:.1f} MB/s{left}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.close()
