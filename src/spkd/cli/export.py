"""Pack a finished run into one zip file that `reproduce` takes on a machine with no shared server."""

import shlex
import tempfile
from pathlib import Path
from typing import Any

from spkd.errors import SpkdError
from spkd.settings import Settings

SECTIONS = ()
POSITIONAL = {"run": "the id of a finished run, or its first digits (6 or more)"}
OPTIONS = {"out": "the file to write, which ends in .zip; default <run id>.zip [path]"}


def main(words: list[str], settings: Settings, tree: dict[str, Any], options: dict[str, str]) -> int:
    """Settings, lock, commit and patch, data digests, weights, teachers, metrics, maps, predictions.

    A record that `reproduce` would refuse is refused here, where its run may still be mended.
    """
    from spkd.evidence import selection
    from spkd.evidence.reproduction import bundle, portable
    from spkd.experiment import repetition

    run_id = selection.by_id(words[0]).id
    out = Path(options.get("out", f"{run_id}.zip"))
    if out.suffix != ".zip":
        do = "a bundle ends in .zip: spkd reproduce tells it from a run by that"
        raise SpkdError("--out", "FILE.zip", str(out), do)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / run_id
        portable.gather(run_id, Path.cwd(), folder)
        recorded = repetition.Recorded.read(folder)
        if wrong := repetition.told_twice(recorded) or repetition.teachers(recorded):
            raise SpkdError(f"run {run_id}: {wrong.what}", f"{wrong.recorded}, as recorded", wrong.here, wrong.do)
        bundle.pack(folder, out)
    print(f"{out}: {out.stat().st_size / 2**20:.1f} MiB; there: spkd reproduce {shlex.quote(out.name)}")
    return 0
