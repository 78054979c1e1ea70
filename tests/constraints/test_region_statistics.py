import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sizeloss_monai.constraints import class_probabilities, soft_size

HALVES = [torch.float16, torch.bfloat16]
shapes = st.tuples(
    st.integers(1, 3), st.integers(2, 5), st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(0, 2**32 - 1)
)


def draw_logits(shape, scale=3.0):
    batch, channels, spatial, seed = shape
    return np.random.default_rng(seed).normal(scale=scale, size=(batch, channels, *spatial))


@settings(deadline=None, max_examples=50)
@given(shapes)
def test_probabilities_are_the_softmax_over_channels(shape):
    logits = draw_logits(shape)
    exp = np.exp(logits)
    probabilities = class_probabilities(torch.from_numpy(logits)).numpy()
    np.testing.assert_allclose(probabilities, exp / exp.sum(1, keepdims=True), rtol=1e-12)


@settings(deadline=None, max_examples=50)
@given(shapes)
def test_soft_size_is_the_sum_over_voxels(shape):
    probabilities = np.abs(draw_logits(shape))
    sizes = soft_size(torch.from_numpy(probabilities))
    assert sizes.shape == probabilities.shape[:2]
    for b, c in np.ndindex(*sizes.shape):
        assert sizes[b, c].item() == pytest.approx(math.fsum(probabilities[b, c].ravel()), rel=1e-12)


@settings(deadline=None, max_examples=30)
@given(shapes)
def test_sizes_of_all_classes_fill_the_image(shape):
    logits = torch.from_numpy(draw_logits(shape))
    sizes = soft_size(class_probabilities(logits))
    torch.testing.assert_close(sizes.sum(1), torch.full((len(logits),), float(logits[0, 0].numel())).double())


def test_hard_prediction_has_the_size_of_its_argmax():
    label = torch.zeros(1, 6, 7, dtype=torch.long)
    label[0, 2:5, 1:6] = 1
    logits = 1000.0 * torch.nn.functional.one_hot(label, 2).movedim(-1, 1)
    assert soft_size(class_probabilities(logits)).tolist() == [[27.0, 15.0]]


@pytest.mark.parametrize("spatial", [(3, 2), (2, 2, 2)])
def test_gradcheck(spatial):
    logits = torch.randn(2, 3, *spatial, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: soft_size(class_probabilities(z)), logits)


def test_gradient_of_the_size_is_one_at_every_voxel():
    probabilities = torch.rand(2, 3, 4, 4, requires_grad=True)
    soft_size(probabilities).sum().backward()
    assert torch.equal(probabilities.grad, torch.ones_like(probabilities))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("edge", [256, 512])
def test_half_precision_sums_neither_overflow_nor_stall(dtype, autocast, edge):
    ones = torch.ones(1, 2, edge, edge, dtype=dtype)
    with torch.autocast("cpu", dtype, enabled=autocast):
        sizes = soft_size(ones)
    assert sizes.dtype == torch.float32
    assert sizes.tolist() == [[edge**2, edge**2]]


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_probabilities_are_those_of_float32(dtype):
    logits = (5 * torch.randn(1, 4, 32, 32)).to(dtype)
    expected = torch.softmax(logits.float(), 1)
    with torch.autocast("cpu", dtype):
        assert torch.equal(class_probabilities(logits), expected)
    assert torch.equal(class_probabilities(logits), expected)


def test_float64_is_kept():
    logits = torch.zeros(1, 2, 3, 3, dtype=torch.float64)
    assert class_probabilities(logits).dtype == soft_size(logits).dtype == torch.float64
