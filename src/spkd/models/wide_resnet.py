"""Wide residual networks on signals (1D) and images (2D), from one block.

Contract: `WideResNet(...)(x)` gives logits; the three groups are submodules `group1`, `group2`, `group3`, so that
they can be tapped by name. A signal passes as an image of height 1, with its channels last in memory on a CPU: torch
has no such layout for signals, whose convolutions take half as long again. Knows nothing of teachers, views or losses.
Source: Zagoruyko & Komodakis, BMVC 2016; widths and counts as in the wearables-distillation line (Jeon et al.).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from spkd.config import Section
from spkd.errors import SpkdError

STEM_CHANNELS = 16
DEEPEST = 1000  # of a depth without measure layers would be made until memory ends


class Settings(Section):
    """Arguments of an entry of `networks`; WideResNet checks them."""

    depth: int
    width: int


class SignalConvolution(nn.Conv1d):
    """A convolution of signals, weights (out, in, kernel), for signals that pass as images of height 1."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (b, in, 1, T) -> (b, out, 1, T / stride)."""
        if x.device.type == "cuda":
            return self.by_product(x)
        return functional.conv2d(x, self.weight.unsqueeze(2), self.bias, (1, *self.stride), (0, *self.padding))

    def by_product(self, x: Tensor) -> Tensor:
        """The same as one matrix product, which is what a GPU runs."""
        return as_product(x, self.weight, self.stride[0], int(self.padding[0]))


def as_product(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """The convolution as one matrix product, (b, in, 1, T) -> (b, out, 1, T'); weight: (out, in, kernel).

    For GPUs: their library's convolutions of few channels that are deterministic take three times as long.
    """
    columns: Tensor = _Columns.apply(x.movedim(1, -1).squeeze(1), weight.shape[2], stride, padding)
    return functional.linear(columns.flatten(2), weight.flatten(1)).movedim(-1, 1).unsqueeze(2)


class _Columns(torch.autograd.Function):
    """What a convolution sees at each place, (b, T, in) -> (b, T', in, kernel).

    The gradient is written out: each tap's share goes back in one shifted addition. That of torch's `unfold` looks for
    every number's windows anew and takes three times as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
        ctx.shape, ctx.stride, ctx.padding = x.shape, stride, padding
        padded = functional.pad(x, (0, 0, padding, padding)) if padding else x
        return padded.unfold(1, kernel, stride).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (columns,), length, stride, padding = grads, ctx.shape[1], ctx.stride, ctx.padding
        kernel = columns.shape[3]
        # These taps never meet at one place and so write; where the padding keeps the length they write every place.
        writing = range(padding, min(padding + stride, kernel))
        whole = len(writing) == stride and kernel == 2 * padding + 1
        summed = columns.new_empty(ctx.shape) if whole else columns.new_zeros(ctx.shape)
        for tap in (*range(padding, kernel), *range(padding)):
            skipped = max(0, -((tap - padding) // stride))  # windows that see padding by this tap
            place = skipped * stride + tap - padding
            n = max(0, min(columns.shape[1] - skipped, -((place - length) // stride)))
            part, share = summed[:, place : place + n * stride : stride], columns[:, skipped : skipped + n, :, tap]
            part.copy_(share) if tap in writing else part.add_(share)
        return summed, None, None, None


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that does not count batches: nothing reads the count, and a GPU starts a kernel a layer for it."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (b, C, H, W) -> the same shape."""
        assert self.momentum is not None
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )


CONVOLUTIONS: dict[int, type[SignalConvolution] | type[nn.Conv2d]] = {1: SignalConvolution, 2: nn.Conv2d}


class Block(nn.Module):
    """Pre-activation block: BN-ReLU-conv3, twice, plus the shortcut.

    Where the shape changes, the shortcut is a 1x1 convolution of the first BN-ReLU output; elsewhere it is the input.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, dims: int) -> None:
        super().__init__()
        conv = CONVOLUTIONS[dims]
        self.norm1 = BatchNorm(in_channels)
        self.conv1 = conv(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm2 = BatchNorm(out_channels)
        self.conv2 = conv(out_channels, out_channels, 3, padding=1, bias=False)
        same_shape = in_channels == out_channels and stride == 1
        self.shortcut = None if same_shape else conv(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (b, in_channels, H, W) -> (b, out_channels, *space / stride); H stays 1 for signals."""
        activated = functional.relu(self.norm1(x), inplace=True)
        residual = self.conv2(functional.relu(self.norm2(self.conv1(activated)), inplace=True))
        passed = x if self.shortcut is None else self.shortcut(activated)
        # A CPU's convolution gives memory that no gradient needs and that lies in the cache; a GPU's gives a view.
        summed: Tensor = residual.add_(passed) if x.device.type == "cpu" else residual + passed
        return summed


