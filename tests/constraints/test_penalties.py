import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sizeloss_monai.constraints import bound_violations

sizes = st.floats(0, 1e5, width=32)


@settings(deadline=None, max_examples=100)
@given(sizes, sizes, sizes)
def test_distance_to_the_interval(value, one, other):
    lower, upper = sorted((one, other))
    below, above = bound_violations(torch.tensor(value).double(), torch.tensor([lower, upper]).double())
    assert below.item() == (lower - value if value < lower else 0.0)
    assert above.item() == (value - upper if value > upper else 0.0)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4)])
def test_any_shape(shape):
    value = torch.full(shape, 7.0)
    bounds = torch.tensor([8.0, 9.0]).expand(*shape, 2)
    below, above = bound_violations(value, bounds)
    assert torch.equal(below, torch.ones(shape))
    assert torch.equal(above, torch.zeros(shape))


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((-math.inf, math.inf), (0, 0)),
        ((0, math.inf), (0, 0)),
        ((-math.inf, 3), (0, 4)),
        ((9, math.inf), (2, 0)),
        ((0, 0), (0, 7)),
        ((7, 7), (0, 0)),
        ((1, 7), (0, 0)),
    ],
)
def test_sides_switched_off(bounds, expected):
    value = torch.tensor(7.0, requires_grad=True)
    below, above = bound_violations(value, torch.tensor(bounds, dtype=torch.float32))
    assert (below.item(), above.item()) == expected
    (below + above).backward()
    assert value.grad.item() == (expected[1] > 0) - (expected[0] > 0)  # finite, never NaN
