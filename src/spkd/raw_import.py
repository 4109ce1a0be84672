"""Whether `data/raw` holds the recordings that `data.dvc` names. Reads that one small file; knows DVC only by it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spkd import config
from spkd.errors import SpkdError

IMPORT = Path("data.dvc")


def check(where: object, command: str, repo: Path = Path()) -> None:
    """Raise SpkdError where `data/raw` is not what `data.dvc` names. where: what is made of it, by this DVC command.

    Told by the digests that DVC wrote: none where nothing was imported from there yet; another one of the source than
    of `data/raw` where `dvc exp run` found recordings added, changed or named anew: it notes the source as it is now
    beside the copy of before, and for DVC all is up to date then. Of an address there is no such digest.
    """
    stage = _stage(repo)
    if not stage.get("deps") or not stage.get("outs"):
        return
    source, copy = stage["deps"][0], stage["outs"][0]
    named = str(source.get("path"))
    expected = f"data prepared from {named}, which {IMPORT} names"
    if "md5" not in copy:
        raise SpkdError(where, expected, "data from before that", f"run `{command}`")
    if "://" not in named and source.get("md5", copy["md5"]) != copy["md5"]:
        got = f"other files in {copy['path']}: `dvc exp run` does not import what was added, changed or named since"
        do = f"run `dvc repro --force {IMPORT}`, then `{command}` (move any .git, .hg or .dvc out of {named} before)"
        raise SpkdError(where, expected, got, do)


@contextlib.contextmanager
def told(from_raw: bool = True) -> Iterator[None]:
    """An error of recordings also says where they come from: what is changed in `data/raw` itself, DVC takes back.

    from_raw: whether they lie there.
    """
    try:
        yield
    except SpkdError as error:
        if from_raw and (deps := _stage(Path()).get("deps")):
            error.args = (
                f"{error}. data/raw is DVC's copy of {deps[0]['path']}: change files there, then `dvc repro`",
            )
        raise


def _stage(repo: Path) -> dict[str, Any]:
    path = repo / IMPORT
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return config.parse(text, str(path)) or {}
