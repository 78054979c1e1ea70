"""Violations of lower and upper bounds, the common part of every penalty."""

from __future__ import annotations

import torch

__all__ = ["bound_violations"]


def bound_violations(value: torch.Tensor, bounds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How far each value lies below its lower and above its upper bound.

    Args:
        value: any shape ``[...]``.
        bounds: shape ``[..., 2]``, lower bound ``a`` and upper bound ``b`` in the unit of ``value``;
            ``-inf`` and ``inf`` switch a side off.

    Returns:
        ``(max(a - value, 0), max(value - b, 0))``, each of the shape of ``value``.
    """
    lower, upper = bounds.unbind(-1)
    return torch.relu(lower - value), torch.relu(value - upper)
