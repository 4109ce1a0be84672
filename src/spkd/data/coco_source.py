"""The official COCO 2017 archives: which of them a source needs, and how they become folders.

Contract: a folder (annotations, val2017, train2017) exists only once its archive was checked and unpacked as a whole.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spkd.data import archive, fetch
from spkd.errors import SpkdError

FOLDERS = {"val2017": ("annotations", "val2017"), "coco2017": ("annotations", "val2017", "train2017")}
MAX_UNPACKED = {"annotations": int(1.2e9), "val2017": int(0.9e9), "train2017": int(20.5e9)}  # [bytes]


def obtain(source: str, files: Mapping[str, Mapping[str, Any]], to: Path, url: str | None = None) -> list[fetch.Remote]:
    """Download and unpack what is not unpacked yet below `to`; each archive is deleted once it is unpacked.

    source: a key of FOLDERS. files: {folder: {url, size, md5}}. url: a mirror's folder, ending in /.
    """
    if missing := [part for part in FOLDERS[source] if part not in files]:
        raise SpkdError("coco.files", f"an entry {missing[0]}", "none", "restore it with git checkout params.yaml")
    remotes = fetch.remotes([files[part] for part in FOLDERS[source]], url)
    for part, remote in zip(FOLDERS[source], remotes, strict=True):
        if not (to / part).is_dir():
            to.mkdir(parents=True, exist_ok=True)
            zipped = fetch.download(remote, to, unpacked_bytes=_space_beside(remote, part, to))
            archive.unpack(zipped, part, to / part, MAX_UNPACKED[part], _is_wanted, consume=True)
        else:
            (to / remote.file).unlink(missing_ok=True)  # a process was killed between unpacking and deleting
    return remotes


def _space_beside(remote: fetch.Remote, part: str, to: Path) -> int:
    """Disk space needed beside the whole archive [bytes]: little where its used blocks can be given back."""
    if remote.size is None or not archive.can_consume(to):
        return MAX_UNPACKED[part]
    return max(0, MAX_UNPACKED[part] - remote.size) + archive.FREE_EVERY_BYTES


def _is_wanted(member: str) -> bool:
    """Images, and of the annotations the instances: captions and keypoints are 0.35 GB that nothing reads."""
    return not member.startswith("annotations/") or member.startswith("annotations/instances_")
