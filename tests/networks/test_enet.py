import pytest
import torch
import torch.nn.functional as F
from monai.networks.utils import convert_to_torchscript
from torch import nn

from sizeloss_monai.networks import ENet
from sizeloss_monai.networks.enet import _unpool


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def n_parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("in_channels", [1, 3, 5])
@pytest.mark.parametrize("out_channels", [1, 4])
def test_shape_and_dtype(batch, in_channels, out_channels):
    logits = ENet(in_channels=in_channels, out_channels=out_channels)(torch.rand(batch, in_channels, 16, 24))
    assert logits.shape == (batch, out_channels, 16, 24)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("size", [(8, 8), (8, 40), (56, 16), (24, 64)])
def test_any_size_divisible_by_8(size):
    assert ENet().eval()(torch.rand(1, 1, *size)).shape == (1, 2, *size)


def test_more_image_channels_than_first_stage_maps():
    assert ENet(in_channels=60)(torch.rand(1, 60, 16, 16)).shape == (1, 2, 16, 16)


@pytest.mark.parametrize("in_channels", [1, 2, 3])
@pytest.mark.parametrize("out_channels", [2, 4])
def test_parameter_count_is_the_papers(in_channels, out_channels):
    # The paper's Table II gives 0.37 million for Cityscapes' 19 classes.
    assert 362_000 < n_parameters(ENet(in_channels=in_channels, out_channels=out_channels)) < 364_000
    assert 365_000 < n_parameters(ENet(in_channels=3, out_channels=19)) < 366_000


def test_output_sizes_are_those_of_the_papers_table():
    net = ENet(in_channels=3, out_channels=5).eval()
    shapes = {}

    def note(name):
        def hook(_module, _args, output):
            shapes[name] = tuple((output[0] if isinstance(output, tuple) else output).shape[1:])

        return hook

    for name, module in net.named_children():
        module.register_forward_hook(note(name))
    net(torch.rand(1, 3, 64, 64))
    assert shapes == {
        "initial": (16, 32, 32),
        "down1": (64, 16, 16),
        "stage1": (64, 16, 16),
        "down2": (128, 8, 8),
        "stage2": (128, 8, 8),
        "stage3": (128, 8, 8),
        "up4": (64, 16, 16),
        "stage4": (64, 16, 16),
        "up5": (16, 32, 32),
        "stage5": (16, 32, 32),
        "fullconv": (5, 64, 64),
    }


def test_layers_are_those_of_the_papers_table():
    net = ENet()
    assert len(net.stage1) == 4
    assert len(net.stage4) == 2
    for stage in (net.stage2, net.stage3):
        convs = [[m for m in block.modules() if isinstance(m, nn.Conv2d)][1:-1] for block in stage]
        kernels = [[conv.kernel_size for conv in block] for block in convs]
        regular, asymmetric = [(3, 3)], [(5, 1), (1, 5)]
        assert kernels == [regular, regular, asymmetric, regular] * 2
        assert [block[0].dilation[0] for block in convs] == [1, 2, 1, 4, 1, 8, 1, 16]
    dropouts = [m.p for m in net.modules() if isinstance(m, nn.Dropout2d)]
    assert dropouts == [0.01] * 5 + [0.1] * 22
    decoder = nn.ModuleList([net.up4, net.stage4, net.up5, net.stage5])
    assert not any(isinstance(m, nn.PReLU) for m in decoder.modules())
    encoder = nn.ModuleList([net.initial, net.down1, net.stage1, net.down2, net.stage2, net.stage3])
    assert not any(isinstance(m, nn.ReLU) for m in encoder.modules())
    assert not any(name.endswith("conv.bias") for name, _ in net.named_parameters())


@pytest.mark.parametrize("in_channels", [1, 4])
def test_gradients_reach_every_parameter(in_channels):
    net = ENet(in_channels=in_channels)
    net(torch.rand(2, in_channels, 32, 32)).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_eval_is_deterministic_and_training_drops_out():
    net, x = ENet(), torch.rand(2, 1, 32, 32)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_each_image_is_segmented_by_itself():
    net, x = ENet().eval(), torch.rand(3, 1, 32, 32)
    torch.testing.assert_close(net(x)[1:2], net(x[1:2]))


def test_dropout_of_zero_drops_nothing():
    net, x = ENet(dropout=(0, 0)), torch.rand(2, 1, 32, 32)
    assert torch.equal(net(x), net(x))


def test_other_norm():
    net = ENet(norm=("instance", {"affine": True}))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert net(torch.rand(1, 1, 16, 16)).shape == (1, 2, 16, 16)


def test_channels_last_gives_the_same():
    net, x = ENet().eval(), torch.rand(2, 1, 32, 40)
    expected = net(x)
    actual = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_torchscript_equals_eager():
    net = ENet(out_channels=3).eval()
    # One script serves every size and batch, as the bundle's exported network must.
    inputs = [torch.rand(1, 1, 32, 40), torch.rand(2, 1, 16, 16)]
    script = convert_to_torchscript(net, inputs=[inputs[0]], verify=True)
    for x in inputs:
        torch.testing.assert_close(script(x), net(x))
    with pytest.raises(torch.jit.Error, match="divisible by 8, got 30x32"):
        script(torch.rand(1, 1, 30, 32))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    net = ENet()
    with torch.autocast("cpu", dtype=dtype):
        logits = net(torch.rand(2, 1, 32, 32))
    assert logits.dtype == dtype
    logits.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_trains_under_deterministic_algorithms():
    torch.use_deterministic_algorithms(True)
    try:
        ENet()(torch.rand(2, 1, 16, 16)).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_unpool_equals_torch(memory_format):
    x = torch.rand(2, 3, 8, 12).contiguous(memory_format=memory_format)
    values, indices = F.max_pool2d(x, 2, return_indices=True)
    assert torch.equal(_unpool(values, indices), F.max_unpool2d(values, indices, 2))
    values = values.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: _unpool(v, indices), values)


@pytest.mark.parametrize("size", [(30, 32), (32, 12), (7, 7)])
def test_indivisible_size_is_named(size):
    with pytest.raises(ValueError, match=f"divisible by 8, got {size[0]}x{size[1]}"):
        ENet()(torch.rand(1, 1, *size))


def test_missing_batch_dimension():
    with pytest.raises(ValueError, match="got 3 dimensions"):
        ENet()(torch.rand(1, 32, 32))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"spatial_dims": 3}, "spatial_dims must be 2 for ENet, got 3"),
        ({"in_channels": 0}, "at least 1, got 0 and 2"),
        ({"out_channels": 0}, "at least 1, got 1 and 0"),
        ({"dropout": (0.1,)}, "two probabilities"),
        ({"dropout": (0.1, 1.0)}, "two probabilities"),
        ({"dropout": (-0.1, 0.1)}, "two probabilities"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ENet(**kwargs)
