"""Dice of the slices of a volume."""

from __future__ import annotations

from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric, compute_dice, do_metric_reduction
from monai.utils import MetricReduction

__all__ = ["SliceDiceMetric"]


class SliceDiceMetric(CumulativeIterationMetric):
    """Mean 2D Dice over the slices of each volume, along its last axis.

    A slice empty in both prediction and truth counts as 1, one empty in only one of them as 0, as in the published
    code of Kervadec et al. 2019.
    """

    def __init__(self, include_background: bool = False, reduction: MetricReduction | str = "mean") -> None:
        """
        Args:
            include_background: whether class 0 counts.
            reduction: how volumes and classes are reduced by ``aggregate``, as in ``monai.metrics.DiceMetric``.
        """
        super().__init__()
        self.include_background = include_background
        self.reduction = reduction

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **kwargs: Any) -> torch.Tensor:  # type: ignore[override]
        """
        Args:
            y_pred: one-hot, shape ``[B, C, H, W, D]``.
            y: of the same shape.
            kwargs: unused.

        Returns:
            Mean over the slices, shape ``[B, C]`` (``C - 1`` without the background).

        Raises:
            ValueError: when ``y_pred`` is no batch of volumes.
        """
        if y_pred.ndim != 5:
            raise ValueError(f"y_pred must have shape [B, C, H, W, D], found {list(y_pred.shape)}.")
        per_volume = [
            compute_dice(p.movedim(-1, 0), t.movedim(-1, 0), self.include_background, ignore_empty=False).mean(dim=0)
            for p, t in zip(torch.as_tensor(y_pred), torch.as_tensor(y), strict=True)
        ]
        return torch.stack(per_volume)

    def aggregate(self, reduction: MetricReduction | str | None = None) -> torch.Tensor:
        """
        Args:
            reduction: overrides the one given at construction.
        """
        values, _ = do_metric_reduction(self.get_buffer(), reduction or self.reduction)
        return values
