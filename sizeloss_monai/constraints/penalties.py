"""Violations of lower and upper bounds, the common part of every penalty."""

from __future__ import annotations

import torch

__all__ = ["bound_violations", "refuse_nan_bounds"]


def refuse_nan_bounds(bounds: torch.Tensor) -> None:
    """Raise where a bound is NaN: every comparison with it is false, so that it would constrain nothing.

    Args:
        bounds: any shape. On another device than the CPU the host waits once.

    Raises:
        ValueError: when one is NaN.
    """
    if bool(bounds.isnan().any()):
        raise ValueError(f"bounds must not be NaN, found {bounds.tolist()}.")


def bound_violations(value: torch.Tensor, bounds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How far each value lies below its lower and above its upper bound.

    Args:
        value: any shape ``[...]``.
        bounds: shape ``[..., 2]``, lower bound ``a`` and upper bound ``b`` in the unit of ``value``;
            ``-inf`` and ``inf`` switch a side off.

    Returns:
        ``(max(a - value, 0), max(value - b, 0))``, each of the shape of ``value``; NaN where the value or the
        bound is.
    """
    lower, upper = bounds.unbind(-1)
    return torch.relu(lower - value), torch.relu(value - upper)
