"""What a network costs to keep, to run and to train, without timing it: parameters, multiply-accumulates, bytes."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from spkd.settings import Train
from spkd.training.step import Task

STEP_BYTES = 2**28  # of any run's steps: workspaces of the libraries, the pools of two graphs


def parameters(model: nn.Module) -> int:
    """Number of trainable and frozen parameters; a shared one counts once."""
    return sum(p.numel() for p in model.parameters())


def state_bytes(model: nn.Module) -> int:
    """Bytes of the weights and buffers that have to be stored, without any file format around them."""
    return sum(t.numel() * t.element_size() for t in model.state_dict().values())


def macs(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of one window in convolutions and linear layers; norms, ReLUs and sums are not counted.

    input_shape: of one window, without the batch: (C, T) or (C, H, W). The model's mode and statistics stay the same.
    """
    total = 0

    def count(layer: nn.Module, output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Linear):
            total += output.numel() * layer.in_features
        elif isinstance(layer, nn.Conv1d | nn.Conv2d):
            total += output.numel() * layer.weight[0].numel()

    weight = next(model.parameters())
    _pass(model, torch.zeros(1, *input_shape, device=weight.device, dtype=weight.dtype), count)
    return total


def step_bytes(task: Task, settings: Train) -> int:
    """About what the steps and evaluations of a run take of a GPU beside windows and teachers' answers.

    An estimate: every layer's output of a batch, and a quarter more, is kept for the gradient; of an evaluation only
    the largest few are there at a time. Source: sums over WRN16-1 and WRN28-3 on signals and 64x64 images.
    """
    total = 0

    def count(layer: nn.Module, output: Tensor) -> None:
        nonlocal total
        total += output.numel() * output.element_size()

    one = task.train[:1]
    with torch.no_grad():
        _pass(task.network, task.render(task.windows.batch(one), one), count)
    return STEP_BYTES + int(total * (1.25 * settings.batch + 0.2 * settings.eval_batch))


@torch.no_grad()
def _pass(model: nn.Module, x: Tensor, count: Callable[[nn.Module, Tensor], None]) -> None:
    """One pass of x in eval mode; `count` is told of every layer without parts. Mode and statistics stay the same."""
    layers = [module for module in model.modules() if not list(module.children())]
    hooks = [layer.register_forward_hook(lambda layer, _, output: count(layer, output)) for layer in layers]
    modes = {module: module.training for module in model.modules()}
    try:
        # Eval mode: a batch of one has no statistics to learn from.
        model.eval()
        model(x)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
