import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from sizeloss_monai.losses import PartialCrossEntropyLoss, partial_cross_entropy

HALVES = [torch.float16, torch.bfloat16]


@st.composite
def batches(draw):
    """Logits and weak labels of any small shape, 2D or 3D, with 255 where not annotated."""
    batch, channels = draw(st.integers(1, 3)), draw(st.integers(2, 4))
    spatial = draw(st.lists(st.integers(1, 4), min_size=2, max_size=3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = rng.normal(scale=draw(st.sampled_from([0.1, 1.0, 10.0])), size=(batch, channels, *spatial))
    target = rng.integers(0, channels, size=(batch, 1, *spatial))
    annotated = rng.random(target.shape) < draw(st.sampled_from([0.0, 0.2, 0.7, 1.0]))
    return logits, np.where(annotated, target, 255)


def brute_force(logits, target, ignored):
    """-log S_{p, y_p} of every annotated voxel, a voxel at a time; a dictionary by index (b, *p)."""
    values = {}
    for index in np.ndindex(target[:, 0].shape):
        b, p = index[0], index[1:]
        class_id = int(target[(b, 0, *p)])
        if class_id not in ignored:
            z = [float(logits[(b, c, *p)]) for c in range(logits.shape[1])]
            values[index] = math.log(math.fsum(math.exp(v - max(z)) for v in z)) + max(z) - z[class_id]
    return values


@settings(deadline=None, max_examples=40)
@given(batches(), st.booleans())
def test_equals_the_sum_over_annotated_voxels(batch, include_background):
    logits, target = batch
    expected = brute_force(logits, target, {255} if include_background else {0, 255})
    args = torch.from_numpy(logits), torch.from_numpy(target)
    total = math.fsum(expected.values())
    kwargs = {"include_background": include_background}
    assert PartialCrossEntropyLoss(reduction="sum", **kwargs)(*args).item() == pytest.approx(total, rel=1e-12)
    mean = total / len(expected) if expected else 0.0
    assert PartialCrossEntropyLoss(reduction="mean", **kwargs)(*args).item() == pytest.approx(mean, rel=1e-12)
    assert PartialCrossEntropyLoss(**kwargs)(*args).item() == pytest.approx(mean, rel=1e-12)
    voxels = PartialCrossEntropyLoss(reduction="none", **kwargs)(*args)
    assert voxels.shape == target[:, 0].shape
    for index in np.ndindex(*voxels.shape):
        assert voxels[index].item() == pytest.approx(expected.get(index, 0.0), rel=1e-12, abs=1e-14)


@settings(deadline=None, max_examples=40)
@given(batches(), st.sampled_from(["sum", "mean"]))
def test_gradient_is_softmax_minus_one_hot_at_annotated_voxels_only(batch, reduction):
    values, target = batch
    logits = torch.from_numpy(values).requires_grad_()
    PartialCrossEntropyLoss(reduction=reduction)(logits, torch.from_numpy(target)).backward()
    exp = np.exp(values - values.max(1, keepdims=True))
    one_hot = target == np.arange(values.shape[1]).reshape(1, -1, *[1] * (values.ndim - 2))
    annotated = target != 255
    expected = (exp / exp.sum(1, keepdims=True) - one_hot) * annotated
    if reduction == "mean":
        expected /= max(annotated.sum(), 1)
    np.testing.assert_allclose(logits.grad.numpy(), expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("spatial", [(2, 2), (2, 1, 2)])
@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("include_background", [True, False])
def test_gradcheck(spatial, channels, reduction, include_background):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, channels, *spatial, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, channels, (2, 1, *spatial), generator=generator)
    target[:, :, 0] = 255
    loss = PartialCrossEntropyLoss(include_background=include_background, reduction=reduction)
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize(("value", "include_background"), [(255, True), (255, False), (0, False)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALVES])
def test_nothing_annotated_is_zero_with_zero_gradients(reduction, value, include_background, dtype):
    logits = (100 * torch.randn(2, 3, 4, 4)).to(dtype).requires_grad_()
    target = torch.full((2, 1, 4, 4), value, dtype=torch.uint8)
    loss = PartialCrossEntropyLoss(include_background=include_background, reduction=reduction)(logits, target)
    loss.sum().backward()
    assert torch.equal(loss, torch.zeros_like(loss))
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_mean_is_over_the_batch_not_over_items():
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]]).reshape(2, 2, 1, 1).expand(2, 2, 2, 2).clone()
    target = torch.full((2, 1, 2, 2), 255)
    target[0, 0] = 1  # four voxels of log 2
    target[1, 0, 0, 0] = 1  # one of log 4
    expected = (4 * math.log(2) + math.log(4)) / 5
    assert PartialCrossEntropyLoss()(logits, target).item() == pytest.approx(expected, rel=1e-6)


def test_what_is_not_annotated_does_not_count():
    logits = torch.randn(1, 3, 6, 6)
    target = torch.full((1, 1, 6, 6), 255)
    target[0, 0, 2:4, 2:4] = 2
    changed = torch.where(target == 255, 50 * torch.randn_like(logits), logits)
    assert not torch.equal(logits, changed)
    assert torch.equal(PartialCrossEntropyLoss()(logits, target), PartialCrossEntropyLoss()(changed, target))


