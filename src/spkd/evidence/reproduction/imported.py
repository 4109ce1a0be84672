"""Weights that no run of this store made, as a run of their own: others then name, export and repeat with them."""

from pathlib import Path
from typing import Any

from spkd.evidence import tracking
from spkd.evidence.reproduction import portable

KIND = "imported"
EARLY = "early.safetensors"


def found(sha256: str, early: bool = False) -> str | None:
    """Id of the run that holds weights whose tensors hash to sha256; None where there is none, or its file is gone."""
    for known in tracking.find(tracking.finished({"kind": KIND, "weights.sha256": sha256})):
        if ("weights.early_epoch" in known.tags) == early and portable.has_weights(known.id, sha256):
            return known.id
    return None


def kept(
    weights: Path, sha256: str, name: str, parent: tracking.Run, work: Path, early: bool = False, **tags: Any
) -> str:
    """Id of the run that holds these weights: one that is there already, else a new one below `parent`.

    weights: a safetensors file whose tensors hash to sha256. early: the early-stopped state of a training. work: a
    folder for the local copy until it is delivered. tags: of a new run.
    """
    if known := found(sha256, early):
        return known
    said = {"kind": KIND, "weights.sha256": sha256, **({"weights.early_epoch": KIND} if early else {}), **tags}
    with tracking.open_run(name, work, "", parent, said, fresh=True) as run:
        run.file(weights, f"model/{EARLY if early else portable.WEIGHTS}")
    return run.id
