"""Makes the folder of a logged model: weights as safetensors and, for a network that can be traced, a graph to load.

Contract: no pickle, explicit requirements, no inference and no example data: an MLmodel file that
`mlflow.pytorch.load_model` reads, made in a fraction of the time of `mlflow.pytorch.save_model`.
"""

import copy
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

DATA = "data"


def write(
    folder: Path, weights: Path, network: torch.nn.Module | None, input_shape: tuple[int, ...] | None,
    card: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Fill an empty folder with the model. input_shape: of one input without the batch axis, e.g. (channels, samples).

    card: how that input is made and what the outputs mean, which no graph says: the model's `metadata` in MLflow.
    Without network and input_shape the folder holds the weights and an MLmodel that names them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(weights, folder / weights.name)
    model = Model(metadata=dict(card) if card else None)
    model.add_flavor("safetensors", data=weights.name)
    if network is not None and input_shape is not None:
        _trace(folder / DATA, network, input_shape)
        any_batch = (-1, *input_shape)
        with torch.no_grad():
            classes = copy.deepcopy(network).cpu().eval()(torch.zeros(2, *input_shape)).shape[1:]
        single = np.dtype(np.float32)
        outputs = Schema([TensorSpec(single, (-1, *classes))])
        model.signature = ModelSignature(Schema([TensorSpec(single, any_batch)]), outputs)
        model.add_flavor("pytorch", model_data=DATA, pytorch_version=str(torch.__version__), code=None)
        # What pyfunc.add_to_model writes; importing mlflow.pyfunc for it costs seconds and warns.
        model.add_flavor(
            "python_function",
            loader_module="mlflow.pytorch",
            data=DATA,
            env={"virtualenv": "python_env.yaml"},
            config={"device": None},
            python_version=platform.python_version(),
        )
        (folder / "python_env.yaml").write_text("dependencies:\n- -r requirements.txt\n", encoding="utf-8")
    (folder / "requirements.txt").write_text(f"torch=={torch.__version__.partition('+')[0]}\n", encoding="utf-8")
    model.save(str(folder / "MLmodel"))


def _trace(folder: Path, network: torch.nn.Module, input_shape: tuple[int, ...]) -> None:
    """`model.pt2`: the network in eval mode on the CPU, for batches of any size."""
    folder.mkdir()
    still = copy.deepcopy(network).cpu().eval()
    example = torch.zeros(2, *input_shape)
    program = torch.export.export(still, (example,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    torch.export.save(program, folder / "model.pt2")
