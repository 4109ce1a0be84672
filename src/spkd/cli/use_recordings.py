"""Point data.dvc at your own recordings: a folder, a mount, or an address that DVC reads; then run `dvc repro`."""

import importlib.util
from pathlib import Path
from typing import Any

import yaml

from spkd import atomic
from spkd.errors import SpkdError
from spkd.raw_import import IMPORT
from spkd.settings import Settings

SECTIONS = ()
POSITIONAL = {"where": "a folder that holds a folder per data set, or an address that DVC reads, such as s3://lab/raw"}


def main(words: list[str], settings: Settings, tree: dict[str, Any]) -> int:
    """Replace deps.path of data.dvc; a local folder must exist and hold a folder per data set.

    Raises SpkdError, and leaves data.dvc as it is, where DVC could not import from there.
    """
    (where,) = words
    known = [*tree["datasets"], "coco"]
    if "://" in where:
        _check_scheme(where)
        found = known
    else:
        found = [n for n in known if (Path(where) / n).is_dir()]
        if not found:
            do = 'see README, "Your own recordings"'
            raise SpkdError(where, f"a folder with one of {', '.join(sorted(known))} in it", "none", do)
        if Path(where).resolve().is_relative_to(Path("data").resolve()):
            raise SpkdError(where, "a folder outside data/, which `dvc repro` fills", "one inside", "name another")
        where = where if Path(where).is_relative_to(".") else str(Path(where).resolve())
    text = IMPORT.read_text(encoding="utf-8")
    comments = [line for line in text.splitlines() if line.startswith("#")]
    stage = {"frozen": False, "deps": [{"path": where}], "outs": [{"path": "data/raw"}]}
    atomic.write_text(IMPORT, "\n".join(comments) + "\n" + yaml.safe_dump(stage, sort_keys=False, allow_unicode=True))
    absent = [n for n in known if n not in found]
    without = f" (without {', '.join(absent)}, which will be left out)" if absent else ""
    print(f"data.dvc imports {where}{without}; run `dvc repro`")
    return 0


def _check_scheme(where: str) -> None:
    """Raise SpkdError where DVC needs a package for this kind of address that is not installed."""
    scheme = where.partition("://")[0].lower()
    kind = {"https": "http", "webdavs": "webdav"}.get(scheme, scheme)
    if scheme != "remote" and importlib.util.find_spec(f"dvc_{kind}") is None:  # remote://: a name in .dvc/config
        do = f'pip install "dvc[{kind}]" in this environment (or mount it as a folder), then again'
        raise SpkdError(where, f"DVC's package for {scheme}://", "none installed", do)
