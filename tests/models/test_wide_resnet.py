from functools import partial

import pytest
import torch
from tests.models.plain_wide_resnet import PlainWideResNet

from spkd.errors import SpkdError
from spkd.models.wide_resnet import Block, Settings, SignalConvolution, WideResNet, as_product, build, initialise

NETWORKS = ((16, 1), (16, 3), (28, 1), (28, 3), (40, 1))
PUBLISHED = {
    (1, 3, 14): (61_374, 536_254, 126_782, 1_119_550, 192_190),
    (1, 40, 12): (63_020, 537_644, 128_428, 1_120_940, 193_836),
    (2, 3, 14): (175_326, 1_550_302, 369_758, 3_294_814, 564_190),
    (2, 40, 12): (180_524, 1_555_244, 374_956, 3_299_756, 569_388),
}
TABLE = [
    (*shape, network, count)
    for shape, counts in PUBLISHED.items()
    for network, count in zip(NETWORKS, counts, strict=True)
]


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("dims", "channels", "classes", "network", "count"), TABLE)
def test_parameter_count_is_the_published_one(dims, channels, classes, network, count):
    model = build(Settings(depth=network[0], width=network[1]), channels, classes, dims)
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize(("dims", "space"), [(1, (100,)), (2, (64, 64))])
def test_groups_halve_the_space_twice_and_widen(dims, space):
    model = WideResNet(16, 3, 4, 5, dims).eval()
    x = torch.randn(2, 4, *space, generator=stream(0))
    shapes = []
    for group in (model.group1, model.group2, model.group3):
        group.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    assert model(x).shape == (2, 5)
    image = (1, *space) if dims == 1 else space
    halves = [tuple(max(n // step, 1) for n in image) for step in (1, 2, 4)]
    assert shapes == [(2, 48, *halves[0]), (2, 96, *halves[1]), (2, 192, *halves[2])]


def test_shortcut_reads_the_activated_input_only_where_the_shape_changes():
    model = WideResNet(16, 1, 2, 2, 1).eval()
    assert model.group1[0].shortcut is None
    assert Block(16, 16, 2, 1).shortcut is not None  # the space is halved
    block = model.group2[0]
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.randn(1, 16, 1, 8, generator=stream(1))
    expected = block.shortcut(torch.relu(block.norm1(x)))
    torch.testing.assert_close(block(x), expected)


def test_forward_is_the_published_sequence_of_layers():
    model = WideResNet(16, 1, 2, 3, 1, stream(0)).eval()
    x = torch.randn(4, 2, 32, generator=stream(1))
    h = torch.nn.functional.conv1d(x, model.stem.weight, padding=1)
    h = model.group3(model.group2(model.group1(h.unsqueeze(2))))
    pooled = torch.nn.functional.adaptive_avg_pool2d(torch.relu(model.norm(h)), 1)[:, :, 0, 0]
    torch.testing.assert_close(model(x), model.head(pooled))


@pytest.mark.parametrize("dims", [1, 2])
def test_in_evaluation_a_window_is_seen_by_itself_with_the_statistics_of_training(dims):
    ours, plain = WideResNet(16, 1, 3, 5, dims, stream(0)), PlainWideResNet(16, 1, 3, 5, dims)
    ours(3 * torch.randn(8, 3, *[12] * dims, generator=stream(1)) + 1)
    plain.load_state_dict(ours.state_dict())
    x, before = torch.randn(4, 3, *[12] * dims, generator=stream(2)), ours.norm.running_mean.clone()
    torch.testing.assert_close(ours.eval()(x), plain.eval()(x), rtol=1e-4, atol=1e-5)
    assert torch.equal(ours.norm.running_mean, before)


# Gradients of float32 are compared with the largest of their parameter: small ones are differences of large ones.
@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-11), (torch.float32, 1e-4)])
@pytest.mark.parametrize(
    ("dims", "space", "forward"),
    [
        (1, (30,), SignalConvolution.forward),
        (1, (30,), SignalConvolution.by_product),
        (2, (12, 8), SignalConvolution.forward),
    ],
    ids=["signal", "signal by product", "image"],
)
def test_logits_gradients_and_statistics_are_those_of_the_plain_layers(
    dims, space, forward, dtype, within, monkeypatch
):
    monkeypatch.setattr(SignalConvolution, "forward", forward)
    ours = WideResNet(16, 2, 3, 5, dims, stream(0)).to(dtype)
    plain = PlainWideResNet(16, 2, 3, 5, dims).double()
    plain.load_state_dict(ours.state_dict())
    x, labels = torch.randn(6, 3, *space, generator=stream(1)), torch.tensor([0, 1, 2, 3, 4, 0])
    logits = {}
    for name, model, kind in (("ours", ours, dtype), ("plain", plain, torch.float64)):
        logits[name] = model(x.to(kind))
        torch.nn.functional.cross_entropy(logits[name], labels).backward()
    torch.testing.assert_close(logits["ours"].double(), logits["plain"], rtol=within, atol=within)
    for name, parameter in plain.named_parameters():
        found, largest = ours.get_parameter(name).grad, parameter.grad.abs().max().item()
        torch.testing.assert_close(found.double(), parameter.grad, rtol=0, atol=within * largest)
    for name, buffer in plain.named_buffers():
        counts = name.endswith("num_batches_tracked")  # which nothing reads and ours does not keep
        found = ours.get_buffer(name).to(buffer.dtype)
        torch.testing.assert_close(found, 0 * buffer if counts else buffer, rtol=within, atol=within)


