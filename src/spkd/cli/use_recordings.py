"""Point data.dvc at your own recordings: a folder, a mount, ssh:// or s3://; then run `dvc repro`."""

from pathlib import Path
from typing import Any

import yaml

from spkd.errors import SpkdError
from spkd.settings import Settings

SECTIONS = ()
POSITIONAL = ("where",)
IMPORT = Path("data.dvc")


def main(words: list[str], settings: Settings, tree: dict[str, Any]) -> int:
    """Replace deps.path of data.dvc; a local folder must exist and hold a folder per data set."""
    (where,) = words
    if "://" not in where:
        known = sorted(tree["datasets"]) + ["coco"]
        found = [n for n in known if (Path(where) / n).exists()]
        if not found:
            raise SpkdError(
                where, f"a folder with one of {', '.join(known)} in it", "none", "see README, own recordings"
            )
        where = where if Path(where).is_relative_to(".") else str(Path(where).resolve())
    text = IMPORT.read_text(encoding="utf-8")
    comments = [line for line in text.splitlines() if line.startswith("#")]
    stage = {"frozen": False, "deps": [{"path": where}], "outs": [{"path": "data/raw"}]}
    temporary = IMPORT.with_suffix(".new")
    temporary.write_text("\n".join(comments) + "\n" + yaml.safe_dump(stage, sort_keys=False), encoding="utf-8")
    temporary.replace(IMPORT)
    print(f"data.dvc imports {where}; run `dvc repro`")
    return 0
