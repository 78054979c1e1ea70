import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from sizeloss_monai.losses import EntropyLoss, WeakSupervisionLoss


@given(seed=st.integers(0, 10**6), classes=st.integers(2, 5), annotated=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_equals_scipys_entropy(seed, classes, annotated):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, classes, 4, 5, generator=generator, dtype=torch.float64)
    weak_label = torch.where(torch.rand(2, 1, 4, 5, generator=generator) < annotated, 1, 255)
    expected = torch.from_numpy(entropy(logits.softmax(1).numpy(), axis=1, base=classes))
    assert EntropyLoss()(logits).item() == pytest.approx(expected.mean().item(), rel=1e-10)
    chosen = expected[weak_label[:, 0] == 255]
    value = EntropyLoss()(logits, weak_label).item()
    assert value == pytest.approx(chosen.mean().item() if len(chosen) else 0, rel=1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_certain_predictions_have_none(dtype):
    logits = torch.zeros(1, 3, 256, 256, dtype=dtype)
    assert EntropyLoss()(logits).item() == pytest.approx(1, rel=1e-5)
    logits[:, 2] = 5000
    logits.requires_grad_()
    value = EntropyLoss()(logits)
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_every_voxel_annotated_is_zero_with_zero_gradients():
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    value = EntropyLoss()(logits, torch.ones(1, 1, 4, 4))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_gradcheck():
    logits = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    weak_label = torch.where(torch.rand(2, 1, 2, 3) < 0.5, 0, 4)
    weak_label[0, 0, 0, 0] = 4
    assert torch.autograd.gradcheck(EntropyLoss(), logits)
    assert torch.autograd.gradcheck(lambda z: EntropyLoss(ignore_index=4)(z, weak_label), logits)


def test_descent_decides():
    logits = torch.zeros(1, 2, 4, 4)
    logits[:, 1, :2] = 0.1
    logits.requires_grad_()
    optimizer = torch.optim.SGD([logits], lr=50)
    for _ in range(100):
        optimizer.zero_grad()
        EntropyLoss()(logits).backward()
        optimizer.step()
    assert logits.softmax(1)[0, 1, :2].min() > 0.9
    assert logits.softmax(1)[0, 1, 2:].max() <= 0.5


def test_a_term_without_a_target():
    loss = WeakSupervisionLoss({"entropy": {"loss": EntropyLoss(), "target": [], "weight": 0.1}})
    assert loss(torch.zeros(1, 2, 4, 4), {}).item() == pytest.approx(0.1)


def test_wrong_shapes():
    with pytest.raises(ValueError, match=r"shape \[2, 1, 4, 4\], got \[1, 1, 4, 4\]"):
        EntropyLoss()(torch.zeros(2, 3, 4, 4), torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match="two channels"):
        EntropyLoss()(torch.zeros(2, 1, 4, 4))
    assert math.isfinite(EntropyLoss()(torch.zeros(2, 2, 4, 4)).item())
