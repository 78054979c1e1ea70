"""Dice over annotated voxels."""

from __future__ import annotations

from typing import Any

import torch
from monai.metrics import DiceMetric
from monai.utils import MetricReduction

from sizeloss_monai.metrics.reduction import reduce_defined

__all__ = ["AnnotatedDiceMetric"]

DEFAULT_IGNORE_INDEX = 255


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
