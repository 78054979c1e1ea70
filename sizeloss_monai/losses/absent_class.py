"""Cross-entropy of classes that are known to be absent."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.nn.modules.loss import _Loss

from sizeloss_monai.constraints.penalties import check_bounds_shape, refuse_nan_bounds
from sizeloss_monai.constraints.statistics import at_least_float32

__all__ = ["AbsentClassLoss"]


class AbsentClassLoss(_Loss):
    r"""Cross-entropy of "not class k" at every voxel of an item without class k (a negative image tag).

    .. math::
        L = -\frac{1}{|A|} \sum_{(i, k) \in A} \frac{1}{|\Omega|} \sum_{p \in \Omega} \log (1 - S_{i, k, p})

    over the pairs :math:`A` of an item and a class whose upper bound is 0; without such pairs the loss is 0.

    The quadratic penalty of the bounds (0, 0), :math:`V^2`, cannot reach its aim :math:`V \le 0`: a softmax is
    positive everywhere. Its gradient at a voxel's logit, :math:`2 V S_p (1 - S_p)`, vanishes where the network is
    certain of the class by mistake. The gradient here, :math:`S_p / |\Omega|`, is largest there.

    Example:
        >>> loss = AbsentClassLoss()
        >>> logits = torch.zeros(1, 2, 4, 4)
        >>> round(loss(logits, torch.tensor([[[0.0, float("inf")], [0.0, 0.0]]])).item(), 4)  # log 2
        0.6931
    """

    def forward(self, input: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
        """
        Args:
            input: logits, shape ``[B, C, *spatial]``, ``C >= 2``.
            bounds: lower and upper size bound per item and class in any unit, shape ``[B, C, 2]``.

        Raises:
            ValueError: when ``bounds`` has another shape or holds a NaN, or ``input`` has fewer than two channels.
        """
        check_bounds_shape(bounds, input)
        if input.shape[1] < 2:
            raise ValueError("input must have at least two channels, got one.")
        refuse_nan_bounds(bounds)
        absent = bounds[..., 1] <= 0
        with torch.autocast(input.device.type, enabled=False):
            pairs = torch.cat([_mean_log_likelihood_of_absence(input[absent[:, k]], k) for k in range(input.shape[1])])
            return -pairs.sum() / max(len(pairs), 1)


def _mean_log_likelihood_of_absence(logits: torch.Tensor, k: int) -> torch.Tensor:
    """Mean of log(1 - S_k) over the voxels of each item, shape ``[B]``."""
    logits = at_least_float32(logits)
    others = torch.cat([logits[:, :k], logits[:, k + 1 :]], dim=1).logsumexp(dim=1)
    # 1 - S_k = exp(others) / (exp(others) + exp(z_k)); 1 - softmax would be 0 from z_k - others = 17 on
    return F.logsigmoid(others - logits[:, k]).flatten(1).mean(dim=1)
