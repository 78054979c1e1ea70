"""Violation of size bounds by a hard segmentation."""

from __future__ import annotations

from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from monai.utils import MetricReduction

from sizeloss_monai.constraints.penalties import refuse_nan_bounds
from sizeloss_monai.metrics.dice import reduce_defined

__all__ = ["SizeViolationMetric", "size_violation"]

SCOPES = ("slice", "volume")


def size_violation(size: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    r"""How far sizes lie outside their bounds, 0 (inside) to 1.

    With :math:`t` the value within the bounds nearest to the size :math:`V`,

    .. math::
        v = \frac{|V - t|}{V + t}

    so that :math:`1 - v = 2 \min(V, t) / (V + t)` is the highest Dice that a mask of this size can have with any mask
    that keeps the bounds. It has no unit, treats twice and half the size alike, and is 1 for an empty mask of a class
    that is there, as for any mask of a class that is not, bounds ``(0, 0)``.

    Args:
        size: any shape ``[...]``, >= 0.
        bounds: lower and upper bound in the same unit, shape ``[..., 2]``; the upper one may be infinite.

    Returns:
        Violations of the shape of ``size``; NaN where nothing is bounded, ``(0, inf)``.

    Raises:
        ValueError: when a bound is NaN.
    """
    refuse_nan_bounds(bounds)
    lower, upper = bounds.unbind(-1)
    nearest = torch.minimum(torch.maximum(size, lower), upper)
    total = size + nearest
    violation = (size - nearest).abs() / torch.where(total > 0, total, 1)
    return torch.where((lower == 0) & torch.isinf(upper), torch.nan, violation)


class SizeViolationMetric(CumulativeIterationMetric):
    """Violation of the bounds by the size of every class, 0 (inside) to 1, see :func:`size_violation`.

    Classes without bounds, ``(0, inf)``, are NaN, and left out of the mean.

    Example:
        >>> mask = torch.zeros(1, 2, 4, 4, 1)
        >>> mask[:, 1, :2] = 1  # 8 voxels
        >>> metric = SizeViolationMetric()
        >>> bounds = torch.tensor([[[0.0, torch.inf], [1.0, 3.0]]])  # mL
        >>> metric(mask, bounds, voxel_size=torch.tensor([0.75])).item()  # (6 - 3) / (6 + 3)
        0.3333333432674408
    """

    def __init__(
        self,
        per: str = "volume",
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
    ) -> None:
        """
        Args:
            per: what the bounds hold for: a case as a whole (``"volume"``), or each of its slices (``"slice"``).
            include_background: whether class 0 counts too.
            reduction: how cases and classes are reduced by ``aggregate``, as in ``monai.metrics.DiceMetric``.

        Raises:
            ValueError: when ``per`` is neither.
        """
        super().__init__()
        if per not in SCOPES:
            raise ValueError(f"per must be one of {SCOPES}, found {per!r}.")
        self.per = per
        self.include_background = include_background
        self.reduction = reduction

    def _compute_tensor(  # type: ignore[override]
        self, y_pred: torch.Tensor, y: torch.Tensor, voxel_size: torch.Tensor | None = None, **kwargs: Any
    ) -> torch.Tensor:
        """
        Args:
            y_pred: one-hot, shape ``[B, C, *spatial]``.
            y: bounds, shape ``[B, C, 2]``, or ``[B, C, 2, D]`` with those of each slice along the last axis; where
                they hold for a volume, these are shares of its bounds and add up to them.
            voxel_size: the size of one voxel in the bounds' unit, shape ``[B]``; none where that is voxels.
            kwargs: unused.

        Returns:
            Shape ``[B, C - 1]`` (``C`` with the background), float32; of slices the mean over those that are bounded.

        Raises:
            ValueError: when ``y`` or ``voxel_size`` is not of that shape, or ``y`` has no bounds of slices where they
                are needed.
        """
        bounds = y.as_subclass(torch.Tensor).float()
        of_slices = (*y_pred.shape[:2], 2, y_pred.shape[-1])
        if bounds.shape != of_slices and (self.per == "slice" or bounds.shape != of_slices[:-1]):
            shapes = [list(of_slices)] if self.per == "slice" else [list(of_slices[:-1]), list(of_slices)]
            raise ValueError(f"bounds must have shape {' or '.join(map(str, shapes))}, found {list(bounds.shape)}.")
        unit = torch.ones(len(y_pred)) if voxel_size is None else torch.as_tensor(voxel_size).float()
        if unit.shape != (len(y_pred),):
            raise ValueError(f"voxel_size must have shape [{len(y_pred)}], found {list(unit.shape)}.")
        mask = y_pred.as_subclass(torch.Tensor) > 0
        voxels = mask.flatten(2, -2).sum(dim=2)  # [B, C, D], exact
        unit, bounds = unit.to(voxels.device), bounds.to(voxels.device)
        if self.per == "slice":
            violation = size_violation(voxels * unit[:, None, None], bounds.movedim(2, -1)).nanmean(dim=-1)
        else:
            of_case = bounds.sum(dim=-1) if bounds.ndim == len(of_slices) else bounds
            violation = size_violation(voxels.sum(dim=-1) * unit[:, None], of_case)
        return violation if self.include_background else violation[:, 1:]

    def aggregate(self, reduction: MetricReduction | str | None = None) -> torch.Tensor:
        """
        Args:
            reduction: overrides the one given at construction.

        Returns:
            The mean, say; NaN where no class of any case is bounded.
        """
        return reduce_defined(self.get_buffer(), reduction or self.reduction)
