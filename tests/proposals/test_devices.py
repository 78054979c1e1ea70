"""Proposals on every kind of device keep the bounds, and are those of double precision on the CPU."""

from __future__ import annotations

import math

import pytest
import torch

from sizeloss_monai.proposals import LagrangianProposals

LOGITS = 2 * torch.randn(2, 3, 8, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
# several classes with bounds, and one
BOUNDS = {
    "several": torch.tensor([[[0, math.inf], [30, 35], [2, 5]], [[0, 20], [25, math.inf], [25, math.inf]]]),
    "one": torch.tensor([[[0, math.inf], [50, 55], [0, math.inf]], [[0, math.inf], [0, 4], [0, math.inf]]]),
}
WEAK_LABEL = torch.full((2, 1, 8, 9), 255)
WEAK_LABEL[:, :, 3, 4:6] = 1


@pytest.mark.parametrize("solver", ["exact", "gradient_ascent"])
@pytest.mark.parametrize("kind", BOUNDS)
def test_same_on_every_device(kind: str, solver: str, device: torch.device) -> None:
    proposals = LagrangianProposals(solver)
    found = proposals(LOGITS.to(device, torch.float32), WEAK_LABEL.to(device), BOUNDS[kind].to(device))
    expected = proposals(LOGITS, WEAK_LABEL, BOUNDS[kind].double())
    assert found.probabilities.device.type == found.labels().device.type == device.type
    torch.testing.assert_close(found.probabilities.cpu(), expected.probabilities.float(), rtol=1e-3, atol=1e-4)
    assert (found.labels()[:, :, 3, 4:6] == 1).all(), "annotated pixels keep their class"
    if solver == "exact":
        assert found.violation.max() < 0.01
