"""Detection: COCO to YOLO, the check before training, YOLO with and without SPKD.

ultralytics reads its configuration folder while it is imported. It is therefore pointed at a private folder here,
before any file of this room can import it: the user's own ultralytics settings are neither read nor changed.
"""

import atexit
import logging
import os
import secrets
import shutil
import tempfile
from pathlib import Path

_PREFIX = "spkd-ultralytics-"

if _PREFIX not in os.environ.get("YOLO_CONFIG_DIR", ""):  # a worker of multi-GPU training inherits its parent's
    private = Path(tempfile.gettempdir()) / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
    os.environ["YOLO_CONFIG_DIR"] = str(private)
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")  # the lock file says what is installed, nothing else does
    # else its import looks up two addresses, and waits 20 s for them where a firewall swallows that
    os.environ.setdefault("YOLO_OFFLINE", "true")
    atexit.register(shutil.rmtree, private, ignore_errors=True)
    # a folder that is new in every process would be announced in every process
    logging.getLogger("ultralytics").addFilter(lambda record: "Ultralytics Settings" not in str(record.msg))
