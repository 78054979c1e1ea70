"""The gated CRF loss against a loop over all pairs."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from sizeloss_monai.losses import GatedCRFLoss, gated_crf_energy

KERNELS = [
    {"weight": 0.9, "sigma_xy": 2.0, "sigma_intensity": 0.3},
    {"weight": 0.1, "sigma_xy": 3.0},
]
SHAPES = [(7,), (6, 5), (3, 4, 5)]


def random_case(shape, batch=2, classes=3, channels=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(len(shape))
    logits = torch.randn(batch, classes, *shape, generator=generator, dtype=dtype)
    image = torch.rand(batch, channels, *shape, generator=generator, dtype=dtype)
    spacing = 0.5 + torch.rand(batch, len(shape), generator=generator, dtype=dtype)
    return logits, image, spacing


def all_pairs(probabilities, image, radius, spacing, kernels):
    """The energy of one item as the equation says it: ``[C, *spatial]``, ``[K, *spatial]``."""
    total = 0.0
    voxels = list(itertools.product(*(range(n) for n in image.shape[1:])))
    for i, j in itertools.permutations(voxels, 2):
        if any(abs(a - b) > r for a, b, r in zip(i, j, radius, strict=True)):
            continue
        distance = sum((s * (a - b)) ** 2 for a, b, s in zip(i, j, spacing.tolist(), strict=True))
        at_i, at_j = (slice(None), *i), (slice(None), *j)
        contrast = (image[at_i] - image[at_j]).square().sum().item()
        weight = sum(
            kernel["weight"]
            * math.exp(-distance / (2 * kernel["sigma_xy"] ** 2))
            * math.exp(-contrast / (2 * kernel.get("sigma_intensity", math.inf) ** 2))
            for kernel in kernels
        )
        total += weight * (1 - (probabilities[at_i] * probabilities[at_j]).sum().item())
    return total / len(voxels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("in_mm", [False, True])
@pytest.mark.parametrize(
    ("shape", "radius"), [((7,), 2), ((6, 5), 2), ((6, 5), (1, 4)), ((6, 5), 9), ((3, 4, 5), 1), ((3, 4, 5), (0, 1, 2))]
)
def test_equals_a_loop_over_all_pairs(shape, radius, in_mm, channels):
    logits, image, spacing = random_case(shape, channels=channels)
    probabilities = logits.softmax(1)
    values = gated_crf_energy(probabilities, image, radius, spacing if in_mm else None, KERNELS)
    reach = radius if isinstance(radius, tuple) else (radius,) * len(shape)
    steps = spacing if in_mm else torch.ones_like(spacing)
    expected = [all_pairs(*item, reach, step, KERNELS) for *item, step in zip(probabilities, image, steps, strict=True)]
    assert values.dtype == torch.float64
    assert values.tolist() == pytest.approx(expected, rel=1e-10)
    loss = GatedCRFLoss(radius, KERNELS)
    args = (image, spacing) if in_mm else (image,)
    assert loss(logits, *args).item() == pytest.approx(sum(expected) / 2, rel=1e-10)


@pytest.mark.parametrize("downsample", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradcheck(shape, downsample):
    logits, image, spacing = random_case(shape)
    loss = GatedCRFLoss(2, KERNELS, downsample, reduction="none")
    assert torch.autograd.gradcheck(lambda x: loss(x, image, spacing), logits.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [*SHAPES, (1, 1)])
def test_one_label_everywhere_has_no_energy(shape, dtype):
    _, image, spacing = random_case(shape, dtype=dtype)
    constant = torch.zeros(2, 3, *shape, dtype=dtype)
    constant[:, 2] = 1
    assert torch.equal(gated_crf_energy(constant, image, 3, spacing), torch.zeros(2, dtype=dtype))


@given(seed=st.integers(0, 10**6), shape=st.sampled_from([(9, 8), (6, 7, 5)]), soft=st.booleans())
@settings(max_examples=25, deadline=None)
def test_symmetries(seed, shape, soft):
    """The same for renamed classes, a mirrored image, swapped axes, and intensities moved or negated."""
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.randn(1, 3, *shape, generator=generator, dtype=torch.float64).softmax(1)
    if not soft:
        probabilities = F.one_hot(probabilities.argmax(1), 3).movedim(-1, 1).double()
    image = torch.rand(1, 1, *shape, generator=generator, dtype=torch.float64)
    radius = tuple(range(1, len(shape) + 1))
    energy = gated_crf_energy(probabilities, image, radius, kernels=KERNELS)
    assert energy.item() > 0
    for p, i, r in (
        (probabilities[:, [2, 0, 1]], image, radius),
        (probabilities.flip(-1), image.flip(-1), radius),
        (probabilities.transpose(2, 3), image.transpose(2, 3), (radius[1], radius[0], *radius[2:])),
        (probabilities, 7 - image, radius),
    ):
        torch.testing.assert_close(gated_crf_energy(p, i, r, kernels=KERNELS), energy)


@pytest.mark.parametrize("shape", [(16, 17), (10, 11, 12)])
def test_gradient_moves_with_image_and_prediction(shape):
    """Away from the border by more than the radius, it depends on what is near, not on where."""
    logits, image, spacing = random_case(shape)
    axes = tuple(range(2, 2 + len(shape)))
    gradients = []
    for shift in (0, 1):
        leaf = logits.roll((shift,) * len(axes), axes).requires_grad_()
        GatedCRFLoss(2, KERNELS)(leaf, image.roll((shift,) * len(axes), axes), spacing).backward()
        gradients.append(leaf.grad.roll((-shift,) * len(axes), axes))
    interior = (..., *(slice(2, -3) for _ in shape))
    torch.testing.assert_close(gradients[0][interior], gradients[1][interior])
    assert not torch.allclose(gradients[0], gradients[1])


def test_slices_10_mm_apart_decouple():
    """With kernels of 1 mm the energy of a volume is the mean of its slices' energies."""
    logits, image, _ = random_case((6, 5, 4))
    kernels = [{"weight": 1.0, "sigma_xy": 1.0, "sigma_intensity": 0.3}]
    slices = [gated_crf_energy(logits[..., z].softmax(1), image[..., z], 2, kernels=kernels) for z in range(4)]
    expected = torch.stack(slices).mean(0)
    thick, thin = torch.tensor([[1.0, 1.0, 10.0]] * 2), torch.ones(2, 3)
    torch.testing.assert_close(gated_crf_energy(logits.softmax(1), image, 2, thick, kernels), expected)
    torch.testing.assert_close(gated_crf_energy(logits.softmax(1), image, (2, 2, 0), None, kernels), expected)
    assert (gated_crf_energy(logits.softmax(1), image, 2, thin, kernels) > 1.5 * expected).all()


