"""The device of a detection run in ultralytics' words and in torch's. Nothing falls back in silence."""

import torch
from ultralytics.utils import NUM_THREADS

from spkd.detect import features
from spkd.errors import SpkdError


def device(wanted: str, key: str) -> str:
    """The word cpu, or GPU indices ("0", "0,1"), as ultralytics takes them.

    wanted: those, or as torch says it (cuda, cuda:1), or auto: the first GPU where there is one. key: the setting that
    holds it. Raises SpkdError where a GPU is asked for that is not there.
    """
    n = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        return "0" if n else "cpu"
    indices = wanted.removeprefix("cuda:").replace("cuda", "0")
    if indices != "cpu" and any(int(index) >= n for index in indices.split(",")):
        do = "use cpu or auto (`spkd reproduce` takes --device), or mend the CUDA set-up"
        here = f"GPU indices below {n}" if n else "cpu or auto, as torch sees no GPU"
        raise SpkdError(f"params.yaml: {key}", here, wanted, do)
    return indices


def first(indices: str) -> torch.device:
    """torch's device of what `device` returned: the first of several."""
    return torch.device("cpu" if indices == "cpu" else f"cuda:{indices.split(',')[0]}")


def require_whole_shares(batch: int, indices: str) -> None:
    """Raise SpkdError where the GPUs cannot share a batch evenly: ultralytics would train with a smaller one."""
    n = len(indices.split(","))
    if batch % n:
        near = " or ".join(str(size) for size in (batch // n * n, batch // n * n + n) if size)
        do = f"set {near}, or other GPUs in detect.device"
        raise SpkdError("params.yaml: detect.batch", f"a multiple of the {n} GPUs of detect.device", batch, do)


def require_pairs(batch: int, indices: str, mode: str) -> None:
    """Raise SpkdError where SPKD compares images and a device sees too few a step: its loss would be 0."""
    n, fewest = len(indices.split(",")), features.FEWEST[mode]
    if mode != "object" and batch // n < fewest:
        do = "raise it, or choose mode object"
        expected = f"{fewest} images a device, to compare in mode {mode}"
        raise SpkdError("params.yaml: detect.batch", expected, batch // n, do)


def threads(wanted: int, indices: str) -> int:
    """The CPU threads of a run: those wanted. 0 = all cores; on a CPU ultralytics' number, one less and at most 8."""
    return wanted or (NUM_THREADS if indices == "cpu" else 0)


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was given; a CPU has. Without a name torch waits for its current GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
