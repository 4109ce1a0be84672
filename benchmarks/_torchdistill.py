"""An epoch of SPKD by torchdistill, as its users train: a DistillationBox over a DataLoader, the teacher in every step.

Its KDLoss and SPKDLoss with the weights of params.yaml and its forward hooks on the three groups: the terms of the
usual loop in `distillation.py`, but its SPKDLoss scales the rows of a map to an L1 length of 1, not to the L2 length of
the paper; the work is the same. Nothing else in the project needs torchdistill: `MISSING` says how to have it.
"""

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch.utils.data import RandomSampler, TensorDataset

MISSING = "torchdistill is not installed, which a row stands beside: pip install --no-deps -r requirements-bench.in"


def available() -> bool:
    return find_spec("torchdistill") is not None


def _config(taps: list[str], batch: int) -> dict:
    """What torchdistill's users write as YAML."""
    logits = {"student_module_path": ".", "student_module_io": "output"}
    logits |= {"teacher_module_path": ".", "teacher_module_io": "output"}
    kd = {"key": "KDLoss", "kwargs": {**logits, "temperature": 4.0, "alpha": 0.3, "beta": 0.7}}
    sp = {
        tap: {"key": "SPKDLoss", "kwargs": {
            "student_output_path": tap, "teacher_output_path": tap, "reduction": "batchmean",
        }} for tap in taps
    }  # fmt: skip
    terms = {"kd": {"criterion": kd, "weight": 1.0}}
    terms |= {tap: {"criterion": one, "weight": 200.0} for tap, one in sp.items()}
    hooked = {"forward_proc": "forward_batch_only", "forward_hook": {"output": taps}}
    return {
        "num_epochs": 1,
        "train_data_loader": {
            "dataset_id": "train", "sampler": {"class_or_func": RandomSampler},
            "kwargs": {"batch_size": batch, "drop_last": True, "num_workers": 0},
        },
        "teacher": {**hooked, "requires_grad": False},
        "student": {**hooked, "requires_grad": True},
        "optimizer": {"key": "SGD", "kwargs": {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4}},
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": terms}},
    }  # fmt: skip


def epoch(
    x: torch.Tensor, y: torch.Tensor, student: torch.nn.Module, teacher: torch.nn.Module, taps: list[str], batch: int
) -> Callable[[], None]:
    """A function that trains the student on (x, y) for one more epoch."""
    from torchdistill.core.distillation import get_distillation_box

    data = {"train": TensorDataset(x, y)}
    box = get_distillation_box(teacher, student, data, _config(taps, batch), torch.device("cpu"), None, False, 1.0)

    def run() -> None:
        box.pre_epoch_process(epoch=0)
        for inputs, labels, extra in box.train_data_loader:
            box.pre_forward_process()
            box.post_forward_process(loss=box.forward_process(inputs, labels, extra))
        box.post_epoch_process()

    return run