def test_millimetres_are_a_unit_of_sigma():
    logits, image, _ = random_case((8, 8))
    in_mm = GatedCRFLoss(2, [{"weight": 1.0, "sigma_xy": 3.0}])(logits, image, torch.full((2, 2), 1.5))
    in_voxels = GatedCRFLoss(2, [{"weight": 1.0, "sigma_xy": 2.0}])(logits, image)
    assert in_mm.item() == pytest.approx(in_voxels.item(), rel=1e-12)


@pytest.mark.parametrize("factors", [2, (1, 2)])
@pytest.mark.parametrize("in_mm", [False, True])
def test_downsampling_is_the_energy_of_the_coarse_grid(factors, in_mm):
    logits, image, spacing = random_case((7, 8))
    both = factors if isinstance(factors, tuple) else (factors, factors)
    # the last row of 7 has half of a voxel
    coarse = [F.avg_pool2d(tensor, both, ceil_mode=True) for tensor in (logits.softmax(1), image)]
    steps = (spacing if in_mm else torch.ones(2, 2)) * torch.tensor(both)
    expected = gated_crf_energy(*coarse, 2, steps, KERNELS)
    given = spacing if in_mm else None
    torch.testing.assert_close(gated_crf_energy(logits.softmax(1), image, 2, given, KERNELS, factors), expected)
    torch.testing.assert_close(
        GatedCRFLoss(2, KERNELS, factors, reduction="none")(logits, image, given), expected, check_dtype=False
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    logits, image, _ = random_case((24, 24), dtype=torch.float32)
    logits = logits.to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype):
        value = GatedCRFLoss()(logits, image)
    assert value.dtype == torch.float32
    assert torch.equal(value, GatedCRFLoss()(logits.float(), image))
    value.backward()
    assert logits.grad.dtype == dtype
    assert logits.grad.abs().max() > 0
    assert torch.isfinite(logits.grad).all()
    assert GatedCRFLoss()(logits, image.to(dtype)).item() == pytest.approx(value.item(), rel=0.01)


