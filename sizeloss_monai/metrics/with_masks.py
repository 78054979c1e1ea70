"""Metrics against full masks: Dice per slice, and the Hausdorff distance in mm."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from monai.data import MetaTensor
from monai.metrics import CumulativeIterationMetric, HausdorffDistanceMetric, compute_dice, do_metric_reduction
from monai.utils import MetricReduction

__all__ = ["DefinedMeanMetric", "HausdorffDistanceMMMetric", "SliceDiceMetric"]


class DefinedMeanMetric(CumulativeIterationMetric):
    """A metric of cases and classes that reduces as MONAI's, but gives NaN where nothing is defined.

    MONAI gives 0 there, a score like any other.
    """

    reduction: MetricReduction | str = MetricReduction.MEAN

    def aggregate(self, reduction: MetricReduction | str | None = None) -> torch.Tensor:
        """Reduce over cases and classes; ``reduction`` overrides that of the metric."""
        reduced, defined = do_metric_reduction(self.get_buffer(), reduction or self.reduction)
        return torch.where(torch.as_tensor(defined) > 0, torch.as_tensor(reduced), torch.nan)


class SliceDiceMetric(DefinedMeanMetric):
    """Mean 2D Dice over the slices of each volume, along its last axis.

    A slice that is empty in prediction and truth counts as 1, a slice that is empty in one of them as 0, as in the
    published code of Kervadec et al. 2019.

    Args:
        include_background: whether class 0 counts.
        reduction: over volumes and classes, as in ``monai.metrics.DiceMetric``.
    """

    def __init__(self, include_background: bool = False, reduction: MetricReduction | str = "mean") -> None:
        super().__init__()
        self.include_background = include_background
        self.reduction = reduction

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **kwargs: Any) -> torch.Tensor:  # type: ignore[override]
        """Means over slices, shape ``[B, C]`` (``C - 1`` without the background).

        Args:
            y_pred: one-hot, shape ``[B, C, H, W, D]``.
            y: one-hot, same shape.
            kwargs: unused.

        Raises:
            ValueError: when ``y_pred`` has another shape.
        """
        if y_pred.ndim != 5:
            raise ValueError(f"y_pred must have shape [B, C, H, W, D], got {list(y_pred.shape)}.")
        per_volume = [
            compute_dice(p.movedim(-1, 0), t.movedim(-1, 0), self.include_background, ignore_empty=False).mean(dim=0)
            for p, t in zip(torch.as_tensor(y_pred), torch.as_tensor(y), strict=True)
        ]
        return torch.stack(per_volume)


class HausdorffDistanceMMMetric(HausdorffDistanceMetric):
    """MONAI's ``HausdorffDistanceMetric`` in mm, with the voxel spacing of each truth's affine.

    Where prediction or truth is empty the distance is NaN, and does not count.
    """

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **kwargs: Any) -> torch.Tensor:  # type: ignore[override]
        """
        Args:
            y_pred: one-hot, shape ``[1, C, *spatial]``.
            y: one-hot ``MetaTensor``, same shape.
            kwargs: those of MONAI's metric but ``spacing``.

        Raises:
            TypeError: when ``y`` has no affine.
            ValueError: when ``y`` is a batch of several items, which may differ in spacing: give a list instead.
        """
        if not isinstance(y, MetaTensor):
            raise TypeError(f"y must be a MetaTensor, whose affine gives the spacing in mm, got {type(y).__name__}.")
        if y.shape[0] != 1:
            raise ValueError(f"y must hold one item (or be a list of items), got a batch of {y.shape[0]}.")
        spacing = torch.as_tensor(y.pixdim).reshape(-1)[: y.ndim - 2].tolist()
        with warnings.catch_warnings():
            # the NaN already says that a mask is empty; MONAI itself passes the deprecated argument
            warnings.filterwarnings("ignore", message=".* may result in nan/inf distance")
            warnings.filterwarnings("ignore", message=".*always_return_as_numpy")
            distance = super()._compute_tensor(y_pred, y, spacing=spacing, **kwargs)
        return torch.where(torch.isfinite(distance), distance, torch.nan)

    def aggregate(
        self, reduction: MetricReduction | str | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """As MONAI's metric, but NaN, not 0, where no distance is defined."""
        values = super().aggregate(reduction)
        if not torch.isnan(torch.as_tensor(self.get_buffer())).all():
            return values
        if isinstance(values, tuple):
            return torch.full_like(values[0], torch.nan), values[1]
        return torch.full_like(values, torch.nan)
