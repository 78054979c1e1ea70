import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.losses import DiceLoss

from sizeloss_monai.losses import PartialDiceLoss


def random_case(seed, classes=4, share=0.4, ids=None, ignore_index=255):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, 5, 6, generator=generator, dtype=torch.float64)
    drawn = torch.randint(0, classes, (2, 1, 5, 6), generator=generator)
    if ids is not None:
        drawn = torch.tensor(ids)[torch.randint(0, len(ids), (2, 1, 5, 6), generator=generator)]
    return logits, torch.where(torch.rand(2, 1, 5, 6, generator=generator) < share, drawn, ignore_index)


def by_hand(logits, label, ignore_index, classes):
    """Mean over the annotated ones of ``classes`` of one minus Dice, on the annotated voxels picked out."""
    soft = logits.softmax(1).movedim(1, -1)[label[:, 0] != ignore_index]
    ids = label[label != ignore_index]
    present = [k for k in classes if (ids == k).any()]
    dice = [2 * soft[ids == k, k].sum() / (soft[:, k].sum() + (ids == k).sum()) for k in present]
    return float(sum(1 - value for value in dice) / max(len(dice), 1))


@given(
    seed=st.integers(0, 10**6),
    share=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    ids=st.sampled_from([[0], [2], [0, 3], [1, 2, 3], [0, 1, 2, 3]]),
    include_background=st.booleans(),
    ignore_index=st.sampled_from([255, 4, -1]),
)
@settings(max_examples=60, deadline=None)
def test_equals_dice_of_the_annotated_voxels(seed, share, ids, include_background, ignore_index):
    logits, label = random_case(seed, share=share, ids=ids, ignore_index=ignore_index)
    loss = PartialDiceLoss(ignore_index, include_background)
    expected = by_hand(logits, label, ignore_index, range(0 if include_background else 1, 4))
    assert loss(logits, label).item() == pytest.approx(expected, abs=3e-5)  # MONAI's smooth terms


@pytest.mark.parametrize("include_background", [True, False])
def test_equals_monais_where_every_class_is_annotated(include_background):
    logits, label = random_case(0)
    monais = DiceLoss(include_background, softmax=True, to_onehot_y=True, batch=True, ignore_index=255)
    torch.testing.assert_close(
        PartialDiceLoss(include_background=include_background)(logits, label), monais(logits, label)
    )


def test_a_class_nobody_annotated_does_not_count():
    """With MONAI's it does, as a loss of 1: the reason for a class of our own."""
    logits, label = random_case(1, ids=[0, 2])
    value = PartialDiceLoss()(logits, label)
    monais = DiceLoss(softmax=True, to_onehot_y=True, batch=True, ignore_index=255)(logits, label)
    assert monais.item() == pytest.approx((2 * value.item() + 2) / 4, abs=1e-4)


def test_no_gradient_where_nobody_annotated():
    logits, label = random_case(2)
    PartialDiceLoss()(logits.requires_grad_(), label).backward()
    assert torch.isfinite(logits.grad).all()
    touched = logits.grad.abs().sum(dim=1, keepdim=True) > 0
    assert torch.equal(touched, label != 255)


def test_nothing_annotated_is_zero_with_zero_gradients():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    value = PartialDiceLoss()(logits, torch.full((2, 1, 4, 4), 255))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("include_background", [True, False])
def test_gradcheck(include_background):
    logits, label = random_case(3, ids=[0, 2])
    loss = PartialDiceLoss(include_background=include_background)
    assert torch.autograd.gradcheck(lambda z: loss(z, label[..., :2, :3]), logits[..., :2, :3].clone().requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow(dtype):
    logits = torch.randn(1, 2, 512, 512).to(dtype)
    label = (torch.rand(1, 1, 512, 512) < 0.5).to(torch.uint8)
    label[..., 0] = 255
    value = PartialDiceLoss()(logits, label)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(by_hand(logits.double(), label, 255, (0, 1)), rel=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert PartialDiceLoss()(logits, label).item() == value.item()


def test_meta_tensors():
    logits, label = random_case(4)
    value = PartialDiceLoss()(MetaTensor(logits), MetaTensor(label.float()))
    assert value.item() == PartialDiceLoss()(logits, label).item()


def test_wrong_shapes():
    with pytest.raises(ValueError, match=r"shape \[2, 1, 4, 4\], got \[2, 3, 4, 4\]"):
        PartialDiceLoss()(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4))
    with pytest.raises(ValueError, match="two channels"):
        PartialDiceLoss()(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4))
