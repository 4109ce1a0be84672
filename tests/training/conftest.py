"""A small window set whose classes a network can tell apart, and a task on it."""

import numpy as np
import pytest
import torch

from spkd import config
from spkd.data import scaling
from spkd.data.batches import DeviceWindows
from spkd.models.wide_resnet import WideResNet
from spkd.settings import Train
from spkd.training.objective import Objective
from spkd.training.step import Task
from spkd.training.teachers import LiveTeacher

N_CLASSES, N_CHANNELS = 3, 2


def identity(x, rows):
    return x


@pytest.fixture(scope="session")
def windows(waves):
    return waves


@pytest.fixture(scope="session")
def settings():
    return config.check(
        Train,
        {
            "epochs": 3, "batch": 16, "last_batch": "drop", "lr": 0.05, "lr_final": 0.001, "schedule": "cosine",
            "momentum": 0.9, "weight_decay": 1e-4, "noise": 0.0, "cuda_graphs": True, "eval_batch": 64,
            "headline": "validation", "windows_gib": 1.0, "teacher_cache": True, "teacher_cache_gib": 1.0,
            "teacher_cache_keep": False, "checkpoint_every": 1, "early": 0.25,
        },
        "train",
    )  # fmt: skip


LOSSES = {
    "cross_entropy": {},
    "kd": {"temperature": 4.0, "reduction": "batchmean"},
    "sp": {"mixing": "normalise_first"},
}


@pytest.fixture
def make_task(windows):
    """make_task(teachers=k) -> a fresh task: same first weights every time, k live teachers of another width."""

    def make(teachers=0, beta=200.0, device="cpu"):
        rows = np.arange(len(windows))
        part = {"train": rows[windows.subject < 2], "validation": rows[windows.subject == 2]}
        part["test"] = rows[windows.subject == 3]
        on_device = DeviceWindows(windows, scaling.measure(windows, part["train"], "training"), device)
        taps = ["group1", "group2", "group3"] if teachers else []
        live = [LiveTeacher(f"t{k}", network(2, 10 + k).to(device), identity, on_device, taps) for k in range(teachers)]
        objective = Objective(0.5 if teachers else 0.0, [], {"sp": beta} if teachers else {}, LOSSES)
        tensors = {name: on_device.rows(r) for name, r in part.items()}
        return Task(
            network(1, 0).to(device), identity, on_device, tensors["train"], tensors["validation"], tensors["test"],
            objective, live, taps, "waves",
        )  # fmt: skip

    return make


def network(width, seed):
    return WideResNet(10, width, N_CHANNELS, N_CLASSES, 1, torch.Generator().manual_seed(seed))
