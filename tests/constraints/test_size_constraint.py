import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Zoom

from sizeloss_monai.constraints import (
    SizeConstraintLoss,
    VolumeSizeConstraintLoss,
    class_probabilities,
    size_constraint,
    soft_size,
)
from sizeloss_monai.constraints.penalties import quadratic_penalty
from sizeloss_monai.constraints.statistics import measure_sizes
from sizeloss_monai.losses import WeakSupervisionLoss

INF = math.inf
HALVES = [torch.float16, torch.bfloat16]
SCALES = ["voxels", "image", "relative", "log"]
SIDES = ["both", "lower", "upper"]


def softmax(logits):
    exp = np.exp(logits - logits.max(1, keepdims=True))
    return exp / exp.sum(1, keepdims=True)


def penalty_and_slope(size, lower, upper, num_voxels, scale, sides):
    """Eq. 3 and its derivative (Eq. 4) for one class of one item, written down case by case."""
    if size < lower and sides != "upper":
        violation, bound = size - lower, lower
    elif size > upper and sides != "lower":
        violation, bound = size - upper, upper
    else:
        return 0.0, 0.0
    if scale == "log" and bound > 0:
        return math.log(size / bound) ** 2, 2 * math.log(size / bound) / size
    if scale == "voxels":
        unit = 1.0
    elif scale == "image":
        unit = 1.0 / num_voxels
    else:
        unit = 1.0 / (bound if bound > 0 else num_voxels) ** 2
    return unit * violation**2, unit * 2 * violation


def brute_force(logits, bounds, scale, sides):
    """Penalties ``[B, C]`` and the gradient of their sum over the logits, through the softmax in closed form."""
    probabilities = softmax(logits)
    num_voxels = probabilities[0, 0].size
    penalty, slope = np.zeros(logits.shape[:2]), np.zeros(logits.shape[:2])
    for b, c in np.ndindex(*penalty.shape):
        size = math.fsum(probabilities[b, c].ravel())
        penalty[b, c], slope[b, c] = penalty_and_slope(size, *bounds[b, c], num_voxels, scale, sides)
    slope = slope.reshape(*slope.shape, *[1] * (logits.ndim - 2))
    # d S_k / d z_j = S_k (1[j = k] - S_j)
    gradient = probabilities * (slope - (slope * probabilities).sum(1, keepdims=True))
    return penalty, gradient


@st.composite
def cases(draw):
    """Logits and bounds: lower and upper ones violated, or neither, tags, absent and unconstrained classes."""
    batch, channels = draw(st.integers(1, 3)), draw(st.integers(2, 4))
    spatial = draw(st.lists(st.integers(1, 5), min_size=2, max_size=3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = rng.normal(scale=2, size=(batch, channels, *spatial))
    num_voxels = logits[0, 0].size
    kinds = {
        "any": lambda: sorted(rng.uniform(0, num_voxels, size=2)),
        "tag": lambda: (1.0, float(num_voxels)),
        "absent": lambda: (0.0, 0.0),
        "free": lambda: (0.0, INF),
        "exact": lambda: (num_voxels / 3, num_voxels / 3),
        "lower": lambda: (num_voxels / 2, INF),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(kinds)), min_size=batch * channels, max_size=batch * channels))
    bounds = np.array([kinds[kind]() for kind in chosen]).reshape(batch, channels, 2)
    return logits, bounds


