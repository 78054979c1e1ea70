"""What every solver of proposals returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sizeloss_monai.losses import bound_violations, soft_size
from sizeloss_monai.proposals.problem import Problem

__all__ = ["Proposals", "make_proposals"]


@dataclass(frozen=True)
class Proposals:
    """Segmentation proposals of a batch.

    ``probabilities``: soft proposals Q, shape ``[B, C, *spatial]``, float32, or float64 where the logits are.
    ``multipliers``: lower and upper, shape ``[B, C, 2]``, >= 0, those Q was made with; ``inf`` where the supremum of
    the dual is only reached in the limit, 0 for classes that are not constrained.
    ``iterations``: evaluations of Q, shape ``[B]``, int64.
    ``dual_value``: in nats, shape ``[B]``; from the exact solver ``inf`` where nothing can fulfil the bounds.
    ``violation``: voxels by which the soft sizes lie outside their bounds, shape ``[B, C]``.
    """

    probabilities: torch.Tensor
    multipliers: torch.Tensor
    iterations: torch.Tensor
    dual_value: torch.Tensor
    violation: torch.Tensor

    def labels(self) -> torch.Tensor:
        """Hard proposals: the likeliest class, the first of equals, int64, shape ``[B, 1, *spatial]``."""
        # torch.argmax over channels takes longer on a CPU than the exact solver
        first, *others = self.probabilities.split(1, dim=1)
        labels = torch.zeros_like(first, dtype=torch.int64)
        largest = first
        for class_id, probability in enumerate(others, start=1):
            labels.masked_fill_(probability > largest, class_id)
            largest = torch.maximum(largest, probability)
        return labels


def make_proposals(
    problem: Problem,
    log_weights: torch.Tensor,
    multipliers: torch.Tensor,
    iterations: torch.Tensor,
    dual: torch.Tensor,
) -> Proposals:
    """Normalise Q and measure it.

    Args:
        problem: what was solved.
        log_weights: logarithm of Q up to a constant a pixel, shape ``[B, C, N]``.
        multipliers: shape ``[B, C, 2]``.
        iterations: shape ``[B]``.
        dual: shape ``[B]``.
    """
    dtype = problem.log_prior.dtype
    probabilities = log_weights.softmax(1).to(dtype)
    below, above = bound_violations(soft_size(probabilities), problem.bounds)
    return Proposals(
        probabilities.reshape(problem.shape), multipliers.to(dtype), iterations, dual.to(dtype), below + above
    )
