"""ultralytics without its outside world: no usage events, no MLflow or DVC callback of its own, only known arguments.

Every door into ultralytics (preflight, training, versions) calls `quiet` first. The private configuration folder is
set in detect/__init__.py, which runs before ultralytics can be imported.
"""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ultralytics import settings
from ultralytics.cfg import check_cfg
from ultralytics.data import utils as data_utils
from ultralytics.engine import trainer
from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER, TQDM, plotting

from spkd import plugin
from spkd.errors import SpkdError
from spkd.meter import SILENT_S

OURS = {  # set from params.yaml `detect`; passing them a second way would contradict it
    "model", "data", "epochs", "batch", "imgsz", "device", "workers", "seed", "deterministic", "project", "name",
    "save_dir", "exist_ok", "resume", "distill_model", "dis", "task", "mode", "save", "cfg", "pretrained",
}  # fmt: skip
NOT_TRAINING = {
    "source", "vid_stride", "stream_buffer", "retina_masks", "embed", "show", "save_frames", "save_crop", "format",
    "optimize", "dynamic", "simplify", "opset", "workspace", "tracker", "dnn",
}  # fmt: skip
CHOICES = {  # words that ultralytics would refuse only once it trains
    "optimizer": ("auto", "SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "MuSGD"),
    "copy_paste_mode": ("flip", "mixup"),
}
# Of these optimizer auto takes its own values: of `momentum`, too, which its AdamW never reads again, and its MuSGD
# only where there is a warm-up.
CHOSEN_BY_AUTO = ("lr0", "momentum", "warmup_bias_lr")
OFF = ("sync", "mlflow", "dvc", "clearml", "comet", "raytune", "tensorboard", "wandb", "vscode_msg", "openvino_msg")


def quiet() -> None:
    """Switch off every integration of ultralytics (ours is the only tracking), and its search of the web for fonts.

    In a log its bars are drawn once a minute, and not ten times a second: 100 MB a day.
    """
    if any(settings[key] for key in OFF):
        settings.update(dict.fromkeys(OFF, False))
    for user in (data_utils, plotting):  # in a private configuration folder no font is ever there from last time
        user.check_font = _installed_font
    if not sys.stdout.isatty():
        TQDM._should_update = lambda bar, since_s: since_s >= SILENT_S


def _installed_font(font: str = "Arial.ttf") -> str | None:
    """The file of a font on this machine; None = ultralytics draws with Pillow's own."""
    from matplotlib import font_manager  # which looks through the fonts of the machine where it is imported

    return next((known.fname for known in font_manager.fontManager.ttflist if font in known.fname), None)


@contextmanager
def hushed() -> Iterator[None]:
    """Of ultralytics' messages only errors are printed inside."""
    before = LOGGER.level
    LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOGGER.setLevel(before)


@contextmanager
def amp_as_asked() -> Iterator[None]:
    """Inside, a training on a GPU is in mixed precision where `detect.train.amp` says so, and on a CPU never.

    ultralytics would first download weights, unpickle and compare: what is trained depended on the network, in silence.
    """
    before = trainer.check_amp
    trainer.check_amp = lambda model: next(model.parameters()).device.type == "cuda"
    try:
        yield
    finally:
        trainer.check_amp = before


def train_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """The extra ultralytics training arguments of `detect.train`, checked against what the pinned version knows.

    Raises SpkdError for an argument it does not know (with the nearest one it knows), for one that has its own key
    under `detect`, for a value of the wrong type, for one that would measure weights on other images than those that
    chose them, and for one that optimizer auto would not use.
    """
    known = sorted(set(DEFAULT_CFG_DICT) - OURS - NOT_TRAINING)
    for name, value in given.items():
        if name in OURS:
            raise SpkdError(f"params.yaml: detect.train.{name}", "an argument without a key of its own",
                            repr(value), "set it under `detect` (or `run.seed`, `detect.distill`) instead")  # fmt: skip
        if name not in known:
            raise SpkdError("params.yaml: detect.train", "training arguments that ultralytics knows", repr(name),
                            plugin.nearest(name, known))  # fmt: skip
        if name in CHOICES and str(value).lower() not in map(str.lower, CHOICES[name]):
            raise SpkdError(f"params.yaml: detect.train.{name}", f"one of {', '.join(CHOICES[name])}",
                            repr(value), plugin.nearest(str(value), list(CHOICES[name])))  # fmt: skip
        try:
            check_cfg({name: value}, hard=True)
        except (TypeError, ValueError) as error:
            raise SpkdError(f"params.yaml: detect.train.{name}", "a value ultralytics accepts", repr(value),
                            f"correct it: {error}") from None  # fmt: skip
    _of_the_validation_images(given)
    _of_an_optimizer(given)
    return dict(given)


def _of_the_validation_images(given: Mapping[str, Any]) -> None:
    """Raise SpkdError where a training argument names other images to choose the best weights by than all of `val`."""
    if "split" in given:
        do = "leave it out; data.yaml says which images `val:` are"
        raise SpkdError("params.yaml: detect.train.split", "the best weights chosen and measured on `val`",
                        repr(given["split"]), do)  # fmt: skip
    if isinstance(given.get("fraction"), list):
        do = "give one number; a smaller `val:` is a list of images in data.yaml"
        raise SpkdError("params.yaml: detect.train.fraction", "one share or number, of the training images",
                        repr(given["fraction"]), do)  # fmt: skip


def _of_an_optimizer(given: Mapping[str, Any]) -> None:
    """Raise SpkdError where a value would be recorded as set, but optimizer auto takes its own."""
    optimizer = str(given.get("optimizer", DEFAULT_CFG_DICT["optimizer"])).lower()
    for name in CHOSEN_BY_AUTO:
        if name in given and optimizer == "auto":
            do = "name one in detect.train.optimizer (SGD, AdamW, ...), or leave this out"
            raise SpkdError(f"params.yaml: detect.train.{name}", "an optimizer that uses it",
                            f"{given[name]!r} with optimizer auto, which chooses its own", do)  # fmt: skip


def require_layers(freeze: Any, n_layers: int) -> None:
    """Raise SpkdError where `detect.train.freeze` names no layers of a network: ultralytics would freeze none of them.

    freeze: how many layers from the first on, or a list of their numbers; None = none. The head must not be frozen so.
    """
    given = freeze if isinstance(freeze, list) else [freeze]
    if freeze is not None and any(type(layer) is not int or not 0 <= layer < n_layers for layer in given):
        expected = f"a number of layers from the first on, or a list of layers, below {n_layers}"
        do = "correct it, or leave it out to train all layers"
        raise SpkdError("params.yaml: detect.train.freeze", expected, repr(freeze), do)