@settings(deadline=None, max_examples=100)
@given(cases(), st.sampled_from(SCALES), st.sampled_from(SIDES))
def test_equals_equation_3_and_4_in_closed_form(case, scale, sides):
    values, bounds = case
    penalty, gradient = brute_force(values, bounds, scale, sides)
    logits = torch.from_numpy(values).requires_grad_()
    loss = SizeConstraintLoss(include_background=True, scale=scale, sides=sides, reduction="sum")
    total = loss(logits, torch.from_numpy(bounds))
    total.backward()
    assert total.item() == pytest.approx(penalty.sum(), rel=1e-9, abs=1e-20)
    np.testing.assert_allclose(logits.grad.numpy(), gradient, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(
        size_constraint(logits, torch.from_numpy(bounds), scale, sides).detach().numpy(), penalty, rtol=1e-9, atol=1e-20
    )


@settings(deadline=None, max_examples=40)
@given(cases(), st.booleans(), st.data())
def test_reductions_and_constrained_classes(case, include_background, data):
    values, bounds = case
    classes = data.draw(
        st.none() | st.lists(st.integers(0, values.shape[1] - 1), min_size=1, max_size=values.shape[1], unique=True)
    )
    chosen = classes if classes is not None else range(0 if include_background else 1, values.shape[1])
    expected = brute_force(values, bounds, "voxels", "both")[0][:, list(chosen)]
    args = torch.from_numpy(values), torch.from_numpy(bounds)
    kwargs = {"include_background": include_background, "classes": classes}
    none = SizeConstraintLoss(reduction="none", **kwargs)(*args)
    assert none.shape == expected.shape
    np.testing.assert_allclose(none.numpy(), expected, rtol=1e-9, atol=1e-20)
    for reduction in ("sum", "mean"):
        value = SizeConstraintLoss(reduction=reduction, **kwargs)(*args)
        assert value.shape == ()
        assert value.item() == pytest.approx(getattr(expected, reduction)(), rel=1e-9, abs=1e-20)
    assert SizeConstraintLoss(**kwargs)(*args).item() == pytest.approx(expected.mean(), rel=1e-9, abs=1e-20)


@pytest.mark.parametrize(
    ("bounds", "value", "slope"),
    [
        # a grey image of 16 voxels: V = 8
        ((0, 6), 4, 4),  # 2 (8 - 6)
        ((11, 16), 9, -6),  # 2 (8 - 11)
        ((0, 8), 0, 0),
        ((8, 16), 0, 0),
        ((8, 8), 0, 0),
        ((0, 16), 0, 0),
        ((1, 16), 0, 0),  # tag
        ((0, 0), 64, 16),  # absent
        ((0, INF), 0, 0),
        ((9, INF), 1, -2),
    ],
)
@pytest.mark.parametrize("spatial", [(4, 4), (2, 2, 4)])
def test_equation_4_at_every_voxel(bounds, value, slope, spatial):
    # dC/dz_1p = slope * S (1 - S) = slope / 4, and the opposite for the background
    logits = torch.zeros(1, 2, *spatial, requires_grad=True)
    both = torch.tensor([[(0, INF), bounds]], dtype=torch.float32)
    loss = SizeConstraintLoss(reduction="sum")(logits, both)
    loss.backward()
    assert loss.item() == value
    assert torch.equal(logits.grad[:, 1], torch.full((1, *spatial), slope / 4))
    assert torch.equal(logits.grad[:, 0], torch.full((1, *spatial), -slope / 4))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize(("channels", "spatial"), [(2, (2, 2)), (3, (2, 1, 2))])
def test_gradcheck(scale, sides, channels, spatial):
    torch.manual_seed(3)
    logits = torch.randn(2, channels, *spatial, dtype=torch.float64, requires_grad=True)
    num_voxels = math.prod(spatial)
    # well away from the kinks at V = a and V = b
    bounds = torch.tensor([[0.0, 0.01 * num_voxels], [0.99 * num_voxels, INF], [0, 0]], dtype=torch.float64)[:channels]
    both = torch.stack([bounds, bounds.flip(0)])
    loss = SizeConstraintLoss(include_background=True, scale=scale, sides=sides, reduction="none")
    assert loss(logits, both).sum() > 0
    assert torch.autograd.gradcheck(lambda z: loss(z, both), logits)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("logit", [0.0, 100.0, -100.0])
def test_special_bounds_give_finite_values_and_gradients(scale, sides, logit):
    logits = torch.zeros(4, 2, 4, 4)
    logits[:, 1] = logit
    logits.requires_grad_()
    bounds = torch.tensor([(0, 0), (0, INF), (1, 16), (5, INF)]).reshape(4, 1, 2).expand(4, 2, 2).clone()
    loss = SizeConstraintLoss(include_background=True, scale=scale, sides=sides, reduction="none")(logits, bounds)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logits.grad).all()
    assert torch.equal(loss[1], torch.zeros(2))  # unconstrained
    assert (loss[0] > 0).any() == (sides != "lower")  # absent: only the upper bound can be violated