@pytest.mark.parametrize("ignore_index", [-100, -1, 4, 1000])
def test_any_ignore_index(ignore_index):
    logits = torch.randn(2, 3, 4, 4)
    target = torch.randint(0, 3, (2, 1, 4, 4))
    target[:, :, 1] = 255
    expected = PartialCrossEntropyLoss()(logits, target)
    moved = torch.where(target == 255, ignore_index, target)
    assert torch.equal(PartialCrossEntropyLoss(ignore_index=ignore_index)(logits, moved), expected)
    assert torch.equal(partial_cross_entropy(logits, moved, ignore_index), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64, torch.float32])
def test_any_dtype_of_ids(dtype):
    logits = torch.randn(2, 3, 4, 4)
    target = torch.randint(0, 3, (2, 1, 4, 4))
    target[:, :, 1] = 255
    assert torch.equal(PartialCrossEntropyLoss()(logits, target.to(dtype)), PartialCrossEntropyLoss()(logits, target))


def test_extreme_logits_stay_finite():
    logits = torch.tensor([1e4, -1e4]).reshape(1, 2, 1, 1).requires_grad_()
    loss = PartialCrossEntropyLoss()(logits, torch.ones(1, 1, 1, 1, dtype=torch.long))
    loss.backward()
    assert loss.item() == 2e4
    assert logits.grad.flatten().tolist() == [1.0, -1.0]


@pytest.mark.parametrize(
    "shape",
    [(2, 4, 4), (2, 3, 4, 4), (2, 1, 4, 5), (2, 1, 4, 4, 1), (1, 1, 4, 4), (3, 1, 4, 4), (2, 1, 16), (1, 2, 4, 4)],
)
def test_wrong_shape_of_target(shape):
    with pytest.raises(ValueError, match="target"):
        PartialCrossEntropyLoss()(torch.zeros(2, 3, 4, 4), torch.zeros(shape, dtype=torch.long))


@pytest.mark.parametrize("reduction", ["average", "", None])
def test_wrong_reduction(reduction):
    with pytest.raises(ValueError, match="LossReduction"):
        PartialCrossEntropyLoss(reduction=reduction)
    with pytest.raises(ValueError, match="LossReduction"):
        partial_cross_entropy(torch.zeros(1, 2, 2, 2), torch.zeros(1, 1, 2, 2), reduction=reduction)


def test_id_that_is_no_class():
    with pytest.raises((IndexError, RuntimeError, ValueError)):
        PartialCrossEntropyLoss()(torch.zeros(1, 2, 2, 2), torch.full((1, 1, 2, 2), 2))


@pytest.mark.parametrize("edge", [256, 512])
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_half_precision_equals_float32(edge, dtype, autocast, reduction):
    generator = torch.Generator().manual_seed(edge)
    logits = (3 * torch.randn(1, 2, edge, edge, generator=generator)).to(dtype)
    target = torch.randint(0, 2, (1, 1, edge, edge), generator=generator, dtype=torch.uint8)
    loss = PartialCrossEntropyLoss(reduction=reduction)
    expected = loss(logits.float(), target)
    assert expected.item() > (60_000 if reduction == "sum" else 0.5)  # or float16 would do
    logits.requires_grad_()
    with torch.autocast("cpu", dtype, enabled=autocast):
        value = loss(logits, target)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    value.backward()
    assert logits.grad.dtype == dtype
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().max() > 0


@pytest.mark.parametrize("dtype", HALVES)
def test_float32_logits_are_not_rounded_under_autocast(dtype):
    logits = torch.randn(2, 3, 16, 16)
    target = torch.randint(0, 3, (2, 1, 16, 16))
    with torch.autocast("cpu", dtype):
        value = PartialCrossEntropyLoss()(logits, target)
    assert torch.equal(value, PartialCrossEntropyLoss()(logits, target))


def test_float64_is_kept():
    loss = PartialCrossEntropyLoss()(torch.zeros(1, 2, 3, 3, dtype=torch.float64), torch.ones(1, 1, 3, 3))
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(math.log(2), rel=1e-15)


def test_meta_tensors():
    logits = torch.randn(2, 3, 4, 4)
    target = torch.randint(0, 3, (2, 1, 4, 4))
    value = PartialCrossEntropyLoss()(MetaTensor(logits), MetaTensor(target))
    assert value.item() == PartialCrossEntropyLoss()(logits, target).item()


def test_deterministic():
    logits, target = torch.randn(2, 3, 32, 32), torch.randint(0, 3, (2, 1, 32, 32))
    values = {PartialCrossEntropyLoss()(logits, target).item() for _ in range(5)}
    assert len(values) == 1


def test_per_item_means_do_not_drown_a_few_annotated_voxels():
    logits = torch.randn(3, 2, 4, 4, requires_grad=True)
    target = torch.full((3, 1, 4, 4), 255)
    target[0] = 0  # fully annotated
    target[1, 0, 1, 1] = 1  # one voxel; the third item has none
    value = PartialCrossEntropyLoss(per_item=True)(logits, target)
    alone = [PartialCrossEntropyLoss()(logits[i : i + 1], target[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(value, torch.stack(alone).mean())
    nothing = PartialCrossEntropyLoss(per_item=True)(logits, torch.full_like(target, 255))
    nothing.backward()
    assert nothing.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_per_item_needs_the_mean():
    with pytest.raises(ValueError, match="reduction must be 'mean' with per_item, got 'sum'"):
        PartialCrossEntropyLoss(reduction="sum", per_item=True)
