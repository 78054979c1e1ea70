"""Losses on every kind of device give value and gradient of a computation in double precision on the CPU."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from sizeloss_monai.constraints import SizeConstraintLoss, VolumeSizeConstraintLoss
from sizeloss_monai.losses import (
    AbsentClassLoss,
    EntropyLoss,
    GatedCRFLoss,
    PartialCrossEntropyLoss,
    PartialDiceLoss,
    WeakSupervisionLoss,
)

GENERATOR = torch.Generator().manual_seed(0)
SHAPE = (3, 3, 6, 7)
LOGITS = 2 * torch.randn(SHAPE, generator=GENERATOR, dtype=torch.float64)
TARGETS = {
    "image": torch.rand(3, 1, 6, 7, generator=GENERATOR, dtype=torch.float64),
    "spacing": torch.tensor([[1.5, 2.0]] * 3),
    "weak_label": torch.tensor([0, 1, 2, 255])[torch.randint(4, (3, 1, 6, 7), generator=GENERATOR)],
    "size_bounds": torch.tensor(
        [[[0, math.inf], [0, 0], [1, 4]], [[0, math.inf], [3, 9], [0, 0]], [[0, 9], [9, 40], [2, 5]]]
    ),
    "volume": torch.tensor([4, 7, 4]),
    "voxel_size": torch.tensor([1.0, 0.5, 2.0]),
}
LOSSES: dict[str, tuple[torch.nn.Module, list[str]]] = {
    "absent_class": (AbsentClassLoss(), ["size_bounds"]),
    "entropy": (EntropyLoss(), ["weak_label"]),
    "gated_crf": (GatedCRFLoss(radius=2), ["image", "spacing"]),
    "partial_cross_entropy": (PartialCrossEntropyLoss(), ["weak_label"]),
    "partial_dice": (PartialDiceLoss(), ["weak_label"]),
    **{
        f"size_{scale}": (SizeConstraintLoss(scale=scale), ["size_bounds", "voxel_size"])
        for scale in ("voxels", "image", "relative", "log")
    },
    "volume_size": (VolumeSizeConstraintLoss(scale="relative"), ["size_bounds", "volume", "voxel_size"]),
}


def value_and_gradient(
    loss: torch.nn.Module, targets: list[Any], device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = LOGITS.to(device, dtype).requires_grad_()
    value = loss(logits, *targets)
    assert value.device.type == device.type
    return value.detach(), torch.autograd.grad(value, logits)[0]


@pytest.mark.parametrize("name", LOSSES)
def test_same_on_every_device(name: str, device: torch.device) -> None:
    loss, keys = LOSSES[name]
    found = value_and_gradient(loss, [TARGETS[key].to(device) for key in keys], device, torch.float32)
    targets = [TARGETS[key].double() if TARGETS[key].is_floating_point() else TARGETS[key] for key in keys]
    expected = value_and_gradient(loss, targets, torch.device("cpu"), torch.float64)
    assert found[1].abs().max() > 0
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.cpu(), b.to(a.dtype), rtol=1e-4, atol=1e-6)


def test_a_weighted_sum_on_every_device(device: torch.device) -> None:
    terms = {name: {"loss": LOSSES[name][0], "target": LOSSES[name][1], "weight": 0.5} for name in LOSSES}
    targets = {key: target.to(device) for key, target in TARGETS.items()}
    total = WeakSupervisionLoss(terms)(LOGITS.to(device), targets)
    single = [LOSSES[name][0](LOGITS.to(device), *(targets[key] for key in LOSSES[name][1])) for name in LOSSES]
    torch.testing.assert_close(total, 0.5 * torch.stack(single).sum())
    assert total.device.type == device.type
