"""The exact multiplier of a single constrained class."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from sizeloss_monai.proposals.problem import Problem, Proposals, make_proposals

__all__ = ["log_odds", "solve_one_class"]

MAX_ITERATIONS = 100  # bisection alone exhausts any bracket of float64 logits in about 60
ITERATIONS_BETWEEN_LOOKS = 8  # each look at whether all items are done makes the host wait for the device
BEYOND_SIGMOID = 1000.0  # sigmoid(-1000) is 0 in float64 too


def _root(
    odds: torch.Tensor,
    target: torch.Tensor,
    fixed: torch.Tensor,
    free: torch.Tensor,
    todo: torch.Tensor,
    bracket: tuple[torch.Tensor, torch.Tensor],
    size: torch.Tensor,
    tolerance: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Solve :math:`\sum_p \sigma(l_p + t) = target` where ``todo``, by safeguarded Newton steps.

    Newton's method works on the logit of the share of free pixels, :math:`\log h / (n - h)`: for equal pixels that is
    linear in t, and its slope is never above 1. A step that leaves the bracket becomes a bisection.

    Args:
        odds: :math:`l`, shape ``[B, N]``.
        target: size to reach, shape ``[B, 1]``, as all others.
        fixed: number of pixels certain to be of the class.
        free: number of pixels that are not certain.
        todo: which items to solve; the others return 0.
        bracket: a lower and an upper bound of the root.
        size: size at ``t = 0``.
        tolerance: in voxels.

    Returns:
        ``(t, evaluations)``.
    """
    eps = torch.finfo(odds.dtype).eps
    tiny = torch.finfo(odds.dtype).tiny
    low, high = bracket
    goal = torch.logit((target - fixed) / free)
    close_enough = tolerance + 4 * eps * target
    q = torch.sigmoid(odds)
    t = torch.zeros_like(target)
    best, smallest = t, torch.full_like(t, math.inf)
    evaluations = torch.ones_like(t, dtype=torch.int64)
    running = todo
    between_looks = 1 if odds.device.type == "cpu" else ITERATIONS_BETWEEN_LOOKS
    for iteration in range(MAX_ITERATIONS):
        miss = size - target
        better = running & (miss.abs() < smallest)
        best, smallest = torch.where(better, t, best), torch.where(better, miss.abs(), smallest)
        high = torch.where(miss > 0, torch.minimum(high, t), high)
        low = torch.where(miss < 0, torch.maximum(low, t), low)
        collapsed = high - low <= eps * torch.maximum(high.abs(), low.abs())
        running = running & ~(miss.abs() <= close_enough) & ~collapsed
        if iteration % between_looks == 0 and not bool(running.any()):
            break
        inside = (size - fixed).clamp(min=tiny)
        outside = (free - inside).clamp(min=tiny)
        # certain pixels have q (1 - q) = 0: the sum is over the free ones
        slope = (size - torch.linalg.vecdot(q, q)[:, None]) * free / (inside * outside)
        newton = t - (torch.log(inside / outside) - goal) / slope
        # a slope of 0 gives an infinity or NaN, outside the bracket too
        step = torch.where((newton > low) & (newton < high), newton, 0.5 * (low + high))
        t = torch.where(running, step, t)
        evaluations = evaluations + running
        torch.add(odds, t, out=q)
        size = q.sigmoid_().sum(1, keepdim=True)
    return best, evaluations


