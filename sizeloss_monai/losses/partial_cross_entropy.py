"""Cross-entropy over annotated voxels only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.utils import LossReduction
from torch.nn.modules.loss import _Loss

from sizeloss_monai.constraints.statistics import at_least_float32
from sizeloss_monai.data.label_ids import DEFAULT_IGNORE_INDEX

__all__ = ["PartialCrossEntropyLoss", "check_class_ids", "partial_cross_entropy"]


def partial_cross_entropy(
    logits: torch.Tensor,
    target: torch.Tensor,
    ignore_index: int = DEFAULT_IGNORE_INDEX,
    include_background: bool = True,
    reduction: LossReduction | str = LossReduction.MEAN,
    per_item: bool = False,
) -> torch.Tensor:
    """The pure function of :class:`PartialCrossEntropyLoss`, which explains the arguments."""
    check_class_ids(target, logits)
    reduction = LossReduction(reduction)
    ids = target.squeeze(1).long()
    if not include_background:
        ids = torch.where(ids == 0, ignore_index, ids)
    with torch.autocast(logits.device.type, enabled=False):
        wide = at_least_float32(logits)
        if reduction == LossReduction.NONE:
            return F.cross_entropy(wide, ids, ignore_index=ignore_index, reduction="none")
        if reduction == LossReduction.MEAN and per_item:
            return _mean_of_item_means(wide, ids, ignore_index)
        total = F.cross_entropy(wide, ids, ignore_index=ignore_index, reduction="sum")
        if reduction == LossReduction.SUM:
            return total
        # cross_entropy's own mean is 0 / 0 where nothing is annotated
        return total / (ids != ignore_index).sum().clamp(min=1)


def check_class_ids(target: torch.Tensor, logits: torch.Tensor) -> None:
    """Raise ValueError unless ``target`` has shape ``[B, 1, *spatial]`` where ``logits`` has ``[B, C, *spatial]``."""
    expected = [logits.shape[0], 1, *logits.shape[2:]]
    if list(target.shape) != expected:
        raise ValueError(f"target must hold class ids, shape {expected}, got {list(target.shape)}.")


def _mean_of_item_means(logits: torch.Tensor, ids: torch.Tensor, ignore_index: int) -> torch.Tensor:
    """Each item's mean over its annotated voxels, averaged over the items that have any."""
    values = F.cross_entropy(logits, ids, ignore_index=ignore_index, reduction="none").flatten(1)
    annotated = (ids != ignore_index).flatten(1).sum(dim=1)
    means = values.sum(dim=1) / annotated.clamp(min=1)
    return means.sum() / (annotated > 0).sum().clamp(min=1)


class PartialCrossEntropyLoss(_Loss):
    r"""Cross-entropy over the annotated voxels :math:`\Omega_L` only (Kervadec et al. 2019, section 3).

    .. math::
        H(S) = -\sum_{p \in \Omega_L} \log S_{p, y_p}

    A batch without annotated voxels gives 0 with zero gradients.

    Args:
        ignore_index: value of unannotated voxels in ``target``.
        include_background: whether voxels annotated as class 0 count. The paper's weak labels hold none.
        reduction: {``"none"``, ``"mean"``, ``"sum"``}.

            - ``"sum"``: over the annotated voxels of the batch, as in the paper.
            - ``"mean"``: over the annotated voxels of the batch, as in the authors' published code.
            - ``"none"``: one value per voxel, shape ``[B, *spatial]``, 0 where not annotated.
        per_item: whether ``"mean"`` first averages each item's annotated voxels, then the items that have any. Without
            it the few voxels of weak annotations hardly count beside full ones in the same batch.

    Raises:
        ValueError: when ``reduction`` is unknown, or ``per_item`` is given with a reduction other than ``"mean"``.

    Example:
        >>> loss = PartialCrossEntropyLoss()
        >>> logits = torch.zeros(1, 2, 4, 4)
        >>> weak_label = torch.full((1, 1, 4, 4), 255)
        >>> weak_label[..., 1, 1] = 1
        >>> round(loss(logits, weak_label).item(), 4)  # log 2
        0.6931
    """

    def __init__(
        self,
        ignore_index: int = DEFAULT_IGNORE_INDEX,
        include_background: bool = True,
        reduction: LossReduction | str = LossReduction.MEAN,
        per_item: bool = False,
    ) -> None:
        super().__init__(reduction=LossReduction(reduction).value)
        if per_item and self.reduction != LossReduction.MEAN.value:
            raise ValueError(f"reduction must be 'mean' with per_item, got {self.reduction!r}.")
        self.per_item = per_item
        self.ignore_index = ignore_index
        self.include_background = include_background

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """
        Args:
            input: logits, shape ``[B, C, *spatial]``.
            target: class ids, shape ``[B, 1, *spatial]``, ``ignore_index`` where not annotated.

        Raises:
            ValueError: when ``target`` has another shape.
        """
        return partial_cross_entropy(
            input, target, self.ignore_index, self.include_background, self.reduction, self.per_item
        )