class WideResNet(nn.Module):
    """WRN-depth-width: stem of 16 channels, three groups of (depth - 4) / 6 blocks, global average, linear.

    The groups are 16, 32 and 64 times `width` wide, with strides 1, 2, 2. dims: 1 for signals (b, C, T), whose
    groups give (b, C, 1, T), 2 for images (b, C, H, W).
    generator: source of the first weights; the global random state is then neither read nor moved. None draws from
    the global state, as any torch module does. Raises SpkdError on an impossible shape.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        in_channels: int,
        n_classes: int,
        dims: int,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check_shape(depth, width, in_channels, n_classes, dims)
        n_blocks, widths = (depth - 4) // 6, [STEM_CHANNELS, 16 * width, 32 * width, 64 * width]
        # The layers' own default weights are overwritten below: drawing them must not move the global state.
        with torch.random.fork_rng(devices=[]):
            self.stem = CONVOLUTIONS[dims](in_channels, STEM_CHANNELS, 3, padding=1, bias=False)
            self.group1 = _group(n_blocks, widths[0], widths[1], 1, dims)
            self.group2 = _group(n_blocks, widths[1], widths[2], 2, dims)
            self.group3 = _group(n_blocks, widths[2], widths[3], 2, dims)
            self.norm = BatchNorm(widths[3])
            self.head = nn.Linear(widths[3], n_classes)
        initialise(self, generator)

    def forward(self, x: Tensor) -> Tensor:
        """x: (b, in_channels, T) or (b, in_channels, H, W) -> logits (b, n_classes)."""
        # A mean, not AdaptiveAvgPool: the latter's CUDA gradient is not deterministic.
        logits: Tensor = self.head(self.encode(x).mean(dim=(2, 3)))
        return logits

    def encode(self, x: Tensor) -> Tensor:
        """(b, 64 width, H / 4, W / 4), H = 1 for signals: the last feature, which the head averages over space."""
        image = x.unsqueeze(2) if x.dim() == 3 else x
        if image.device.type == "cpu" or x.dim() == 3:
            # torch.channels_last, which leaves it open what the strides of axes of length 1 are.
            image = image.movedim(1, -1).contiguous().movedim(-1, 1)
        features = self.group3(self.group2(self.group1(self.stem(image))))
        return functional.relu(self.norm(features))  # not in place: losses of embeddings look at the norm


def initialise(model: nn.Module, generator: torch.Generator | None) -> None:
    """Draw every weight of the model anew, in the order of its modules, on the CPU stream of `generator`.

    Convolutions: He normal over the outgoing connections. Linear: uniform within 1 / sqrt(inputs), bias zero.
    Batch norms: weight one, bias zero.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()


def build(
    settings: Settings, in_channels: int, n_classes: int, dims: int, generator: torch.Generator | None = None
) -> WideResNet:
    """The network of an entry of `networks`, fresh weights from `generator`. Raises SpkdError as WideResNet does."""
    return WideResNet(settings.depth, settings.width, in_channels, n_classes, dims, generator)


def _group(n_blocks: int, in_channels: int, out_channels: int, stride: int, dims: int) -> nn.Sequential:
    """Blocks of one width; the first one changes the shape."""
    first = Block(in_channels, out_channels, stride, dims)
    return nn.Sequential(first, *(Block(out_channels, out_channels, 1, dims) for _ in range(n_blocks - 1)))


def _check_shape(depth: int, width: int, in_channels: int, n_classes: int, dims: int) -> None:
    """Raises SpkdError where no such network exists."""
    if not 10 <= depth <= DEEPEST or (depth - 4) % 6:
        nearest = min(max(10, 4 + 6 * round((depth - 4) / 6)), DEEPEST)
        expected = f"a depth of 6n + 4 (10, 16, 22, 28, ..., {DEEPEST})"
        raise SpkdError(f"wrn{depth}-{width}", expected, depth, f"try {nearest}")
    if min(width, in_channels, n_classes) < 1:
        got = f"width {width}, {in_channels} channels, {n_classes} classes"
        raise SpkdError(
            f"wrn{depth}-{width}", "width, channels and classes of at least 1", got, "correct the data or name"
        )
    if dims not in CONVOLUTIONS:
        raise SpkdError(f"wrn{depth}-{width}", "dims 1 (signals) or 2 (images)", dims, "use DIMS of the view")
