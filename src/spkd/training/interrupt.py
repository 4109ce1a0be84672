"""SIGTERM and Ctrl-C as a flag that the loop reads between two steps, so that no update is cut in half."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Becomes true at the first signal; the second one interrupts at once."""

    def __init__(self) -> None:
        self.name = ""

    def __bool__(self) -> bool:
        """Whether a stop was asked for."""
        return bool(self.name)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Signal handler."""
        if self.name:
            raise KeyboardInterrupt(self.name)
        self.name = signal.Signals(number).name


@contextmanager
def stop_between_steps() -> Iterator[Stop]:
    """A Stop that listens while the context is open; outside the main thread it never becomes true."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
