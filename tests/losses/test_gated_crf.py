"""The gated CRF loss against a loop over all pairs."""

import itertools
import math

import pytest
import torch

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