def test_scale_image_is_the_voxel_penalty_over_the_number_of_voxels():
    logits, bounds = torch.randn(2, 3, 5, 7).double(), torch.tensor([0.0, 2.0]).expand(2, 3, 2)
    ratio = SizeConstraintLoss()(logits, bounds) / SizeConstraintLoss(scale="image")(logits, bounds)
    assert ratio.item() == pytest.approx(35)


@settings(deadline=None)
@given(
    size=st.floats(1e-3, 1e3),
    lower=st.floats(1e-3, 1e3),
    width=st.floats(1, 1e3),
    unit=st.floats(1e-3, 1e3),
)
def test_scale_log_is_symmetric_and_free_of_units(size, lower, width, unit):
    """Twice too large costs what half as large as allowed costs, at any unit, and never more than `relative` above."""

    def penalty(scale, value, low, high):
        value, low, high, extent = (torch.tensor(x, dtype=torch.float64) for x in (value, low, high, 1e6))
        return quadratic_penalty(
            value[None, None], torch.stack([low, high])[None, None], extent[None, None], scale, "both"
        )

    upper = lower * width
    value = penalty("log", size, lower, upper).item()
    assert value == pytest.approx(penalty("log", unit * size, unit * lower, unit * upper).item(), rel=1e-6, abs=1e-12)
    assert value == pytest.approx(penalty("log", 1 / size, 1 / upper, 1 / lower).item(), rel=1e-6, abs=1e-12)
    relative = penalty("relative", size, lower, upper).item()
    assert value <= relative * (1 + 1e-9) + 1e-18 if size >= lower else value >= relative * (1 - 1e-9)


@pytest.mark.parametrize("ratio", [0.999, 1.001])
def test_scale_log_is_the_relative_one_near_a_bound(ratio):
    bounds = torch.tensor([[[5.0, 5.0]]]).double()
    size, extent = torch.tensor([[5.0 * ratio]]).double(), torch.tensor([[100.0]]).double()
    log, relative = (quadratic_penalty(size, bounds, extent, scale, "both").item() for scale in ("log", "relative"))
    assert log == pytest.approx(relative, rel=2e-3)


@pytest.mark.parametrize("logit", [-12.0, -25.0])
def test_scale_log_pushes_an_empty_prediction_too(logit):
    """The gradient of `relative` in the logits vanishes with the prediction, that of `log` does not: 2 log(V / a)."""
    for scale in ("relative", "log"):
        logits = torch.zeros(1, 2, 8, 8)
        logits[:, 1] = logit
        logits.requires_grad_()
        SizeConstraintLoss(scale=scale)(logits, torch.tensor([[(0.0, INF), (4.0, 6.0)]])).backward()
        push = -logits.grad[:, 1].sum().item()
        if scale == "log":
            assert push == pytest.approx(2 * (math.log(4 / 64) - logit), rel=1e-3)
        else:
            assert push < 1e-3


@pytest.mark.parametrize("bounds", [(3.0, 5.0), (40.0, 50.0), (0.0, 0.0), (0.0, 5.0)])
def test_scale_relative_does_not_depend_on_resolution(bounds):
    # every voxel cut into four: sizes and bounds grow fourfold, the penalty stays
    logits = torch.randn(1, 2, 6, 8, dtype=torch.float64)
    fine = logits.repeat_interleave(2, -1).repeat_interleave(2, -2)
    pair = torch.tensor([[(0.0, INF), bounds]]).double()
    values = {scale: SizeConstraintLoss(scale=scale)(logits, pair).item() for scale in SCALES}
    on_fine = {scale: SizeConstraintLoss(scale=scale)(fine, 4 * pair).item() for scale in SCALES}
    assert values["relative"] > 0
    for scale in ("relative", "log"):
        assert on_fine[scale] == pytest.approx(values[scale], rel=1e-12)
    assert on_fine["voxels"] == pytest.approx(16 * values["voxels"], rel=1e-12)
    assert on_fine["image"] == pytest.approx(4 * values["image"], rel=1e-12)


