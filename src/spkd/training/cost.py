"""What a network costs to keep and to run, without timing it: parameters, bytes, multiply-accumulates."""

import torch
from torch import Tensor, nn

COUNTED = (nn.Conv1d, nn.Conv2d, nn.Linear)


def parameters(model: nn.Module) -> int:
    """Number of trainable and frozen parameters; a shared one counts once."""
    return sum(p.numel() for p in model.parameters())


def state_bytes(model: nn.Module) -> int:
    """Bytes of the weights and buffers that have to be stored, without any file format around them."""
    return sum(t.numel() * t.element_size() for t in model.state_dict().values())


@torch.no_grad()
def macs(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of one window in convolutions and linear layers; norms, ReLUs and sums are not counted.

    input_shape: of one window, without the batch: (C, T) or (C, H, W). The model's mode and statistics stay the same.
    """
    total = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Linear):
            total += output.numel() * layer.in_features
        elif isinstance(layer, nn.Conv1d | nn.Conv2d):
            total += output.numel() * layer.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, COUNTED)]
    modes = {module: module.training for module in model.modules()}
    weight = next(model.parameters())
    try:
        # Eval mode: a batch of one has no statistics to learn from.
        model.eval()
        model(torch.zeros(1, *input_shape, device=weight.device, dtype=weight.dtype))
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    return total
