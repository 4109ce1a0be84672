from dataclasses import replace

import torch
from torch import nn

from spkd.models.wide_resnet import WideResNet
from spkd.training.cost import STEP_BYTES, macs, parameters, state_bytes, step_bytes


def test_macs_by_hand_of_a_small_network():
    # conv1d: 4 positions x 5 outputs x (2 x 3) weights; linear: 5 x 7.
    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv1d(2, 5, 3, stride=2, padding=1), nn.Linear(5, 7)

        def forward(self, x):
            return self.head(self.conv(x).mean(2))

    assert macs(Small(), (2, 8)) == 4 * 5 * 6 + 5 * 7


def test_macs_by_hand_of_a_grouped_image_convolution():
    assert macs(nn.Sequential(nn.Conv2d(4, 6, (3, 1), groups=2)), (4, 5, 5)) == (3 * 5) * 6 * (2 * 3)


def test_macs_by_hand_of_wrn16_1_on_signals():
    stem, g1 = 100 * 16 * 3 * 3, 100 * 4 * 16 * 16 * 3
    g2 = 50 * (16 * 32 * 3 + 3 * 32 * 32 * 3 + 16 * 32)
    g3 = 25 * (32 * 64 * 3 + 3 * 64 * 64 * 3 + 32 * 64)
    assert macs(WideResNet(16, 1, 3, 14, 1), (3, 100)) == stem + g1 + g2 + g3 + 64 * 14


def test_counting_leaves_mode_statistics_and_hooks_as_they_were():
    model = WideResNet(16, 1, 3, 4, 1).train()
    model.group1.eval()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    macs(model, (3, 32))
    assert model.group2.training
    assert not model.group1.training
    assert not model.group1[0].training
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


def test_parameters_and_bytes_of_a_small_network():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    assert parameters(model) == 8 + 4
    # Running mean and variance (4 floats) and the 64-bit batch counter are stored as well.
    assert state_bytes(model) == 4 * (12 + 4) + 8


def test_a_steps_bytes_are_every_layers_output_for_the_batch_and_some_of_an_evaluation(make_task, settings):
    task = make_task()
    layers = nn.Sequential(nn.Conv1d(2, 4, 1), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(4 * 32, 3))
    before = {name: t.clone() for name, t in layers.state_dict().items()}
    changed = settings.model_copy(update={"batch": 16, "eval_batch": 100})
    outputs = 4 * 32 + 4 * 32 + 4 * 32 + 3
    assert step_bytes(replace(task, network=layers), changed) == STEP_BYTES + 4 * outputs * (20 + 20)
    assert layers.training and all(torch.equal(before[name], t) for name, t in layers.state_dict().items())
