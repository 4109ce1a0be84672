"""Opens a detection network by the name in a setting, or says which setting is wrong and why.

Trained weights that ultralytics publishes (yolov8x.pt) may be named like a file: it downloads them into this folder.
"""

from pathlib import Path
from typing import Any

from ultralytics.nn.tasks import DetectionModel, guess_model_task, load_checkpoint
from ultralytics.utils import downloads

from spkd.detect import hermetic
from spkd.errors import SpkdError


def build(name: str, key: str) -> Any:
    """An untrained network by yaml, or a trained one by weights (.pt): float32, in eval mode, its `names` by class.

    key: the setting that holds the name. Raises SpkdError where this ultralytics makes no detection network of it.
    """
    hermetic.quiet()
    where, expected = f"params.yaml: {key}", "a detection network that ultralytics opens"
    do = "use a name like yolov8n.yaml, or the path of weights (.pt) that ultralytics saved"
    try:
        with hermetic.hushed():
            model: Any = load_checkpoint(name)[0] if name.endswith(".pt") else DetectionModel(name, verbose=False)
        task = guess_model_task(model)
    except Exception as error:  # a pickle, a yaml or a download may fail in any way
        raise SpkdError(where, expected, f"{name!r} ({' '.join(str(error).split())[:200]})", do) from None
    if task != "detect":
        raise SpkdError(where, expected, f"{name!r}, a network for {task or 'something else'}", do)
    return model.eval()


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
