"""Hausdorff distance in mm."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from monai.data import MetaTensor
from monai.metrics import HausdorffDistanceMetric
from monai.utils import MetricReduction

__all__ = ["HausdorffDistanceMMMetric"]


class HausdorffDistanceMMMetric(HausdorffDistanceMetric):
    """MONAI's ``HausdorffDistanceMetric`` with the voxel spacing of each truth's own affine, in mm.

    Where prediction or truth is empty the distance is not defined: it is NaN, and left out of the mean.
    """

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **kwargs: Any) -> torch.Tensor:  # type: ignore[override]
        """
        Args:
            y_pred: one-hot, shape ``[1, C, *spatial]``.
            y: of the same shape, a ``MetaTensor``.
            kwargs: as in MONAI's metric; ``spacing`` is set here.

        Raises:
            TypeError: when ``y`` has no affine.
            ValueError: when it is a batch of several items, which may differ in spacing: give a list instead.
        """
        if not isinstance(y, MetaTensor):
            raise TypeError(f"y must be a MetaTensor to know its spacing in mm, found {type(y).__name__}.")
        if y.shape[0] != 1:
            raise ValueError(f"y must hold one item (a list of items is fine), found a batch of {y.shape[0]}.")
        spacing = torch.as_tensor(y.pixdim).reshape(-1)[: y.ndim - 2].tolist()
        with warnings.catch_warnings():
            # an empty mask is what the NaN says, and the deprecated argument is one that MONAI gives itself
            warnings.filterwarnings("ignore", message=".* may result in nan/inf distance")
            warnings.filterwarnings("ignore", message=".*always_return_as_numpy")
            distance = super()._compute_tensor(y_pred, y, spacing=spacing, **kwargs)
        return torch.where(torch.isfinite(distance), distance, torch.nan)

    def aggregate(
        self, reduction: MetricReduction | str | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            reduction: overrides the one given at construction.

        Returns:
            As MONAI's metric, but NaN, not 0, where no distance is defined at all.
        """
        values = super().aggregate(reduction)
        if not torch.isnan(torch.as_tensor(self.get_buffer())).all():
            return values
        if isinstance(values, tuple):
            return torch.full_like(values[0], torch.nan), values[1]
        return torch.full_like(values, torch.nan)
