import pytest
import torch
from tests.models.plain_wide_resnet import PlainWideResNet
from torch import nn

from spkd.errors import SpkdError
from spkd.models.wide_resnet import WideResNet
from spkd.training.taps import taps


@pytest.fixture
def model() -> WideResNet:
    return WideResNet(16, 1, 2, 3, 1, torch.Generator().manual_seed(0))


def n_hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) for m in model.modules())


def test_features_are_the_outputs_of_the_named_layers(model):
    x = torch.randn(4, 2, 32, generator=torch.Generator().manual_seed(1))
    model.eval()
    with taps(model, ["group1", "group3"]) as features:
        model(x)
    first = model.group1(model.stem(x.unsqueeze(2)))
    assert set(features) == {"group1", "group3"}
    torch.testing.assert_close(features["group1"], first)
    torch.testing.assert_close(features["group3"], model.group3(model.group2(first)))


def test_a_later_forward_replaces_the_features(model):
    with taps(model, ["group1"]) as features:
        model(torch.zeros(4, 2, 32))
        model(torch.zeros(6, 2, 32))
    assert len(features["group1"]) == 6


def test_features_carry_the_gradient(model):
    with taps(model, ["group2"]) as features:
        model(torch.randn(4, 2, 32))
    features["group2"].sum().backward()
    assert model.stem.weight.grad.abs().sum() > 0
    assert model.head.weight.grad is None


def test_features_are_not_changed_by_the_layers_behind_them(model):
    copies = {}
    model.group1.register_forward_hook(lambda module, inputs, output: copies.update(group1=output.clone()))
    with taps(model, ["group1"]) as features:
        model(torch.randn(4, 2, 32))
    assert torch.equal(features["group1"], copies["group1"])


def test_a_nested_layer_is_named_with_dots(model):
    with taps(model, ["group2.1.conv1"]) as features:
        model(torch.zeros(1, 2, 32))
    assert features["group2.1.conv1"].shape == (1, 32, 1, 16)


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_no_hook_survives_the_block_even_after_a_failure(model, failure):
    with pytest.raises(failure), taps(model, ["group1", "group2"]):
        assert n_hooks(model) == 2
        raise failure
    assert n_hooks(model) == 0


def test_an_unknown_layer_is_refused_with_the_nearest_and_leaves_no_hook(model):
    with pytest.raises(SpkdError, match="did you mean 'group3'"), taps(model, ["group1", "grup3"]):
        pass
    assert n_hooks(model) == 0


def test_the_empty_name_is_refused(model):
    with pytest.raises(SpkdError, match="group1"), taps(model, [""]):
        pass


def test_a_layer_that_gives_several_tensors_is_refused():
    model = nn.Sequential(nn.LSTM(2, 3))
    with pytest.raises(SpkdError, match="one tensor"), taps(model, ["0"]):
        model(torch.zeros(1, 4, 2))


def test_a_compiled_model_is_tapped_by_the_same_names(model):
    compiled = torch.compile(model.eval(), backend="eager")
    x = torch.randn(4, 2, 32, generator=torch.Generator().manual_seed(1))
    with taps(compiled, ["group1"]) as features:
        compiled(x)
        compiled(x)
    torch.testing.assert_close(features["group1"], model.group1(model.stem(x.unsqueeze(2))))


@pytest.mark.parametrize("dims", [1, 2])
def test_a_layer_gives_what_it_gives_in_plain_layers_or_is_refused(dims):
    model = WideResNet(16, 1, 2, 3, dims, torch.Generator().manual_seed(0)).eval()
    plain = PlainWideResNet(16, 1, 2, 3, dims).eval()
    plain.load_state_dict(model.state_dict())
    x = torch.randn(4, 2, *[16] * dims, generator=torch.Generator().manual_seed(1))
    names = [name for name, module in model.named_modules() if name]
    with torch.no_grad(), taps(plain, names) as expected:
        plain(x)
    refused = set()
    for name in names:
        try:
            with torch.no_grad(), taps(model, [name]) as features:
                model(x)
        except SpkdError as error:
            assert "writes over in place" in str(error)
            refused.add(name.rpartition(".")[2])
            continue
        torch.testing.assert_close(features[name].reshape(expected[name].shape), expected[name], atol=1e-5, rtol=1e-5)
    assert refused == {"norm1", "norm2", "conv2"}
