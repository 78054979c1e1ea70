"""Dice by slice, and on annotated voxels."""

from __future__ import annotations

from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric, DiceMetric, compute_dice, do_metric_reduction
from monai.utils import MetricReduction

from sizeloss_monai.data.label_ids import DEFAULT_IGNORE_INDEX

__all__ = ["AnnotatedDiceMetric", "SliceDiceMetric", "reduce_defined"]


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


class AnnotatedDiceMetric(DiceMetric):
    r"""Dice of every class over the annotated voxels :math:`\Omega_L` alone, for validation without full masks.

    .. math::
        D_c = \frac{2 |P_c \cap Y_c|}{|P_c \cap \Omega_L| + |Y_c|}

    with prediction :math:`P_c` and annotation :math:`Y_c \subseteq \Omega_L`. It sees a false positive only where
    another class is annotated: with nothing annotated as background a prediction that covers everything scores 1, and
    narrow bounds on the size have to tell it from a good one.

    A class annotated nowhere in a case is not defined there: it is NaN, and left out of the mean.

    Example:
        >>> weak_label = torch.tensor([[[[1, 1, 255, 0]]]])
        >>> prediction = torch.tensor([[[[0, 1, 1, 0]]]])
        >>> metric = AnnotatedDiceMetric()
        >>> _ = metric(torch.cat([1 - prediction, prediction], dim=1), weak_label)
        >>> round(metric.aggregate().item(), 4)  # 2 * 1 / (1 + 2)
        0.6667
    """

    def __init__(
        self,
        include_background: bool = False,
        ignore_index: int = DEFAULT_IGNORE_INDEX,
        reduction: MetricReduction | str = MetricReduction.MEAN,
    ) -> None:
        """
        Args:
            include_background: whether class 0 counts too.
            ignore_index: value of unannotated voxels.
            reduction: how cases and classes are reduced by ``aggregate``, as in ``monai.metrics.DiceMetric``.
        """
        super().__init__(include_background=include_background, reduction=reduction, ignore_index=ignore_index)

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **kwargs: Any) -> torch.Tensor:  # type: ignore[override]
        """
        Args:
            y_pred: one-hot, shape ``[B, C, *spatial]``, ``C >= 2``.
            y: class ids and ``ignore_index``, shape ``[B, 1, *spatial]``.
            kwargs: unused.

        Returns:
            Shape ``[B, C - 1]`` (``C`` with the background), float32.

        Raises:
            ValueError: when ``y`` is not of that shape.
        """
        if y.shape != (len(y_pred), 1, *y_pred.shape[2:]):
            raise ValueError(
                f"y must hold class ids, shape {[len(y_pred), 1, *y_pred.shape[2:]]}, found {list(y.shape)}."
            )
        ids = y.as_subclass(torch.Tensor).long()
        return super()._compute_tensor(y_pred.as_subclass(torch.Tensor).float(), ids).float()

    def aggregate(self, reduction: MetricReduction | str | None = None) -> torch.Tensor:
        """
        Args:
            reduction: overrides the one given at construction.

        Returns:
            The mean, say; NaN where nothing is annotated at all.
        """
        return reduce_defined(self.get_buffer(), reduction or self.reduction)


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
