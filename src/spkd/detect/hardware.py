"""The device of a detection run in ultralytics' words. Nothing falls back in silence."""

import torch

from spkd.errors import SpkdError


def device(wanted: str) -> str:
    """The word cpu, or GPU indices ("0", "0,1"). wanted: those, or auto: the first GPU where there is one.

    Raises SpkdError where a GPU is asked for that is not there.
    """
    n = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        return "0" if n else "cpu"
    if wanted != "cpu" and any(int(index) >= n for index in wanted.split(",")):
        raise SpkdError("detect.device", f"GPU indices below {n}", wanted, "use cpu or auto, or mend the CUDA set-up")
    return wanted
