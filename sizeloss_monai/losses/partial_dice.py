"""Dice over annotated voxels only."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss
from monai.utils import LossReduction

from sizeloss_monai.constraints.statistics import at_least_float32
from sizeloss_monai.data.label_ids import DEFAULT_IGNORE_INDEX
from sizeloss_monai.losses.partial_cross_entropy import check_class_ids

__all__ = ["PartialDiceLoss"]


class PartialDiceLoss(DiceLoss):
    r"""Soft Dice loss over the annotated voxels of a batch, averaged over the classes annotated there.

    .. math::
        L = \frac{1}{|K|} \sum_{k \in K} \left(1 - \frac{2 \sum_{p \in \Omega_L} S_{k,p}\, [y_p = k]}
        {\sum_{p \in \Omega_L} S_{k,p} + [y_p = k]}\right), \quad K = \{y_p : p \in \Omega_L\}

    MONAI computes the sums, with its ``ignore_index`` and ``batch=True``. There a class without annotated voxels in the
    batch counts as a loss of 1, which outweighs the others where annotations are few. Here it does not count, and a
    batch without annotated voxels gives 0 with zero gradients.

    Args:
        ignore_index: value of unannotated voxels in ``target``.
        include_background: whether class 0 counts as a class; voxels annotated as 0 always count for the others.

    Example:
        >>> loss = PartialDiceLoss()
        >>> logits = torch.zeros(1, 3, 4, 4)
        >>> weak_label = torch.full((1, 1, 4, 4), 255)
        >>> weak_label[..., 0, 0], weak_label[..., 3, 3] = 0, 1
        >>> round(loss(logits, weak_label).item(), 4)  # 1 - 2 (1/3) / (2/3 + 1), for either class
        0.6
    """

    def __init__(self, ignore_index: int = DEFAULT_IGNORE_INDEX, include_background: bool = True) -> None:
        super().__init__(
            include_background=include_background,
            to_onehot_y=True,
            softmax=True,
            batch=True,
            reduction=LossReduction.NONE,
            ignore_index=ignore_index,
        )

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """
        Args:
            input: logits, shape ``[B, C, *spatial]``, ``C >= 2``.
            target: class ids, shape ``[B, 1, *spatial]``, ``ignore_index`` where not annotated.

        Raises:
            ValueError: when ``target`` has another shape, or ``input`` has fewer than two channels.
        """
        if input.shape[1] < 2:
            raise ValueError("input must have at least two channels, got one.")
        check_class_ids(target, input)
        with torch.autocast(input.device.type, enabled=False):
            losses = super().forward(at_least_float32(input), target).flatten()
            classes = torch.arange(0 if self.include_background else 1, input.shape[1], device=target.device)
            annotated = torch.isin(classes, target.long()) & (classes != self.ignore_index)
            return torch.where(annotated, losses, 0).sum() / annotated.sum().clamp(min=1)