def _dual(odds: torch.Tensor, certain: torch.Tensor, shift: torch.Tensor, gap: torch.Tensor) -> torch.Tensor:
    r"""The dual at a finite shift, in a form without cancellation for any shift.

    Pixels certain to be of class k count in ``gap`` only. A free one adds
    :math:`\max(\mu, 0) - [\mathrm{softplus}(l + \mu) - \mathrm{softplus}(l)]`, split here into a clamp and two bounded
    terms.

    Args:
        odds: :math:`l`, shape ``[B, N]``.
        certain: where ``odds`` is infinite.
        shift: :math:`\mu`, shape ``[B, 1]``.
        gap: voxels that the active bound asks for beyond the limit, shape ``[B, 1]``; 0 where it is the limit.
    """
    reach = shift.abs()
    clamped = torch.minimum((odds * -torch.where(shift > 0, 1.0, -1.0)).clamp_(min=0), reach)
    terms = clamped.add_(F.logsigmoid((odds + shift).abs_())).sub_(F.logsigmoid(odds.abs()))
    total = terms.masked_fill_(certain, 0.0).sum(1, keepdim=True, dtype=torch.float64)
    return (reach * gap + total).to(odds)


def solve_one_class(problem: Problem, tolerance: float) -> Proposals:
    """:func:`~sizeloss_monai.proposals.exact_proposals` for exactly one constrained class."""
    (class_id,) = problem.classes
    lower, upper = problem.bounds[:, class_id, :1], problem.bounds[:, class_id, 1:]
    odds = log_odds(problem)
    certain = odds.isinf()
    fixed = (odds == math.inf).sum(1, keepdim=True).to(odds)
    free = odds.shape[1] - certain.sum(1, keepdim=True).to(odds)
    # where all pixels are certain nothing depends on the shift: any finite number will do
    largest = odds.masked_fill(certain, -math.inf).amax(1, keepdim=True).nan_to_num(neginf=0.0)
    smallest = odds.masked_fill(certain, math.inf).amin(1, keepdim=True).nan_to_num(posinf=0.0)

    size = torch.sigmoid(odds).sum(1, keepdim=True)
    too_small, too_large = size < lower, size > upper
    target = torch.where(too_small, lower, upper)
    to_all = too_small & (lower >= fixed + free)
    to_none = too_large & (upper <= fixed)
    todo = (too_small | too_large) & ~to_all & ~to_none
    # the root if all pixels were like the likeliest one, and if they were like the unlikeliest one; the margin keeps
    # the root between them where all pixels are alike, whatever the rounding
    middle = torch.logit((target - fixed) / free)
    low, high = middle - largest, middle - smallest
    margin = 1e-3 * (1 + torch.maximum(low.abs(), high.abs()))
    t, evaluations = _root(odds, target, fixed, free, todo, (low - margin, high + margin), size, tolerance)
    shift = torch.where(to_all, BEYOND_SIGMOID - smallest, torch.where(to_none, -BEYOND_SIGMOID - largest, t))

    zero = torch.zeros_like(shift)
    gap = torch.where(shift > 0, lower - fixed - free, torch.where(shift < 0, fixed - upper, zero))
    dual = torch.where((to_all | to_none) & (gap > 0), math.inf, _dual(odds, certain, shift, gap))
    multipliers = torch.zeros_like(problem.bounds)
    multipliers[:, class_id, :1] = torch.where(to_all, math.inf, shift.clamp(min=0))
    multipliers[:, class_id, 1:] = torch.where(to_none, math.inf, shift.clamp(max=0).abs())
    log_weights = problem.log_prior.clone()
    log_weights[:, class_id] += shift
    return make_proposals(problem, log_weights, multipliers, evaluations[:, 0], dual[:, 0])


def log_odds(problem: Problem) -> torch.Tensor:
    r"""Log-odds :math:`l_p` of the one constrained class k against all others, for :math:`Q_k = \sigma(l + \mu_k)`.

    Returns:
        Shape ``[B, N]``; ``inf`` and ``-inf`` at pixels certain to be, or not to be, of class k.
    """
    (class_id,) = problem.classes
    log_prior = problem.log_prior
    others = torch.cat([log_prior[:, :class_id], log_prior[:, class_id + 1 :]], dim=1)
    # the logsumexp of a single class is that class
    against = others[:, 0] if others.shape[1] == 1 else torch.logsumexp(others, 1)
    return log_prior[:, class_id] - against
