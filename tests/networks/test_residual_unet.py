import pytest
import torch
from monai.networks.blocks import ResidualUnit
from monai.networks.utils import convert_to_torchscript
from torch import nn

from sizeloss_monai.networks import FusionNet

SMALL = (4, 8, 16)
SIZE = (8, 12, 16)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(("in_channels", "out_channels"), [(1, 2), (3, 1), (2, 4)])
def test_shape_and_dtype(spatial_dims, batch, in_channels, out_channels):
    net = FusionNet(spatial_dims, in_channels, out_channels, channels=SMALL)
    size = SIZE[:spatial_dims]
    logits = net(torch.rand(batch, in_channels, *size))
    assert logits.shape == (batch, out_channels, *size)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("channels", [(4, 8), (4, 8, 8), (2, 4, 6, 8), (2, 2, 2, 2, 2)])
@pytest.mark.parametrize("multiples", [(1, 1), (2, 3), (1, 5)])
def test_any_divisible_size(channels, multiples):
    size = [m * 2 ** (len(channels) - 1) for m in multiples]
    assert FusionNet(channels=channels).eval()(torch.rand(1, 1, *size)).shape == (1, 2, *size)


@pytest.mark.parametrize(
    ("channels", "low", "high"),
    [((64, 128, 256, 512, 1024), 78.4e6, 78.6e6), ((32, 64, 128, 256, 512), 19.6e6, 19.7e6)],
)
def test_parameter_count(channels, low, high):
    with torch.device("meta"):
        net = FusionNet(channels=channels)
    assert low < sum(p.numel() for p in net.parameters()) < high


def test_layers_are_the_papers():
    with torch.device("meta"):
        net = FusionNet()
    assert len(net.encoder) == len(net.ups) == len(net.decoder) == 4
    for level in [*net.encoder, net.bridge, *net.decoder]:
        assert [isinstance(block, ResidualUnit) for block in level] == [False, True, False]
        assert len([m for m in level.modules() if isinstance(m, nn.Conv2d)]) == 5
    assert [level[0].out_channels for level in net.encoder] == [64, 128, 256, 512]
    assert net.bridge[0].out_channels == 1024
    assert [up.out_channels for up in net.ups] == [512, 256, 128, 64]


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("skip", ["sum", "mean"])
def test_gradients_reach_every_parameter(spatial_dims, skip):
    # Leaky, so that no unit of these narrow layers is dead by chance.
    net = FusionNet(spatial_dims, channels=SMALL, skip=skip, act=("leakyrelu", {"negative_slope": 0.1}))
    net(torch.rand(2, 1, *SIZE[:spatial_dims])).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("skip", ["sum", "mean"])
def test_long_skip_merges_by_addition(skip):
    net = FusionNet(channels=(4, 8), skip=skip).eval()
    seen = {}
    net.encoder[0].register_forward_hook(lambda _m, _i, output: seen.update(skip=output))
    net.ups[0].register_forward_hook(lambda _m, _i, output: seen.update(up=output))
    net.decoder[0].register_forward_pre_hook(lambda _m, inputs: seen.update(merged=inputs[0]))
    net(torch.rand(1, 1, 8, 8))
    total = seen["skip"] + seen["up"]
    torch.testing.assert_close(seen["merged"], total / 2 if skip == "mean" else total)


def test_eval_is_deterministic_and_training_drops_out():
    net, x = FusionNet(channels=SMALL, dropout=0.5), torch.rand(2, 1, 8, 8)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("skip", ["sum", "mean"])
def test_torchscript_equals_eager(spatial_dims, skip):
    net = FusionNet(spatial_dims, channels=SMALL, skip=skip).eval()
    inputs = [torch.rand(1, 1, *SIZE[:spatial_dims]), torch.rand(2, 1, *[8] * spatial_dims)]
    script = convert_to_torchscript(net, inputs=[inputs[0]], verify=True)
    for x in inputs:
        torch.testing.assert_close(script(x), net(x))
    with pytest.raises(torch.jit.Error, match="divisible by 4, got"):
        script(torch.rand(1, 1, *[6] * spatial_dims))


def test_channels_last_gives_the_same():
    net, x = FusionNet(channels=SMALL).eval(), torch.rand(2, 1, 8, 12)
    expected = net(x)
    actual = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_autocast():
    net = FusionNet(channels=SMALL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = net(torch.rand(2, 1, 8, 8))
    assert logits.dtype == torch.bfloat16
    logits.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("norm", ["batch", None])
def test_bias_only_where_no_norm_follows(norm):
    net = FusionNet(channels=SMALL, norm=norm)
    biases = {name for name, _ in net.named_parameters() if name.endswith("conv.bias")}
    assert "head.conv.bias" in biases
    assert (len(biases) == 1) == (norm is not None)


@pytest.mark.parametrize(("spatial_dims", "size"), [(2, (8, 10)), (2, (7, 8)), (3, (8, 8, 6))])
def test_indivisible_size_is_named(spatial_dims, size):
    named = ", ".join(map(str, size))
    with pytest.raises(ValueError, match=rf"divisible by 4, got \[{named}\]"):
        FusionNet(spatial_dims, channels=SMALL)(torch.rand(1, 1, *size))


def test_missing_dimension():
    with pytest.raises(ValueError, match=r"must have 5 dimensions .*, got 4"):
        FusionNet(3, channels=SMALL)(torch.rand(1, 8, 8, 8))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"spatial_dims": 1}, "must be 2 or 3, got 1"),
        ({"in_channels": 0}, "at least 1, got 0"),
        ({"out_channels": 0}, "at least 1, got 1, 0"),
        ({"channels": (4, 0)}, "at least 1"),
        ({"channels": (4,)}, "two levels"),
        ({"skip": "concat"}, "concat"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        FusionNet(**kwargs)