def test_both_sides_are_the_sum_of_the_two():
    logits = torch.zeros(3, 4, 5, 5).double()  # sizes of 6.25
    bounds = torch.tensor([(0, 4), (7, 9), (1, 3), (8, 25)]).double().expand(3, 4, 2)
    for scale in SCALES:
        both, lower, upper = (
            SizeConstraintLoss(scale=scale, sides=sides, reduction="sum")(logits, bounds) for sides in SIDES
        )
        assert lower > 0
        assert upper > 0
        assert both.item() == pytest.approx((lower + upper).item(), rel=1e-12)


@pytest.mark.parametrize("shape", [(2, 2), (2, 3), (1, 3, 2), (2, 3, 3), (3, 2, 2), (2, 2, 3), (2, 3, 2, 1), (2, 2, 2)])
def test_wrong_shape_of_bounds(shape):
    with pytest.raises(ValueError, match="bounds must have shape"):
        SizeConstraintLoss()(torch.zeros(2, 3, 4, 4), torch.zeros(shape))


@pytest.mark.parametrize(
    "kwargs",
    [
        {"scale": "pixels"},
        {"sides": "none"},
        {"reduction": "average"},
        {"classes": []},
        {"classes": [-1]},
        {"classes": [1, 1]},
    ],
)
def test_wrong_arguments(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs)) if "reduction" not in kwargs else "LossReduction"):
        SizeConstraintLoss(**kwargs)


@pytest.mark.parametrize("kwargs", [{"scale": "pixels"}, {"sides": "none"}])
def test_wrong_arguments_of_the_function(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        size_constraint(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2), **kwargs)


def test_class_that_is_no_channel():
    with pytest.raises(ValueError, match="below the 2 channels"):
        SizeConstraintLoss(classes=[2])(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 2))


def test_single_channel_has_no_class_to_constrain():
    with pytest.raises(ValueError, match="channel"):
        SizeConstraintLoss()(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 2))


@pytest.mark.parametrize("edge", [256, 512])
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("pair", [(0.0, 0.0), (1.0, 300.0), (60_000.0, 60_001.0), (230_000.0, INF)])
def test_half_precision_equals_float32(edge, dtype, autocast, scale, pair):
    torch.manual_seed(0)
    logits = torch.randn(1, 2, edge, edge).to(dtype)
    bounds = torch.tensor([[(0.0, INF), pair]])
    loss = SizeConstraintLoss(scale=scale)
    expected = loss(logits.float(), bounds)
    weighted = WeakSupervisionLoss({"size": {"loss": loss, "target": "bounds", "weight": 0.01}})
    logits.requires_grad_()
    with torch.autocast("cpu", dtype, enabled=autocast):
        value = loss(logits, bounds)
        # the paper's weight: 2 (V - b) S (1 - S) alone reaches 65,536 on 512 x 512, beyond float16
        total = weighted(logits, {"bounds": bounds})
    assert value.dtype == torch.float32
    assert value.item() > 0
    assert torch.equal(value, expected)
    assert total.item() == pytest.approx(0.01 * expected.item(), rel=1e-6)
    total.backward()
    assert logits.grad.dtype == dtype
    assert torch.isfinite(logits.grad).all()
    if not (
        dtype == torch.float16 and scale in ("relative", "log")
    ):  # 1e-2 / |Omega| a voxel is below the smallest float16
        assert logits.grad.abs().max() > 0


@pytest.mark.parametrize("dtype", HALVES)
def test_float32_logits_are_not_rounded_under_autocast(dtype):
    logits, bounds = torch.randn(2, 3, 16, 16), torch.tensor([1.0, 20.0]).expand(2, 3, 2)
    with torch.autocast("cpu", dtype):
        value = SizeConstraintLoss()(logits, bounds)
    assert torch.equal(value, SizeConstraintLoss()(logits, bounds))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.int64])
