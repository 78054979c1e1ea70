"""Reduction of metrics that are not defined everywhere."""

from __future__ import annotations

import torch
from monai.metrics import do_metric_reduction
from monai.utils import MetricReduction

__all__ = ["reduce_defined"]


def reduce_defined(values: torch.Tensor, reduction: MetricReduction | str) -> torch.Tensor:
    """MONAI's reduction, but NaN, not 0, where nothing is defined: 0 would be a score like any other.

    Args:
        values: of cases and classes, shape ``[B, C]``, NaN where not defined.
        reduction: as in ``monai.metrics.DiceMetric``.

    Returns:
        The values that are left.
    """
    reduced, defined = do_metric_reduction(values, reduction)
    return torch.where(torch.as_tensor(defined) > 0, torch.as_tensor(reduced), torch.nan)
