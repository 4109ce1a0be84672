"""Reads a data set's data.yaml as its author wrote it: which splits, where, which classes."""

from pathlib import Path
from typing import Any

import yaml

from spkd.detect import coco
from spkd.errors import SpkdError


def read(path: Path) -> dict[str, Any]:
    """The mapping in a data.yaml. Raises SpkdError where there is none, or none that can be read."""
    if not path.is_file():
        note = path.parent / coco.ABSENT
        got = note.read_text("utf-8").strip() if note.is_file() else "no such file"
        do = "set coco.source or bring a folder coco, and run `dvc repro coco`; or give the path of yours"
        raise SpkdError(path, "the data set's data.yaml", got, do)
    expected = "a mapping with path, train, val and names"
    try:
        tree = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        do = "correct it there, and save it as UTF-8"
        raise SpkdError(path, expected, " ".join(str(error).split()), do) from None
    if not isinstance(tree, dict):
        raise SpkdError(path, expected, type(tree).__name__, "correct it")
    return tree


def remedy(tree: dict[str, Any]) -> str:
    """What to do where ultralytics does not take the content."""
    if "path" in tree and not Path(str(tree["path"])).is_absolute():
        return "leave `path:` out (the folder of data.yaml is meant) or make it absolute, and check `train:` and `val:`"
    return "correct `path:`, `train:`, `val:` and `names:` in it"
