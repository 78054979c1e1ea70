"""Penalties on values outside their bounds."""

from __future__ import annotations

from typing import Literal

import torch

__all__ = ["Scale", "Sides", "bound_violations", "check_bounds_shape", "quadratic_penalty", "refuse_nan_bounds"]

Scale = Literal["voxels", "image", "relative", "log"]
Sides = Literal["both", "lower", "upper"]

SMALLEST_RATIO = 1e-12
"""``"log"`` grows no more below this ratio of a size to its lower bound: float32 softmax can underflow to 0."""


def check_bounds_shape(bounds: torch.Tensor, logits: torch.Tensor) -> None:
    """Raise ValueError unless ``bounds`` has shape ``[B, C, 2]`` where ``logits`` has ``[B, C, *spatial]``."""
    if bounds.shape != (*logits.shape[:2], 2):
        raise ValueError(f"bounds must have shape {[*logits.shape[:2], 2]}, got {list(bounds.shape)}.")


def refuse_nan_bounds(bounds: torch.Tensor) -> None:
    """Raise ValueError where a bound is NaN. Every comparison with NaN is false, so it would constrain nothing.

    On a device other than the CPU the host waits once.
    """
    if bool(bounds.isnan().any()):
        raise ValueError(f"bounds must not be NaN, got {bounds.tolist()}.")


def bound_violations(value: torch.Tensor, bounds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How far each value lies below its lower and above its upper bound.

    Args:
        value: any shape ``[...]``.
        bounds: lower bound ``a`` and upper bound ``b`` in the unit of ``value``, shape ``[..., 2]``; ``-inf`` and
            ``inf`` switch a side off.

    Returns:
        ``(max(a - value, 0), max(value - b, 0))``, both shaped as ``value``; NaN where the value or the bound is NaN.
    """
    lower, upper = bounds.unbind(-1)
    return torch.relu(lower - value), torch.relu(value - upper)


def quadratic_penalty(
    size: torch.Tensor, bounds: torch.Tensor, extent: torch.Tensor, scale: Scale, sides: Sides
) -> torch.Tensor:
    """Penalty of measured sizes (Kervadec et al. 2019, Eq. 3).

    Args:
        size: shape ``[B, C]``, float32 or float64.
        bounds: shape ``[B, C, 2]``, in the dtype and unit of ``size``.
        extent: size of the whole item, shape ``[B, 1]``, in the same unit.
        scale, sides: see :class:`~sizeloss_monai.constraints.SizeConstraintLoss`.

    Returns:
        Penalties, shape ``[B, C]``; NaN where a size is NaN.

    Raises:
        ValueError: when a bound is NaN.
    """
    refuse_nan_bounds(bounds)
    below, above = bound_violations(size, bounds)
    if scale in ("relative", "log"):
        lower, upper = bounds.unbind(-1)
        # an absent target has b = 0: there the share of the image is the only scale-free measure
        below = below / torch.where(lower > 0, lower, extent)
        above = above / torch.where(upper > 0, upper, extent)
    if scale == "log":
        ratio = torch.where(lower > 0, size / torch.where(lower > 0, lower, 1), 1)
        below = torch.relu(-torch.log(ratio.clamp(min=SMALLEST_RATIO)))
        above = torch.where(upper > 0, torch.log1p(above), above)
    zero = torch.zeros_like(size)
    penalty = (zero if sides == "upper" else below.square()) + (zero if sides == "lower" else above.square())
    return penalty / extent if scale == "image" else penalty
