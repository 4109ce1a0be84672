"""SIGTERM and Ctrl-C as a flag that the loop reads between two steps, so that no update is cut in half."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Ctrl-C reaches every process of a terminal, SIGTERM of a batch system every process of a job, and a parent (`mlflow
# run`, a table, `timeout`) then asks its children once more by SIGTERM: within this time that is the same question, and
# not impatience.
SAME_STOP_S = 2.0


class Stop:
    """Becomes true at the first signal; a second Ctrl-C, or any after SAME_STOP_S, interrupts at once."""

    def __init__(self) -> None:
        self.name = ""
        self.asked = 0.0

    def __bool__(self) -> bool:
        """Whether a stop was asked for."""
        return bool(self.name)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Signal handler."""
        name = signal.Signals(number).name
        if not self.name:
            self.name, self.asked = name, time.monotonic()
        elif name == self.name == "SIGINT" or time.monotonic() - self.asked > SAME_STOP_S:
            raise KeyboardInterrupt(self.name)


@contextmanager
def stop_between_steps() -> Iterator[Stop]:
    """A Stop that listens while the context is open; outside the main thread it never becomes true.

    Raises KeyboardInterrupt at the end where a stop was asked for and nothing was raised: in the last step of all, the
    command would go on with what comes behind the training, another training too.
    """
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
    if stop:
        raise KeyboardInterrupt(f"{stop.name}; the same command goes on behind this training")
