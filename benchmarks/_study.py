"""A study of the kind of PAMAP2's in small: random recordings, three WRN28-3 teachers, a WRN16-1 student."""

import contextlib
import sys
from pathlib import Path

import numpy as np
import torch

from spkd import config, plugin, seeding
from spkd.data import scaling, windowset
from spkd.data.batches import DeviceWindows
from spkd.models.wide_resnet import WideResNet
from spkd.settings import Train
from spkd.training import loop, step
from spkd.training.objective import Objective
from spkd.training.replay import Replay
from spkd.training.teachers import LiveTeacher

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "models"))
from plain_wide_resnet import PlainWideResNet  # noqa: E402 - the slow truth that the tests compare with

PARAMS = config.resolve(config.read(ROOT / "params.yaml"), {"preset": "none"})
TAPS = ["group1", "group2", "group3"]
CLASSES = 12


# All windows of PAMAP2, nine subjects, 100 samples at every 22nd: `windows_per_fold` of published.yaml. Of nine
# subjects seven train where one is tested and one chooses the epoch.
PAMAP2_WINDOWS = 28_949
PAMAP2_TRAINING = PAMAP2_WINDOWS * 7 // 9


def windows(n: int, channels: int = 40, length: int = 100, step: int = 22) -> windowset.WindowSet:
    """n overlapping windows of random walks, in four subjects: n rounded down to a multiple of four."""
    rng = np.random.default_rng(0)
    n_subjects, each = 4, n // 4
    samples = step * (each - 1) + length
    signal = rng.standard_normal((channels, samples * n_subjects)).cumsum(1).astype(np.float32)
    starts = np.concatenate([s * samples + step * np.arange(each) for s in range(n_subjects)])
    content = {
        "signal": signal, "starts": starts, "label": np.arange(len(starts)) % CLASSES,
        "subject": np.repeat(np.arange(n_subjects), each),
    }  # fmt: skip
    manifest = {
        "dataset": "walks", "channels": [f"c{i}" for i in range(channels)],
        "classes": [f"class {i}" for i in range(CLASSES)], "subjects": ["1", "2", "3", "4"], "rate_hz": 33.3,
        "length": length, "step": step, "rule": "sound", "drops": {}, "first_seen": {}, "notes": {}, "settings": {},
        "origin": "simulated", "licence": "", "citation": "",
    }  # fmt: skip
    return windowset.build(content, manifest)


def train(**changes: object) -> Train:
    """`train` of params.yaml, changed."""
    return config.check(Train, {**PARAMS["train"], **changes}, "train")


def device_windows(of: windowset.WindowSet, device: str = "cpu") -> DeviceWindows:
    return DeviceWindows(of, scaling.measure(of, np.arange(len(of)), "training"), device)


def view(name: str, seen: DeviceWindows):
    """The rendering of a view of params.yaml, prepared where it needs to be."""
    module = plugin.load("views", name)
    settings = config.part("views", name, PARAMS)
    made = module.prepare(seen.windows, settings) if hasattr(module, "prepare") else {}
    return module.view(settings, {k: torch.from_numpy(v).to(seen.device) for k, v in made.items()}), module.DIMS


def network(depth: int, width: int, dims: int, channels: int = 40, seed: int = 0) -> WideResNet:
    return WideResNet(depth, width, channels, CLASSES, dims, torch.Generator().manual_seed(seed))


def plain(of):
    """The same network and weights in plain layers of torch."""
    dims = 1 if isinstance(of.stem, torch.nn.Conv1d) else 2
    blocks, width = len(of.group1), of.head.in_features // 64
    same = PlainWideResNet(6 * blocks + 4, width, of.stem.in_channels, of.head.out_features, dims)
    same.load_state_dict(of.state_dict())
    return same.train(of.training)


def teacher(name: str, seen: DeviceWindows, taps: list[str] = TAPS, depth: int = 28, width: int = 3) -> LiveTeacher:
    """A frozen WRN28-3 on a view."""
    render, dims = view(name, seen)
    return LiveTeacher(name, network(depth, width, dims, len(seen.channels)).to(seen.device), render, seen, taps)


def task(seen: DeviceWindows, teachers: list, rows: torch.Tensor) -> step.Task:
    """WRN16-1 on the signal, of these teachers, with the losses of params.yaml (KD and SP)."""
    objective = Objective(0.7 if teachers else 0.0, [], {"sp": 200.0} if teachers else {}, PARAMS["losses"])
    render, _ = view("signal", seen)
    student = network(16, 1, 1, len(seen.channels)).to(seen.device)
    few = rows[: min(len(rows), 64)]
    return step.Task(student, render, seen, rows, few, few, objective, teachers, TAPS if teachers else [], "student")


def epoch(of: step.Task, settings: Train, recorded: bool = False):
    """A function that trains one more epoch, without evaluation and tracking; recorded: as a CUDA graph."""
    optimiser = loop.optimiser_of(of.network.parameters(), settings)
    sums: dict[str, torch.Tensor] = {}
    return every_batch(of, settings, lambda rows: step.train_step(of, optimiser, sums, rows), recorded)


def every_batch(of: step.Task, settings: Train, function, recorded: bool = False):
    """A function that calls `function(rows)` for every batch of an epoch; recorded: as a CUDA graph."""
    update = Replay(function, recorded, "student")
    stream = torch.cuda.Stream() if recorded else None

    def run() -> None:
        of.network.train()
        with contextlib.nullcontext() if stream is None else torch.cuda.stream(stream):
            batches = loop.batches_of(of, settings, 0, 0)
            for k, rows in enumerate(batches):
                of.windows.expect(*batches[k + 1 : k + 2])  # as the training loop does
                update(rows)

    return run


def fair() -> None:
    """One thread and the flags of a default run."""
    seeding.set_flags(deterministic=True, tf32=False, threads=1)
