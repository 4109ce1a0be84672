"""A wide residual student that ends in its teacher's classifier: encoder, projector to the teacher's width, head.

Contract: taps are those of WideResNet and `projector`; the head is frozen. Made by SimKD from a student of `networks`
and its teacher, kept whole with the weights, and of no use without such weights: the head comes from the teacher.
Source: Chen et al., CVPR 2022: a bottleneck of 1x1, 3x3 and 1x1 convolutions with batch norm and ReLU, half the width.
"""

import torch
from torch import Tensor, nn

from spkd.config import Section
from spkd.models.wide_resnet import STEM_CHANNELS, WideResNet, initialise

REMAKES = "wide_resnet"  # the file of models/ whose students it can be made of
# Last width of the encoder per `width`: 64 = 4 x the stem.
LAST_CHANNELS = 4 * STEM_CHANNELS


class Settings(Section):
    """Those of the student's wide residual network, and how many channels the teacher's classifier reads."""

    depth: int
    width: int
    teacher_channels: int


class ReusedClassifier(WideResNet):
    """WRN-depth-width whose last feature goes through a projector into a frozen head of teacher_channels inputs.

    The encoder's first weights are those of the plain student of the same generator.
    """

    def __init__(
        self, settings: Settings, in_channels: int, n_classes: int, dims: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(settings.depth, settings.width, in_channels, n_classes, dims, generator)
        with torch.random.fork_rng(devices=[]):
            self.projector = projector(self, LAST_CHANNELS * settings.width, settings.teacher_channels)
            self.head = nn.Linear(settings.teacher_channels, n_classes)
        initialise(self.projector, generator)
        self.head.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (b, in_channels, T) or (b, in_channels, H, W) -> logits (b, n_classes)."""
        logits: Tensor = self.head(self.projector(self.encode(x)).mean(dim=(2, 3)))
        return logits


def projector(encoder: WideResNet, in_channels: int, out_channels: int) -> nn.Sequential:
    """The bottleneck, (b, in_channels, *space) -> (b, out_channels, *space), not negative, as the teacher's feature.

    encoder: its convolutions and norms are of the kind that the encoder has.
    """
    conv, norm, middle = type(encoder.stem), type(encoder.norm), max(out_channels // 2, 1)
    return nn.Sequential(
        conv(in_channels, middle, 1, bias=False), norm(middle), nn.ReLU(),
        conv(middle, middle, 3, padding=1, bias=False), norm(middle), nn.ReLU(),
        conv(middle, out_channels, 1, bias=False), norm(out_channels), nn.ReLU(),
    )  # fmt: skip


def build(
    settings: Settings, in_channels: int, n_classes: int, dims: int, generator: torch.Generator | None = None
) -> ReusedClassifier:
    """The network, fresh weights from `generator`; the head waits for the teacher's. Raises SpkdError as WideResNet."""
    return ReusedClassifier(settings, in_channels, n_classes, dims, generator)


def reuse(network: ReusedClassifier, teacher: nn.Module) -> None:
    """Copy the teacher's classifier, its submodule `head`, into the network."""
    network.head.load_state_dict(teacher.get_submodule("head").state_dict())
