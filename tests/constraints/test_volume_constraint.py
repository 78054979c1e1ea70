"""The constraint on volumes: sums over their slices, volume by volume."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sizeloss_monai.constraints import SizeConstraintLoss, VolumeSizeConstraintLoss, class_probabilities

INF = math.inf


def random_case(seed, slices, classes=2, edge=4):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(slices, classes, edge, edge, generator=generator, dtype=torch.float64)
    lower = torch.rand(slices, classes, generator=generator, dtype=torch.float64) * 6
    bounds = torch.stack([lower, lower * 1.2], dim=-1)
    return logits, bounds


@given(
    seed=st.integers(0, 10**6),
    members=st.lists(st.integers(0, 3), min_size=1, max_size=9),
    scale=st.sampled_from(["voxels", "image", "relative", "log"]),
    sides=st.sampled_from(["both", "lower", "upper"]),
)
@settings(max_examples=40, deadline=None)
def test_a_batch_of_volumes_is_the_mean_over_stacked_volumes(seed, members, scale, sides):
    """A volume as one 3D item of the constraint on single items gives the same penalty."""
    logits, bounds = random_case(seed, len(members), classes=3)
    volume = torch.tensor(members)
    alone = SizeConstraintLoss(scale=scale, sides=sides)
    penalties = []
    for index in sorted(set(members)):
        slices = logits[volume == index]  # [n, C, H, W] -> one item [1, C, H, W, n]
        stacked = slices.permute(1, 2, 3, 0)[None]
        penalties.append(alone(stacked, bounds[volume == index].sum(dim=0, keepdim=True)))
    loss = VolumeSizeConstraintLoss(scale=scale, sides=sides)
    torch.testing.assert_close(loss(logits, bounds, volume), torch.stack(penalties).mean())
    order = torch.randperm(len(members), generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(loss(logits[order], bounds[order], volume[order]), loss(logits, bounds, volume))


def test_equation_by_hand():
    logits = torch.zeros(3, 2, 4, 4)  # soft size 8 a slice
    bounds = torch.tensor([[[0.0, INF], [4.0, 5.0]]]).repeat(3, 1, 1)
    assert VolumeSizeConstraintLoss()(logits, bounds).item() == (24 - 15) ** 2
    volume = torch.tensor([7, 2, 7])
    assert VolumeSizeConstraintLoss()(logits, bounds, volume).item() == pytest.approx((36 + 9) / 2)
    assert VolumeSizeConstraintLoss(reduction="sum")(logits, bounds, volume).item() == pytest.approx(36 + 9)
    none = VolumeSizeConstraintLoss(reduction="none")(logits, bounds, volume)
    assert none.flatten().tolist() == [36, 9, 36]


def test_no_tags_an_absent_slice_may_hold_what_another_lacks():
    logits = torch.zeros(2, 2, 4, 4)
    bounds = torch.tensor([[[0.0, INF], [14.0, 18.0]], [[0.0, INF], [0.0, 0.0]]])
    assert VolumeSizeConstraintLoss()(logits, bounds).item() == 0
    assert SizeConstraintLoss()(logits, bounds).item() > 0


def test_individual_bounds_of_slices_add_up_to_the_volumes():
    sizes = torch.tensor([5.0, 0.0, 11.0])
    logits = torch.randn(3, 2, 8, 8)
    per_slice = torch.stack([torch.tensor([0.0, INF]).expand(3, 2), torch.stack([0.9 * sizes, 1.1 * sizes], 1)], 1)
    value = class_probabilities(logits)[:, 1].sum()
    expected = torch.relu(0.9 * 16 - value) ** 2 + torch.relu(value - 1.1 * 16) ** 2
    torch.testing.assert_close(VolumeSizeConstraintLoss()(logits, per_slice), expected)


def test_gradcheck():
    logits, bounds = random_case(3, 5)
    volume = torch.tensor([0, 1, 0, 1, 1])
    loss = VolumeSizeConstraintLoss()
    assert torch.autograd.gradcheck(lambda x: loss(x, bounds, volume), logits.requires_grad_())


def test_half_precision_does_not_overflow():
    logits = torch.zeros(4, 2, 256, 256, dtype=torch.float16, requires_grad=True)
    bounds = torch.tensor([[0.0, INF], [10.0, 20.0]]).expand(4, 2, 2)
    value = VolumeSizeConstraintLoss(scale="image")(logits, bounds)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx((4 * 32768 - 80) ** 2 / (4 * 65536), rel=1e-5)
    value.backward()
    assert torch.isfinite(logits.grad).all()


def test_wrong_shapes():
    logits, bounds = random_case(0, 3)
    with pytest.raises(ValueError, match=r"volume must have shape \[3\], got \[2\]"):
        VolumeSizeConstraintLoss()(logits, bounds, torch.zeros(2))
    with pytest.raises(ValueError, match="bounds must have shape"):
        VolumeSizeConstraintLoss()(logits, bounds[:2])


@pytest.mark.parametrize("scale", ["voxels", "image", "relative", "log"])
def test_voxel_sizes_of_slices_are_a_change_of_unit(scale):
    """Slices of one volume may have voxels of different sizes; the volume is what they add up to."""
    logits, bounds = random_case(5, 3)
    units = torch.tensor([0.1, 0.1, 0.3], dtype=torch.float64)
    volume = torch.tensor([4, 4, 9])
    in_ml = bounds * units[:, None, None]
    loss = VolumeSizeConstraintLoss(scale=scale, reduction="none")
    factor = {"voxels": units**2, "image": units}.get(scale, torch.ones(3))[:, None]
    torch.testing.assert_close(
        loss(logits, in_ml, volume, units), loss(logits, bounds, volume) * factor, check_dtype=False
    )
    sizes = class_probabilities(logits)[:, 1].sum(dim=(1, 2)) * units
    lower, upper = in_ml[:, 1].sum(dim=0)
    expected = torch.relu(lower - sizes.sum()) ** 2 + torch.relu(sizes.sum() - upper) ** 2
    torch.testing.assert_close(VolumeSizeConstraintLoss()(logits, in_ml, None, units), expected)
    assert expected > 0


def test_gradcheck_of_voxel_size_and_sharpness():
    logits, bounds = random_case(3, 4)
    units, volume = torch.tensor([0.1, 0.1, 0.3, 0.3], dtype=torch.float64), torch.tensor([0, 0, 1, 1])
    loss = VolumeSizeConstraintLoss(scale="relative", sharpness=2.0)
    assert torch.autograd.gradcheck(lambda x: loss(x, bounds, volume, units), logits.requires_grad_())