def test_any_dtype_of_bounds(dtype):
    bounds = torch.tensor([[(0, 25), (3, 5)]])
    logits = torch.randn(1, 2, 5, 5)
    assert torch.equal(SizeConstraintLoss()(logits, bounds.to(dtype)), SizeConstraintLoss()(logits, bounds.float()))


def test_float64_is_kept():
    value = SizeConstraintLoss()(torch.zeros(1, 2, 4, 4).double(), torch.tensor([[(0.0, INF), (0.0, 7.875)]]).double())
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(1 / 64, rel=1e-12)


def test_a_volume_is_one_item():
    logits = torch.randn(1, 2, 4, 4, 3)
    slices = logits[0].movedim(-1, 0)
    sizes = torch.softmax(slices, 1)[:, 1].sum()
    bounds = torch.tensor([[(0.0, INF), (0.0, 10.0)]])
    value = SizeConstraintLoss()(logits, bounds)
    assert value.item() == pytest.approx((sizes.item() - 10) ** 2, rel=1e-5)


def test_meta_tensors():
    logits, bounds = torch.randn(3, 2, 4, 4), torch.tensor([1.0, 2.0]).expand(3, 2, 2)
    value = SizeConstraintLoss()(MetaTensor(logits), MetaTensor(bounds))
    assert value.item() == SizeConstraintLoss()(logits, bounds).item()


def test_deterministic_and_bounds_untouched():
    logits, bounds = torch.randn(2, 3, 64, 64), torch.tensor([1.0, 20.0]).repeat(2, 3, 1)
    values = {SizeConstraintLoss(scale="relative")(logits, bounds).item() for _ in range(5)}
    assert len(values) == 1
    assert torch.equal(bounds, torch.tensor([1.0, 20.0]).repeat(2, 3, 1))


def test_descent_brings_the_size_into_its_bounds():
    logits = torch.zeros(1, 2, 8, 8, requires_grad=True)
    bounds = torch.tensor([[(0.0, INF), (9.0, 11.0)]])
    optimizer = torch.optim.SGD([logits], lr=2)
    loss = SizeConstraintLoss(scale="image")
    for _ in range(100):
        optimizer.zero_grad()
        loss(logits, bounds).backward()
        optimizer.step()
    assert 9 <= torch.softmax(logits, 1)[0, 1].sum().item() <= 11.5


def disc(edge, radius_mm, centre_mm, step_mm, sharp=2.0):
    """Logits of a disc in a field of ``edge`` mm, one every ``step_mm``, with the affine."""
    axis = torch.arange(0, edge, step_mm, dtype=torch.float64) + step_mm / 2
    distance = ((axis[:, None] - centre_mm) ** 2 + (axis[None, :] - centre_mm) ** 2).sqrt()
    affine = torch.diag(torch.tensor([step_mm, step_mm, 8.0, 1.0], dtype=torch.float64))
    logit = sharp * (radius_mm - distance)
    return MetaTensor(torch.stack([torch.zeros_like(logit), logit]), affine=affine)


def pixel_area(image):
    return image.affine[:3, :3].det().abs()[None] / 8


@pytest.mark.parametrize("bounds", [(0.0, 400.0), (1200.0, 2000.0), (0.0, 0.0)])
def test_bounds_in_mm2_hold_after_zoom(bounds):
    """A disc of radius 15 mm (707 mm2), resampled with its affine: the same size, the same penalty."""
    pair = torch.tensor([[(0.0, INF), bounds]])
    loss = SizeConstraintLoss(scale="relative")
    whole = disc(64, 15.0, 31.0, 1.0)
    resampled = [
        whole,
        Zoom(0.75, keep_size=False)(whole),
        Zoom(2.0, keep_size=False)(whole),
        disc(64, 15.0, 31.0, 0.5),
    ]
    assert len({image.shape for image in resampled}) == 3
    for image in resampled:
        area = pixel_area(image)
        size, extent = measure_sizes(image[None], area, sharpness=1.0)
        assert size[0, 1].item() == pytest.approx(math.pi * 15**2, rel=0.01)
        assert extent.item() == pytest.approx(64**2, rel=0.01)
        value = loss(image[None], pair, area)
        assert value.item() > 0
        assert value.item() == pytest.approx(loss(whole[None], pair, pixel_area(whole)).item(), rel=0.06)


