"""Detection networks: opened by the name in a setting, kept as tensors without pickle, and made of such tensors again.

Trained weights that ultralytics publishes (yolov8x.pt) may be named like a file: it downloads them into this folder.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from ultralytics.nn import modules
from ultralytics.nn.tasks import DetectionModel, guess_model_task, load_checkpoint
from ultralytics.utils import downloads

from spkd import atomic
from spkd.detect import hermetic
from spkd.errors import SpkdError
from spkd.evidence.provenance import state_sha256


def build(name: str, key: str) -> Any:
    """An untrained network by yaml, or a trained one by weights (.pt): float32, in eval mode, its `names` by class.

    key: the setting that holds the name. Raises SpkdError where this ultralytics makes no detection network of it.
    """
    hermetic.quiet()
    where, expected = f"params.yaml: {key}", "a detection network that ultralytics opens"
    do = "use a name like yolov8n.yaml, or the path of weights (.pt) that ultralytics saved"
    try:
        with hermetic.hushed():
            model: Any = load(name) if name.endswith(".pt") else DetectionModel(name, verbose=False)
        task = guess_model_task(model)
    except Exception as error:  # a pickle, a yaml or a download may fail in any way
        raise SpkdError(where, expected, f"{name!r} ({' '.join(str(error).split())[:200]})", do) from None
    if task != "detect":
        raise SpkdError(where, expected, f"{name!r}, a network for {task or 'something else'}", do)
    return model.eval()


def require_side(model: Any, side: int, key: str) -> None:
    """Raise SpkdError where a network cannot take square images of this side [pixels]; key: the setting that holds it.

    ultralytics would train on larger ones, with a warning, and sizes and costs on record would be of others.
    """
    stride = int(model.stride.max())
    if side % stride:
        do = f"set {' or '.join(str(n) for n in (side // stride * stride, side // stride * stride + stride) if n)}"
        raise SpkdError(f"params.yaml: {key}", f"a multiple of {stride}, the network's largest stride", side, do)


def weights(name: str, key: str) -> Path | None:
    """The file of the trained weights (.pt) that are named, downloaded where ultralytics publishes them; None = none.

    key: the setting that holds the name. Raises SpkdError where the download fails.
    """
    path = Path(name)
    if path.suffix == ".pt" and path.is_file():
        return path
    if path.suffix != ".pt" or name not in downloads.GITHUB_ASSETS_NAMES:
        return None
    hermetic.quiet()
    try:
        return Path(downloads.attempt_download_asset(name))
    except Exception as error:  # whatever a connection raises
        got, do = " ".join(str(error).split())[:200], "download it into this folder, or name weights that are here"
        raise SpkdError(f"params.yaml: {key}", f"{name} from ultralytics", got, do) from None


def load(weights: Path | str) -> nn.Module:
    """The float32 model of an ultralytics checkpoint, in eval mode."""
    model: nn.Module = load_checkpoint(str(weights))[0]
    return model


def keep(network: nn.Module, out: Path, **said: str) -> str:
    """Write the network's tensors to a safetensors file that `restored` reads, which also holds what is said of it.

    Returns the hash of the tensors.
    """
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    with atomic.file(out) as new:
        save_file(state, new, {**said, **described(network)})
    return state_sha256(state)


def described(model: nn.Module) -> dict[str, str]:
    """What `restored` needs to know of a network beside its tensors: metadata of a safetensors file, JSON each."""
    return {"network": json.dumps(model.yaml), "names": json.dumps(model.names)}


def description(tensors: Path) -> tuple[dict[str, Any], dict[int, str]]:
    """(network, class names) that a safetensors file describes, as `described` writes them.

    Raises SpkdError where they are not there, and where ultralytics, which calls any name of its own module as a layer
    and evaluates an activation, would run something else than layers.
    """
    try:
        with safe_open(tensors, framework="pt") as file:
            said = file.metadata() or {}
        network, names = json.loads(said["network"]), json.loads(said["names"])
        layers = [str(layer) for _, _, layer, _ in [*network["backbone"], *network["head"]]]
        named = {int(index): str(name) for index, name in names.items()}
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        do = "export a run that this version made"
        raise SpkdError(tensors, "a description of the network", f"none that can be read ({error!r})", do) from None
    foreign = [layer for layer in layers if not _is_layer(layer)]
    if "activation" in network or foreign:
        got = repr(network.get("activation", foreign[0] if foreign else ""))
        do = "do not use this file: ultralytics would run that as code"
        raise SpkdError(tensors, "layers of ultralytics, without an activation of their own", got, do)
    return network, named


def _is_layer(name: str) -> bool:
    shelf: Any = nn if name.startswith("nn.") else modules
    known = getattr(shelf, name.removeprefix("nn."), None)
    # TorchVision fetches weights.
    return isinstance(known, type) and issubclass(known, nn.Module) and name != "TorchVision"


def restored(tensors: Path, out: Path) -> Path:
    """An ultralytics checkpoint made of a safetensors file that holds what `described` gave; returns `out`.

    The file may be foreign: it is never unpickled, and a network whose description ultralytics would evaluate as code
    is refused. Raises SpkdError there, and where the tensors are not those of the network.
    """
    hermetic.quiet()
    network, names = description(tensors)
    with hermetic.hushed():
        model = DetectionModel(network, ch=network.get("channels", 3), verbose=False)
    _fill(model, tensors, str(network.get("yaml_file", "its network")))
    model.names = names
    with atomic.file(out) as new:
        torch.save({"epoch": -1, "model": model, "ema": None, "train_args": {}}, new)
    return out


def _fill(model: nn.Module, tensors: Path, name: str) -> None:
    """Load the tensors into the model. Raises SpkdError where they are not its own."""
    wanted, found = model.state_dict(), load_file(tensors)
    if wanted.keys() != found.keys() or any(wanted[k].shape != found[k].shape for k in wanted):
        wrong = sorted(wanted.keys() ^ found.keys()) or [k for k in wanted if wanted[k].shape != found[k].shape]
        raise SpkdError(tensors, f"the tensors of {name}", f"others, e.g. {wrong[:3]}", "give the right yaml")
    model.load_state_dict({k: v.to(wanted[k].dtype) for k, v in found.items()})
