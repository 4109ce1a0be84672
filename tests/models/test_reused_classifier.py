import pytest
import torch

from spkd.models.reused_classifier import Settings, build, reuse
from spkd.models.wide_resnet import WideResNet


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def made():
    network = build(Settings(depth=10, width=1, teacher_channels=128), 3, 5, 1, stream(0))
    teacher = WideResNet(10, 2, 4, 5, 2, stream(1))
    reuse(network, teacher)
    return network, teacher


def test_the_encoder_starts_as_that_of_the_plain_student(made):
    plain = WideResNet(10, 1, 3, 5, 1, stream(0)).state_dict()
    own = made[0].state_dict()
    assert all(torch.equal(own[n], t) for n, t in plain.items() if not n.startswith("head."))


def test_the_projector_too_is_drawn_from_the_generator_alone(made):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        state = torch.random.get_rng_state()
        again = build(Settings(depth=10, width=1, teacher_channels=128), 3, 5, 1, stream(0))
        assert torch.equal(torch.random.get_rng_state(), state)
    expected = made[0].projector.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in again.projector.state_dict().items())


def test_a_projected_feature_that_is_the_teachers_gives_the_teachers_logits(made):
    network, teacher = made
    network.eval(), teacher.eval()
    image = torch.randn(2, 4, 8, 8, generator=stream(2))
    feature = teacher.encode(image)
    network.projector = torch.nn.Identity()
    network.encode = lambda x: feature
    torch.testing.assert_close(network(torch.zeros(2, 3, 16)), teacher(image))


def test_the_head_is_the_teachers_and_does_not_learn(made):
    network, teacher = made
    assert torch.equal(network.head.weight, teacher.head.weight)
    network(torch.randn(4, 3, 16, generator=stream(3))).square().sum().backward()
    assert network.head.weight.grad is None
    assert all(p.grad is not None for n, p in network.named_parameters() if not n.startswith("head."))


def test_its_parameters_are_the_encoder_the_bottleneck_and_the_teachers_head(made):
    encoder = sum(p.numel() for n, p in WideResNet(10, 1, 3, 5, 1).named_parameters() if not n.startswith("head."))
    bottleneck = 64 * 64 + 2 * 64 + 64 * 64 * 3 + 2 * 64 + 64 * 128 + 2 * 128
    assert sum(p.numel() for p in made[0].parameters()) == encoder + bottleneck + 128 * 5 + 5


def test_the_projector_is_a_bottleneck_of_half_the_teachers_width_with_a_relu_behind_every_norm():
    projector = build(Settings(depth=10, width=2, teacher_channels=6), 3, 5, 1, stream(0)).projector
    assert [type(layer).__name__ for layer in projector] == ["SignalConvolution", "BatchNorm", "ReLU"] * 3
    assert [tuple(layer.weight.shape) for layer in projector[::3]] == [(3, 128, 1), (3, 3, 3), (6, 3, 1)]


def test_the_projector_can_be_tapped_and_is_never_negative(made):
    seen = []
    made[0].projector.register_forward_hook(lambda module, inputs, output: seen.append(output))
    made[0](torch.randn(4, 3, 16, generator=stream(3)))
    assert seen[0].flatten(2).shape == (4, 128, 4)
    assert seen[0].min() >= 0