@pytest.mark.parametrize("scale", SCALES)
@given(seed=st.integers(0, 10**6), size=st.floats(0.01, 100))
@settings(max_examples=20, deadline=None)
def test_voxel_size_is_a_change_of_unit(scale, seed, size):
    """Sizes and bounds in another unit; and voxels cut into four of a quarter each."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    bounds = torch.tensor([(0, 3), (12, INF), (0, 0)], dtype=torch.float64).expand(2, 3, 2)
    units = torch.tensor([size, 3 * size], dtype=torch.float64)
    loss = SizeConstraintLoss(scale=scale, reduction="none")
    factor = {"voxels": units**2, "image": units}.get(scale, torch.ones(2))[:, None]
    in_mm2 = loss(logits, bounds * units[:, None, None], units)
    torch.testing.assert_close(in_mm2, loss(logits, bounds) * factor, check_dtype=False)
    fine = logits.repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(loss(fine, bounds * units[:, None, None], units / 4), in_mm2)


def test_gradcheck_of_voxel_size_and_sharpness():
    logits = torch.randn(2, 3, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bounds = torch.tensor([(0.0, 0.3), (30.0, INF), (0, 0)], dtype=torch.float64).expand(2, 3, 2)
    voxel_size = torch.tensor([0.5, 2.0], dtype=torch.float64)
    loss = SizeConstraintLoss(scale="relative", sharpness=3.0, include_background=True, reduction="none")
    assert torch.autograd.gradcheck(lambda z: loss(z, bounds, voxel_size), logits.requires_grad_())


def test_wrong_shape_of_voxel_size():
    with pytest.raises(ValueError, match=r"voxel_size must have shape \[2\], got \[2, 1\]"):
        SizeConstraintLoss()(torch.zeros(2, 2, 4, 4), torch.zeros(2, 2, 2), torch.ones(2, 1))


@pytest.mark.parametrize("sharpness", [0.0, -1.0, INF, math.nan])
def test_wrong_sharpness(sharpness):
    with pytest.raises(ValueError, match="sharpness"):
        SizeConstraintLoss(sharpness=sharpness)


def test_sharpness_brings_the_soft_size_to_the_hard_one():
    logits = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    hard = torch.bincount(logits.argmax(1).flatten(), minlength=3)
    gaps = [(soft_size(class_probabilities(logits, sharpness)) - hard).abs().max() for sharpness in (1, 3, 10, 1e4)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1


def test_a_grey_map_satisfies_a_soft_size_but_no_sharp_one():
    logits = torch.zeros(1, 2, 8, 8)
    logits[:, 1] = math.log(0.25 / 0.75)  # a quarter everywhere: a soft size of 16, and an empty segmentation
    bounds = torch.tensor([[(0.0, INF), (14.0, 18.0)]])
    assert SizeConstraintLoss()(logits, bounds).item() == 0
    assert SizeConstraintLoss(sharpness=10)(logits, bounds).item() == pytest.approx(14**2, rel=0.01)


@given(
    st.sampled_from(SCALES),
    st.sampled_from(SIDES),
    st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 1)),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_a_bound_that_is_nan_is_refused(scale, sides, place, by_volume):
    bounds = torch.tensor([1.0, 5.0]).repeat(2, 3, 1)
    bounds[place] = math.nan
    loss = (VolumeSizeConstraintLoss if by_volume else SizeConstraintLoss)(scale=scale, sides=sides)
    with pytest.raises(ValueError, match="bounds must not be NaN, got"):
        loss(torch.randn(2, 3, 4, 4), bounds)


@pytest.mark.parametrize("scale", SCALES)
def test_logits_that_are_nan_give_a_loss_that_is_nan(scale):
    logits = torch.zeros(1, 2, 4, 4)
    logits[0, 1, 2, 2] = math.nan
    assert SizeConstraintLoss(scale=scale)(logits, torch.tensor([[(0.0, INF), (1.0, 5.0)]])).isnan()
