"""Networks on every kind of device give what double precision on the CPU gives, and train."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial

import pytest
import torch

from sizeloss_monai.networks import ENet, FusionNet

NETWORKS: dict[str, Callable[[], torch.nn.Module]] = {
    "enet": partial(ENet, out_channels=3),
    "fusion_net": partial(FusionNet, out_channels=3, channels=(4, 8, 16)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_same_on_every_device(name: str, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # its convolutions round to 10 bits
    torch.manual_seed(0)
    expected = NETWORKS[name]().eval()
    image = torch.rand(2, 1, 32, 16)
    found = deepcopy(expected).to(device)
    with torch.no_grad():
        logits = found(image.to(device))
        assert logits.device.type == device.type
        torch.testing.assert_close(logits.cpu(), expected.double()(image.double()).float(), rtol=1e-3, atol=1e-4)
    found.train()(image.to(device)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in found.parameters())
