"""Log-odds of a single constrained class: what makes its problem one-dimensional."""

from __future__ import annotations

import torch

from sizeloss_monai.proposals.problem import Problem

__all__ = ["log_odds"]


def log_odds(problem: Problem) -> torch.Tensor:
    r"""Log-odds :math:`l_p` of the one constrained class k against all others, for :math:`Q_k = \sigma(l + \mu_k)`.

    Args:
        problem: with exactly one constrained class.

    Returns:
        Shape ``[B, N]``; ``inf`` and ``-inf`` at pixels certain to be, or not to be, of class k.
    """
    (class_id,) = problem.classes
    log_prior = problem.log_prior
    others = torch.cat([log_prior[:, :class_id], log_prior[:, class_id + 1 :]], dim=1)
    # of a single other class the logsumexp is that class
    against = others[:, 0] if others.shape[1] == 1 else torch.logsumexp(others, 1)
    return log_prior[:, class_id] - against
