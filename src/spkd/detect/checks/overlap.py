"""Whether two splits of a data set share images: a result on images that were trained on is no test."""

import filecmp
from collections import defaultdict
from pathlib import Path

from spkd.detect.checks.scan import Seen, Split


def shared(one: Split, other: Split) -> list[Seen]:
    """Images of `other` that are in `one` as well: the same file (by any link), or a copy of the same name.

    Images that ultralytics drops are in neither.
    """
    files, copies = set(), defaultdict(list)
    for path in (Path(seen.image) for seen in one.seen if seen.rows is not None):
        files.add(_file(path))
        copies[path.name].append(path)
    return [seen for seen in other.seen if seen.rows is not None and _is_among(Path(seen.image), files, copies)]


def _is_among(path: Path, files: set[tuple[int, int]], copies: dict[str, list[Path]]) -> bool:
    if _file(path) in files:
        return True
    return any(filecmp.cmp(path, copy, shallow=False) for copy in copies.get(path.name, []))


def _file(path: Path) -> tuple[int, int]:
    """What all links to one file have in common."""
    stat = path.stat()
    return stat.st_dev, stat.st_ino
