"""Workers of multi-GPU training end with their command.

torchrun gives each of them a session of its own, and ultralytics, told to stop, kills torchrun alone: they would go on
training in the folder in which the same command begins again.
"""

import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from spkd.evidence import outbox

WATCH_S = 0.5


def end_with(command: Mapping[str, Any]) -> None:
    """End this process as soon as its parent, which is torchrun, or the command is gone; a thread looks.

    command: what outbox.this_process said there.
    """
    threading.Thread(target=_watch, args=(os.getppid(), dict(command)), name="end-with-command", daemon=True).start()


def _watch(parent: int, command: dict[str, Any]) -> None:
    while os.getppid() == parent and outbox.is_alive(command):
        time.sleep(WATCH_S)
    os._exit(1)
