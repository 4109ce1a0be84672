"""Delivers an outbox to MLflow: in batches, in order, and so that delivering twice changes nothing.

Contract: `deliver` stops at the first fact that the store could not be asked about, and raises that error (`facts.py`).
The `Sender` does this from a thread, so that training never waits for a network.
"""

import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from spkd.errors import SpkdError
from spkd.evidence.outbox import Outbox
from spkd.evidence.tracking.facts import send_one, send_small
from spkd.evidence.tracking.store import Away, client, database, reason, shown

BATCH_EVENTS = 200
PAUSE_S, LONGEST_WAIT_S = 1.0, 30.0
SMALL = ("params", "metrics", "tags")


def deliver(outbox: Outbox, made: MlflowClient) -> int:
    """Send everything that has not arrived; returns how many events were sent. Raises what the store raised."""
    state, total = outbox.delivery, 0
    for end, group in _groups(outbox, state.sent):
        if group[0]["kind"] in SMALL:
            send_small(made, state, group)
        else:
            send_one(made, outbox, state, group[0])
        state.sent, total = end, total + len(group)
        outbox.delivery = state
    return total


def _groups(outbox: Outbox, start: int) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """(offset behind, events): runs of small facts together, every other event alone."""
    group: list[dict[str, Any]] = []
    end = start
    for after, event in outbox.read(start):
        if group and (event["kind"] not in SMALL or len(group) == BATCH_EVENTS):
            yield end, group
            group = []
        end = after
        if event["kind"] in SMALL:
            group.append(event)
        else:
            yield end, [event]
    if group:
        yield end, group


class Sender:
    """Delivers one outbox from a thread until closed. Retries wait longer and longer.

    It looks at the outbox every PAUSE_S; n senders of a process do every n PAUSE_S, so that runs which are trained side
    by side together take of the processor what one takes.
    """

    open_ones: ClassVar[set["Sender"]] = set()

    def __init__(self, outbox: Outbox, made: MlflowClient) -> None:
        self.outbox, self.made = outbox, made
        self.failing_since: float | None = None
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._done = threading.Event()
        self._given_up = False
        self.open_ones.add(self)
        self._thread = threading.Thread(target=self._work, name="spkd-sender", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        wait_s = PAUSE_S
        while not self._given_up:
            self._hurry.wait(wait_s)
            stopping = self._stop.is_set()
            self._hurry.clear()
            try:
                deliver(self.outbox, self.made)
                self.failing_since, wait_s = None, PAUSE_S * max(1, len(self.open_ones))
                if stopping:
                    break
            except Exception as error:  # whatever a store raises must not end the thread
                self._report(error)
                wait_s = 1.0 if stopping else min(2 * wait_s, LONGEST_WAIT_S)
        self._done.set()

    def _report(self, error: Exception) -> None:
        if self.failing_since is not None:
            return
        self.failing_since = time.monotonic()
        place = getattr(error, "filename2", None) or getattr(error, "filename", None)  # of a copy: where it goes
        if isinstance(error, OSError) and str(place).startswith(str(self.outbox.folder)):
            what = (
                f"the run's local copy fails ({place}: {error.strerror or error}); see to space and permissions there"
            )
        else:
            what = (
                f"tracking at {shown(self.outbox.delivery.uri)} fails ({reason(error)}); the run goes on and keeps a "
                f"local copy; if it stays away: spkd upload {self.outbox.folder}"
            )
        print(f"spkd: {what}", file=sys.stderr)

    def close(self, patience_s: float) -> bool:
        """Deliver the rest; True if all arrived. Gives up when nothing was delivered for patience_s."""
        self.open_ones.discard(self)
        self._stop.set()
        self._hurry.set()
        sent, since = self.outbox.delivery.sent, time.monotonic()
        while not self._done.wait(0.1):
            now = self.outbox.delivery.sent
            if now != sent:
                sent, since = now, time.monotonic()
            if time.monotonic() - since > patience_s:
                self._given_up = True
                return False
        return True


def finish(outbox: Outbox) -> int:
    """Deliver what an ended or dead process left; returns how many events. Raises SpkdError, Away if it is that."""
    uri = outbox.delivery.uri
    path = database(uri)
    if path is not None and not path.is_file():
        do = "restore it, set MLFLOW_TRACKING_URI to upload elsewhere, or delete the folder"
        raise SpkdError(outbox.folder, f"the run's store {path}", "no such file", do)
    try:
        return deliver(outbox, client(uri))
    except MlflowException as error:
        do = "the same command again sends the rest"
        raise Away(shown(uri), "a store that takes a run's facts", reason(error), do) from None
