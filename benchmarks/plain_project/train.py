"""One epoch of WRN16-1 as anybody trains and logs it: torch's own layers, DataLoader, MLflow's fluent calls.

The peer of benchmarks/commands.py. PLAIN_WINDOWS: a folder of windows as `dvc repro` leaves it; the first subject
tests. PLAIN_MODEL: the folder of plain_wide_resnet.py. PLAIN_LOGS: `model` logs the network for
mlflow.pytorch.load_model, `weights` a file of its weights, `graph` that and what torch.export makes of the network:
the two files of which our runs make what mlflow.pytorch.load_model reads.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import mlflow
import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

sys.path.insert(0, os.environ["PLAIN_MODEL"])
from plain_wide_resnet import PlainWideResNet  # noqa: E402

SETTINGS = {"batch": 128, "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4, "epochs": 1}


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder = Path(os.environ["PLAIN_WINDOWS"])
    manifest = json.loads((folder / "manifest.json").read_text())
    signal, starts, label, subject = (np.load(folder / f"{n}.npy") for n in ("signal", "starts", "label", "subject"))
    x = torch.from_numpy(np.stack([signal[:, s : s + manifest["length"]] for s in starts]))
    x = (x - x.mean((0, 2), keepdim=True)) / (x.std((0, 2), keepdim=True) + 1e-6)
    y, test = torch.from_numpy(label.astype(np.int64)), torch.from_numpy(subject == 0)
    loader = DataLoader(TensorDataset(x[~test], y[~test]), int(SETTINGS["batch"]), shuffle=True, drop_last=True)
    network = PlainWideResNet(16, 1, x.shape[1], len(manifest["classes"]), 1)
    optimiser = torch.optim.SGD(
        network.parameters(), SETTINGS["lr"], SETTINGS["momentum"], weight_decay=SETTINGS["weight_decay"]
    )
    with mlflow.start_run():
        mlflow.log_params(SETTINGS)
        started = time.monotonic()
        for inputs, labels in loader:
            loss = functional.cross_entropy(network(inputs), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        seconds = time.monotonic() - started
        network.eval()
        with torch.no_grad():
            right = torch.cat([network(part).argmax(1) for part in torch.split(x[test], 512)]) == y[test]
        mlflow.log_metrics({"loss": loss.item(), "accuracy": float(right.float().mean()), "seconds": seconds}, step=1)
        if os.environ["PLAIN_LOGS"] == "model":
            mlflow.pytorch.log_model(network, name="model", input_example=x[:2].numpy())
            return
        with tempfile.TemporaryDirectory() as place:
            save_file(network.state_dict(), f"{place}/weights.safetensors")
            if os.environ["PLAIN_LOGS"] == "graph":
                batches = ({0: torch.export.Dim.AUTO},)
                torch.export.save(torch.export.export(network, (x[:2],), dynamic_shapes=batches), f"{place}/model.pt2")
            mlflow.log_artifacts(place)


if __name__ == "__main__":
    main()