def test_memory_does_not_grow_with_the_window():
    logits, image, _ = random_case((16, 16))
    kept = {}
    for radius in (1, 5):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: (s.append(t.numel()), t)[1], lambda t: t):
            GatedCRFLoss(radius)(logits.requires_grad_(), image)
        kept[radius] = sum(sizes)
    assert 0 < kept[1] == kept[5] < 4 * logits.numel()


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.float16])
def test_energy_of_a_hard_segmentation_by_hand(dtype):
    """Two labels side by side: three pairs across, each counted twice, over twelve voxels."""
    label = torch.zeros(1, 4, 3, dtype=torch.long)
    label[:, 2:] = 1
    image = torch.zeros(1, 1, 4, 3)
    kernels = [{"weight": 0.5, "sigma_xy": 1e6}]
    energy = gated_crf_energy(F.one_hot(label, 2).movedim(-1, 1).to(dtype), image, (1, 0), kernels=kernels)
    assert energy.item() == pytest.approx(0.5 * 2 * 3 / 12)
    assert not energy.requires_grad


def test_an_edge_of_the_image_attracts_the_boundary():
    """Two halves, a boundary predicted two pixels off: descent moves it to the edge, and leaves it there."""
    image = torch.zeros(1, 1, 12, 16)
    image[..., 8:] = 1
    logits = torch.zeros(1, 2, 12, 16)
    logits[:, 1] = torch.where(torch.arange(16) < 10, -1.0, 1.0)
    logits.requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        GatedCRFLoss(3)(logits, image).backward()
        optimizer.step()
    assert torch.equal(logits.argmax(1), image[:, 0].long())


def test_default_kernel_and_radius_are_the_published_ones():
    logits, image, _ = random_case((12, 12))
    published = GatedCRFLoss(5, [{"weight": 1, "sigma_xy": 6, "sigma_intensity": 0.1}])
    assert GatedCRFLoss()(logits, image).item() == published(logits, image).item()


def test_reductions_meta_tensors_and_the_image_gets_no_gradient():
    logits, image, spacing = random_case((6, 5))
    image.requires_grad_()
    none = GatedCRFLoss(reduction="none")(logits.requires_grad_(), image, spacing)
    assert none.shape == (2,)
    assert GatedCRFLoss()(logits, image, spacing).item() == pytest.approx(none.mean().item())
    assert GatedCRFLoss(reduction="sum")(logits, image, spacing).item() == pytest.approx(none.sum().item())
    metas = GatedCRFLoss(reduction="none")(MetaTensor(logits), MetaTensor(image.detach()), MetaTensor(spacing))
    assert torch.equal(metas, none)
    none.sum().backward()
    assert image.grad is None
    assert logits.grad is not None


@pytest.mark.parametrize(
    ("kernels", "message"),
    [
        ([], "at least one"),
        ([{"weight": 1.0}], "weight and sigma_xy"),
        ([{"weight": 1.0, "sigma_xy": 2.0, "rgb": 0.1}], "rgb"),
        ([{"weight": 1.0, "sigma_xy": 0.0}], "finite and > 0"),
        ([{"weight": -1.0, "sigma_xy": 1.0}], "finite and > 0"),
        ([{"weight": 1.0, "sigma_xy": 1.0, "sigma_intensity": math.inf}], "finite and > 0"),
    ],
)
def test_wrong_kernels(kernels, message):
    with pytest.raises(ValueError, match=message):
        GatedCRFLoss(kernels=kernels)


def test_wrong_input():
    logits, image, spacing = random_case((6, 5))
    with pytest.raises(ValueError, match=r"image must have shape \[2, K, 6, 5\], got \[1, 1, 6, 5\]"):
        GatedCRFLoss()(logits, image[:1])
    with pytest.raises(ValueError, match=r"spacing must have shape \[2, 2\], got \[2\]"):
        GatedCRFLoss()(logits, image, spacing[:, 0])
    with pytest.raises(ValueError, match="spatial axes"):
        GatedCRFLoss()(torch.zeros(1, 2, 2, 2, 2, 2), torch.zeros(1, 1, 2, 2, 2, 2))
    for radius in (0, -1, 1.5):
        with pytest.raises(ValueError, match="radius"):
            GatedCRFLoss(radius)(logits, image)
    with pytest.raises(ValueError, match="downsample"):
        GatedCRFLoss(downsample=0)(logits, image)
