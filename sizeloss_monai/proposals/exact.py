"""Exact proposals: the maximum of the dual by Newton's method."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sizeloss_monai.proposals.exact_one_class import solve_one_class
from sizeloss_monai.proposals.exact_several_classes import solve_several_classes
from sizeloss_monai.proposals.problem import make_problem
from sizeloss_monai.proposals.result import Proposals

__all__ = ["exact_proposals"]


def exact_proposals(
    logits: torch.Tensor,
    weak_label: torch.Tensor,
    bounds: torch.Tensor,
    classes: Sequence[int] | None = None,
    sides: str = "both",
    tolerance: float = 1e-3,
    ignore_index: int = 255,
) -> Proposals:
    r"""The solution of the problem that :func:`~sizeloss_monai.proposals.projected_gradient_ascent` approaches.

    At the solution a size lies within its bounds with :math:`\mu = 0`, or at one of them: to ``tolerance`` plus the
    rounding of the precision computed in. In float32 that is about 1e-7 of the size and what half a unit in the last
    place of :math:`\mu` moves it, which is more the larger the logits are.

    A bound that leaves no choice, such as ``(0, 0)`` for an absent class, is met in the limit: exactly 0 or 1 at every
    pixel that is not certain. Where seeds or other bounds make the bounds infeasible, Q is what the multipliers tend
    to, ``violation`` what remains, the dual ``inf``. Several classes share pixels: there an infeasible sum of bounds
    ends at a cap of the multipliers.

    Args:
        logits, weak_label, bounds, classes, sides, ignore_index: see
            :class:`~sizeloss_monai.proposals.LagrangianProposals`.
        tolerance: in voxels.

    Returns:
        :class:`Proposals`.

    Raises:
        ValueError: when ``tolerance`` is negative, or as for the input of
            :class:`~sizeloss_monai.proposals.LagrangianProposals`.
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be >= 0, found {tolerance}.")
    with torch.no_grad(), torch.autocast(logits.device.type, enabled=False):
        problem = make_problem(logits, weak_label, bounds, classes, sides, ignore_index)
        solve = solve_one_class if len(problem.classes) == 1 else solve_several_classes
        return solve(problem, tolerance)
