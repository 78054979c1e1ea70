"""Entropy of predictions."""

from __future__ import annotations

import math

import torch
from torch.nn.modules.loss import _Loss

from sizeloss_monai.constraints.statistics import at_least_float32
from sizeloss_monai.data.label_ids import DEFAULT_IGNORE_INDEX
from sizeloss_monai.losses.partial_cross_entropy import check_class_ids

__all__ = ["EntropyLoss"]


class EntropyLoss(_Loss):
    r"""Mean entropy of the softmax as a share of the largest possible one (Grandvalet and Bengio, NeurIPS 2004).

    .. math::
        L = -\frac{1}{|\Omega| \log C} \sum_{p \in \Omega} \sum_k S_{k, p} \log S_{k, p}

    1 for a uniform prediction, 0 for a certain one. A soft size can meet its bounds by grey predictions while the hard
    size does not; this term makes the network decide. It does not say which way, and any map of certain predictions
    minimises it, so give it a small weight.

    Args:
        ignore_index: value of unannotated voxels in ``weak_label``.

    Example:
        >>> EntropyLoss()(torch.zeros(1, 3, 4, 4)).item()
        1.0
    """

    def __init__(self, ignore_index: int = DEFAULT_IGNORE_INDEX) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, input: torch.Tensor, weak_label: torch.Tensor | None = None) -> torch.Tensor:
        """
        Args:
            input: logits, shape ``[B, C, *spatial]``, ``C >= 2``.
            weak_label: class ids, shape ``[B, 1, *spatial]``: the mean runs over the unannotated voxels, and is 0
                without any. None: over all voxels.

        Raises:
            ValueError: when ``weak_label`` has another shape, or ``input`` has fewer than two channels.
        """
        if input.shape[1] < 2:
            raise ValueError("input must have at least two channels, got one.")
        if weak_label is not None:
            check_class_ids(weak_label, input)
        with torch.autocast(input.device.type, enabled=False):
            log_probabilities = at_least_float32(input).log_softmax(dim=1)
            entropy = -(log_probabilities.exp() * log_probabilities).sum(dim=1, keepdim=True) / math.log(input.shape[1])
            if weak_label is None:
                return entropy.mean()
            counted = weak_label == self.ignore_index
            return torch.where(counted, entropy, 0).sum() / counted.sum().clamp(min=1)