@pytest.fixture
def fresh_memory_is_nan(monkeypatch):
    before = torch.are_deterministic_algorithms_enabled()
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)  # runs turn it off
    torch.use_deterministic_algorithms(True)
    assert torch.empty(1).isnan()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "length"),
    [
        (3, 1, 1, 10),
        (3, 2, 1, 11),
        (3, 2, 1, 10),
        (1, 2, 0, 7),
        (1, 1, 0, 4),
        (5, 3, 1, 14),
        (5, 2, 2, 9),
        (3, 3, 1, 8),
        (7, 1, 3, 2),
        (3, 1, 0, 10),
        (2, 2, 0, 7),
    ],
)
@pytest.mark.usefixtures("fresh_memory_is_nan")
def test_a_convolution_as_a_matrix_product_is_the_convolution(kernel, stride, padding, length):
    x = torch.randn(2, 5, 1, length, generator=stream(0), dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 5, kernel, generator=stream(1), dtype=torch.float64, requires_grad=True)
    ours = as_product(x, weight, stride, padding)
    plain = torch.nn.functional.conv1d(x.squeeze(2), weight, None, stride, padding).unsqueeze(2)
    torch.testing.assert_close(ours, plain)
    pull = torch.randn(plain.shape, generator=stream(2), dtype=torch.float64)
    torch.testing.assert_close(*(torch.autograd.grad(y, (x, weight), pull) for y in (ours, plain)))


def with_gradients(function, x, weight):
    """function(x, weight) and the gradients of both, for a gradient of the result drawn anew; all float64."""
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    made = function(x, weight)
    gradients = torch.autograd.grad(made, (x, weight), torch.randn(made.shape, generator=stream(2)).to(made.dtype))
    return [tensor.double() for tensor in (made.detach(), *gradients)]


@pytest.mark.parametrize("b", [1, 6])
def test_a_matrix_product_is_the_convolution_of_what_every_layer_of_a_network_gets(b):
    model, passed = WideResNet(16, 2, 3, 4, 1, stream(0)), []
    for layer in model.modules():
        if isinstance(layer, SignalConvolution):
            layer.register_forward_pre_hook(lambda own, inputs: passed.append((own, inputs[0].clone())))
    model(torch.randn(b, 3, 30, generator=stream(1)))
    assert len(passed) == 16
    for layer, x in passed:
        assert x.dtype == torch.float32 and x.movedim(1, -1).is_contiguous()  # channels last in memory
        steps = {"stride": layer.stride[0], "padding": layer.padding[0]}
        plain = partial(torch.nn.functional.conv1d, **steps)
        found = with_gradients(partial(as_product, **steps), x, layer.weight)
        sought = with_gradients(plain, x.squeeze(2).double(), layer.weight.double())
        for one, other in zip(found, sought, strict=True):
            torch.testing.assert_close(one, other.view_as(one), rtol=0, atol=1e-5 * other.abs().max().item())


def test_same_generator_seed_gives_the_same_weights_whatever_the_global_state():
    torch.manual_seed(1)
    first = build(Settings(depth=16, width=1), 3, 4, 1, stream(7)).state_dict()
    torch.manual_seed(2)
    second = build(Settings(depth=16, width=1), 3, 4, 1, stream(7)).state_dict()
    other = build(Settings(depth=16, width=1), 3, 4, 1, stream(8)).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["stem.weight"], other["stem.weight"])


def test_a_given_generator_leaves_the_global_state_alone():
    before = torch.get_rng_state()
    build(Settings(depth=16, width=1), 3, 4, 1, stream(7))
    assert torch.equal(before, torch.get_rng_state())


def test_without_generator_the_global_state_decides():
    torch.manual_seed(3)
    first = build(Settings(depth=16, width=1), 3, 4, 1)
    second = build(Settings(depth=16, width=1), 3, 4, 1)
    torch.manual_seed(3)
    again = build(Settings(depth=16, width=1), 3, 4, 1)
    assert torch.equal(first.stem.weight, again.stem.weight)
    assert not torch.equal(first.stem.weight, second.stem.weight)


def test_first_weights_keep_the_size_of_the_gradient():
    model = build(Settings(depth=16, width=3), 3, 4, 2, stream(0))
    for conv in (model.group2[0].conv1, model.group2[1].conv1, model.group3[1].conv2):
        fan_out = conv.out_channels * 9
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.02)
    assert model.head.weight.abs().max() <= model.head.in_features**-0.5
    assert not model.head.bias.any()


def test_a_used_network_drawn_anew_is_the_fresh_one():
    model, fresh = (build(Settings(depth=10, width=1), 3, 4, 1, stream(seed)) for seed in (0, 7))
    model(torch.randn(6, 3, 16, generator=stream(1)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    initialise(model, stream(7))
    expected = fresh.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_forward_in_training_can_be_differentiated_twice_over_the_same_input():
    model = WideResNet(16, 1, 2, 2, 1, stream(0))
    x = torch.randn(8, 2, 24, generator=stream(1))
    before = x.clone()
    gradients = []
    for _ in range(2):
        model.zero_grad()
        model(x).logsumexp(1).sum().backward()
        gradients.append(model.stem.weight.grad.clone())
    assert torch.equal(x, before)
    assert torch.equal(*gradients)


@pytest.mark.parametrize(("depth", "nearest"), [(17, "try 16"), (4, "try 10"), (39, "try 40"), (1006, "try 1000")])
def test_a_depth_that_no_network_has_is_refused_with_the_nearest(depth, nearest):
    with pytest.raises(SpkdError, match=nearest):
        build(Settings(depth=depth, width=1), 3, 4, 1)


@pytest.mark.parametrize("bad", [{"width": 0}, {"in_channels": 0}, {"n_classes": 0}, {"dims": 3}])
def test_an_impossible_shape_is_refused(bad):
    shape = {"depth": 16, "width": 1, "in_channels": 3, "n_classes": 2, "dims": 1}
    with pytest.raises(SpkdError):
        WideResNet(**{**shape, **bad})
