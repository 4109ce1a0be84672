"""What a bundle may do on this machine without its user's consent (`--trust true`): run committed code on plain values.

Contract: read before anything of the bundle is used. A patch is code. A detection setting that names a file outside the
checkout, an address or weights makes ultralytics read, download, unpickle or write: that is code, too. Weights that
travel in the bundle are tensors, and what named them is not read again.
"""

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from spkd import config
from spkd.errors import SpkdError
from spkd.evidence.reproduction import portable
from spkd.experiment.repetition import Recorded

MODEL = re.compile(r"\w[\w.-]*\.yaml", re.ASCII)
TEACHER = re.compile(r"latest|run:\w+", re.ASCII)
WORD = re.compile(r"[\w,-]*", re.ASCII)
OF_NETWORK = {"teacher.detector": "distill.teacher", "init": "model"}  # as repetition.settings replaces them
FILES = {"data": (".yaml", ".yml"), "annotations": (".json",)}
MEANS = "--trust true lets it load, fetch and write that with your rights"


def require(source: str, recorded: Recorded, check_teacher: Callable[[Path], object]) -> None:
    """Raise SpkdError where the bundle `source` asks for more than committed code on plain values.

    check_teacher: raises SpkdError where the weights of a detection teacher describe more than layers.
    """
    patch = recorded.folder / "artifacts" / "code.patch"
    if patch.is_file():
        n = len(patch.read_text(encoding="utf-8", errors="replace").splitlines())
        do = "read artifacts/code.patch in it (unzip -p), then say --trust true: it will be run"
        raise SpkdError(source, "a bundle of committed code", f"one that brings a patch of {n} lines", do)
    if recorded.command != "detect":
        return
    travelling = {key for name, key in OF_NETWORK.items() if name in portable.ancestors(recorded.tags)}
    for key, value in _texts(recorded.settings.get("detect")):
        if key not in travelling and (wanted := _refused(key, value)):
            do = f"read artifacts/settings.json in it (unzip -p); if you know whose it is: {MEANS}"
            raise SpkdError(source, f"{wanted} as detect.{key}", repr(value), do)
    for weights in sorted((recorded.folder / "teachers").glob(f"*/{portable.WEIGHTS}")):
        check_teacher(weights)


def _texts(detect: Any) -> list[tuple[str, str]]:
    """(dotted key, text) of every text in the detection settings, also of those in lists."""
    found = []
    for key, value in config.leaves(detect if isinstance(detect, dict) else {"": detect}):
        values = value if isinstance(value, list) else [] if value == {} else [value]
        found += [(str(key), str(v)) for v in values if not isinstance(v, bool | int | float | None)]
    return found


def _refused(key: str, value: str) -> str:
    """What the setting should have been; "" where its value only chooses."""
    first = key.partition(".")[0]
    if key == "model":
        return "" if MODEL.fullmatch(value) else "the name of a network of ultralytics (yolov8n.yaml)"
    if key == "distill.teacher":
        return "" if TEACHER.fullmatch(value) else "latest or run:<id>"
    if key == "train.cache" and value == "disk":
        return "ram or false"
    if first in FILES:
        path = PurePosixPath(value)
        inside = not path.is_absolute() and not set(value) & set(":\\~") and ".." not in path.parts
        return "" if inside and path.suffix in FILES[first] else f"a {FILES[first][0]} file of the project's folder"
    return "" if WORD.fullmatch(value) else "a number or a plain word"
