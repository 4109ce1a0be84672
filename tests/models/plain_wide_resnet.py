"""WRN as anybody writes it in torch: 1D layers for signals, 2D layers for images, torch's own layout."""

from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, conv, norm):
        super().__init__()
        self.norm1, self.norm2 = norm(inputs), norm(outputs)
        self.conv1 = conv(inputs, outputs, 3, stride, padding=1, bias=False)
        self.conv2 = conv(outputs, outputs, 3, padding=1, bias=False)
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else conv(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        activated = functional.relu(self.norm1(x))
        passed = x if self.shortcut is None else self.shortcut(activated)
        return passed + self.conv2(functional.relu(self.norm2(self.conv1(activated))))


class PlainWideResNet(nn.Module):
    def __init__(self, depth, width, channels, classes, dims):
        super().__init__()
        conv, norm = (nn.Conv1d, nn.BatchNorm1d) if dims == 1 else (nn.Conv2d, nn.BatchNorm2d)
        blocks, widths = (depth - 4) // 6, [16, 16 * width, 32 * width, 64 * width]
        self.stem = conv(channels, 16, 3, padding=1, bias=False)
        groups = [
            nn.Sequential(
                Block(widths[g], widths[g + 1], stride, conv, norm),
                *(Block(widths[g + 1], widths[g + 1], 1, conv, norm) for _ in range(blocks - 1)),
            )
            for g, stride in enumerate((1, 2, 2))
        ]
        self.group1, self.group2, self.group3 = groups
        self.norm, self.head = norm(widths[3]), nn.Linear(widths[3], classes)

    def forward(self, x):
        last = functional.relu(self.norm(self.group3(self.group2(self.group1(self.stem(x))))))
        return self.head(last.flatten(2).mean(2))
