import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from sizeloss_monai.constraints import SizeConstraintLoss
from sizeloss_monai.losses import AbsentClassLoss

INF = math.inf
FREE, ABSENT, PRESENT = (0.0, INF), (0.0, 0.0), (1.0, 20.0)


@given(
    seed=st.integers(0, 10**6),
    kinds=st.lists(st.sampled_from([FREE, ABSENT, PRESENT]), min_size=9, max_size=9),
    spatial=st.sampled_from([(4, 5), (2, 3, 4)]),
)
@settings(max_examples=40, deadline=None)
def test_equation_by_hand(seed, kinds, spatial):
    logits = torch.randn(3, 3, *spatial, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    bounds = torch.tensor(kinds).reshape(3, 3, 2)
    soft = logits.softmax(1)
    pairs = [(i, k) for i in range(3) for k in range(3) if kinds[3 * i + k] == ABSENT]
    expected = sum(-torch.log(1 - soft[i, k]).mean() for i, k in pairs) / max(len(pairs), 1)
    assert AbsentClassLoss()(logits, bounds).item() == pytest.approx(float(expected), rel=1e-10)


def test_none_absent_is_zero_with_zero_gradients():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    value = AbsentClassLoss()(logits, torch.tensor([FREE, PRESENT, FREE]).expand(2, 3, 2))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("logit", [-1000.0, 0.0, 30.0, 1000.0])
def test_stable_where_the_network_is_certain(dtype, logit):
    logits = torch.zeros(1, 2, 4, 4, dtype=dtype)
    logits[:, 1] = logit
    logits.requires_grad_()
    value = AbsentClassLoss()(logits, torch.tensor([[FREE, ABSENT]]))
    value.backward()
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert value.item() == pytest.approx(max(logit, 0) + math.log1p(math.exp(-abs(logit))), rel=1e-6)
    share = 1 / (1 + math.exp(-max(logit, -700)))
    torch.testing.assert_close(logits.grad[:, 1], torch.full_like(logits[:, 1], share / 16))


def test_gradient_where_the_quadratic_penalty_has_none():
    logits = torch.zeros(1, 2, 4, 4)
    logits[:, 1] = 50.0
    bounds = torch.tensor([[FREE, ABSENT]])
    gradients = []
    for loss in (SizeConstraintLoss(), AbsentClassLoss()):
        leaf = logits.clone().requires_grad_()
        loss(leaf, bounds).backward()
        gradients.append(leaf.grad.abs().max().item())
    assert gradients[0] < 1e-15
    assert gradients[1] == pytest.approx(1 / 16)


def test_gradcheck():
    logits = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    bounds = torch.tensor([FREE, ABSENT, PRESENT, FREE, ABSENT, ABSENT]).reshape(2, 3, 2)
    assert torch.autograd.gradcheck(lambda z: AbsentClassLoss()(z, bounds), logits)


def test_autocast_and_meta_tensors():
    logits, bounds = torch.randn(2, 2, 8, 8), torch.tensor([FREE, ABSENT]).expand(2, 2, 2)
    expected = AbsentClassLoss()(logits, bounds).item()
    with torch.autocast("cpu", torch.bfloat16):
        assert AbsentClassLoss()(logits, bounds).item() == expected
    assert AbsentClassLoss()(MetaTensor(logits), MetaTensor(bounds)).item() == expected


def test_wrong_shapes():
    with pytest.raises(ValueError, match=r"bounds must have shape \[2, 2, 2\], got \[2, 3, 2\]"):
        AbsentClassLoss()(torch.zeros(2, 2, 4, 4), torch.zeros(2, 3, 2))
    with pytest.raises(ValueError, match="two channels"):
        AbsentClassLoss()(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 2))


@pytest.mark.parametrize("pair", [(math.nan, 0.0), (0.0, math.nan)])
def test_a_bound_that_is_nan_is_refused(pair):
    with pytest.raises(ValueError, match="bounds must not be NaN, got"):
        AbsentClassLoss()(torch.zeros(1, 2, 4, 4), torch.tensor([[FREE, pair]]))
