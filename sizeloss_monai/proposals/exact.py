"""Exact Lagrangian proposals, for one class and for several."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from sizeloss_monai.constraints.penalties import Sides
from sizeloss_monai.data.label_ids import DEFAULT_IGNORE_INDEX
from sizeloss_monai.proposals.exact_one_class import solve_one_class
from sizeloss_monai.proposals.problem import Problem, Proposals, make_problem, make_proposals

__all__ = ["exact_proposals", "solve_several_classes"]

MAX_ITERATIONS = 300
ITERATIONS_BETWEEN_LOOKS = 8  # each look at whether all items are done makes the host wait for the device
SPARE = 100.0  # in logits: exp(-100) of a pixel does not count


def _take_limits(
    log_prior: torch.Tensor, bounds: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Solve the classes whose bounds leave no choice, and drop their bounds.

    Returns:
        ``(log_prior [B, C, N], bounds [B, C, 2], limits [B, C], feasible [B])`` of the problem that is left.
        ``limits`` is 1 for a class that takes every pixel it can have, -1 for one that loses every pixel it can lose.
    """
    lower, upper = bounds.unbind(-1)
    possible = log_prior > -math.inf
    only = possible & (possible.sum(1, keepdim=True) == 1)
    floor, capacity = only.sum(2).to(log_prior), possible.sum(2).to(log_prior)
    least, most = torch.maximum(lower, floor), torch.minimum(upper, capacity)
    feasible = (least <= most).all(1) & (least.sum(1) <= log_prior.shape[2]) & (most.sum(1) >= log_prior.shape[2])

    full = (lower >= capacity) & (capacity > floor)
    full = full & (full.cumsum(1) == 1)  # two such classes contradict each other: the first wins
    absent = (upper <= floor) & (capacity > floor) & ~full
    taken = (possible & full[..., None]).any(1, keepdim=True)
    left = possible & ~absent[..., None]
    # a pixel keeps its classes where it would lose all of them
    lost = (absent[..., None] & left.any(1, keepdim=True)) | (taken & ~full[..., None])
    limits = full.to(log_prior) - absent.to(log_prior)
    unbounded = bounds.new_tensor([-math.inf, math.inf])
    rest = torch.where((limits != 0)[..., None], unbounded, bounds)
    return log_prior.masked_fill(lost, -math.inf), rest, limits, feasible


def _active_gradient(mu: torch.Tensor, size: torch.Tensor, bounds: torch.Tensor, cap: torch.Tensor) -> torch.Tensor:
    """Gradient of the dual over ``mu`` where ``mu`` can move, 0 where it stays at a kink or at its cap."""
    lower, upper = bounds.unbind(-1)
    below, above = lower - size, upper - size
    zero = torch.zeros_like(mu)
    at_zero = torch.where(below > 0, below, torch.where(above < 0, above, zero))
    gradient = torch.where(mu > 0, below, torch.where(mu < 0, above, at_zero))
    return torch.where((mu.abs() >= cap) & (gradient * mu > 0), zero, gradient)


def _solve(
    log_prior: torch.Tensor, bounds: torch.Tensor, tolerance: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    r"""Maximise the dual over :math:`\mu = \lambda_{lower} - \lambda_{upper}`, a concave function with kinks at 0.

    Newton steps on the multipliers that can move, damped (Levenberg, Marquardt) until the dual does not decrease. A
    multiplier stops at 0 where its step would change its sign. Each iteration evaluates Q once.

    Args:
        log_prior: shape ``[B, C, N]``, float64.
        bounds: shape ``[B, C, 2]``.
        tolerance: in voxels.

    Returns:
        ``(mu [B, C], cap [B, 1], dual [B], evaluations [B])``; the cap is the largest ``|mu|`` tried.
    """
    lower, upper = bounds.unbind(-1)
    batch, num_classes, num_pixels = log_prior.shape
    spread = -log_prior.masked_fill(log_prior == -math.inf, 0.0).flatten(1).amin(1, keepdim=True)
    cap = num_classes * spread + SPARE
    identity = torch.eye(num_classes).to(log_prior)

    def evaluate(mu: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        weights = log_prior + mu[..., None]
        log_sum = torch.logsumexp(weights, 1, keepdim=True)
        q = weights.sub_(log_sum).exp_()
        size = q.sum(2)
        linear = torch.where(mu > 0, mu * lower, torch.where(mu < 0, mu * upper, 0.0)).sum(1)
        return linear - log_sum.sum((1, 2)), size, torch.diag_embed(size) - q @ q.mT

    mu = log_prior.new_zeros(batch, num_classes)
    dual, size, curvature = evaluate(mu)
    damping = mu.new_full((batch,), 1e-6 * num_pixels)
    evaluations = torch.ones(batch, dtype=torch.int64, device=mu.device)
    between_looks = 1 if mu.device.type == "cpu" else ITERATIONS_BETWEEN_LOOKS
    for iteration in range(MAX_ITERATIONS):
        gradient = _active_gradient(mu, size, bounds, cap)
        running = gradient.abs().amax(1) > tolerance
        if iteration % between_looks == 0 and not bool(running.any()):
            break
        moves = gradient != 0
        both = moves[:, :, None] & moves[:, None, :]
        matrix = torch.where(both, curvature, identity) + damping[:, None, None] * identity
        step = torch.linalg.solve_ex(matrix, gradient)[0]
        sign = torch.where(mu == 0, gradient.sign(), mu.sign())
        trial = torch.where(moves, mu + step, mu)
        trial = torch.where(trial * sign > 0, trial, 0.0)
        trial = torch.where(running[:, None], trial.clamp(-cap, cap), mu)

        trial_dual, trial_size, trial_curvature = evaluate(trial)
        moved = trial - mu
        expected = (gradient * moved).sum(1) - 0.5 * torch.einsum("bi,bij,bj->b", moved, curvature, moved)
        gain = trial_dual - dual
        rounding = torch.finfo(mu.dtype).eps * (1 + dual.abs())
        accepted = running & (gain >= -4 * rounding)
        ratio = gain / expected.clamp(min=1e-300)
        damping = torch.where(
            accepted, torch.where(ratio > 0.5, damping / 8, torch.where(ratio < 0.1, damping * 2, damping)), damping * 8
        ).clamp(1e-12, num_pixels)
        mu = torch.where(accepted[:, None], trial, mu)
        dual, size = torch.where(accepted, trial_dual, dual), torch.where(accepted[:, None], trial_size, size)
        curvature = torch.where(accepted[:, None, None], trial_curvature, curvature)
        evaluations = evaluations + running
    return mu, cap, dual, evaluations


def solve_several_classes(problem: Problem, tolerance: float) -> Proposals:
    """:func:`exact_proposals` for any number of constrained classes.

    Computed in float64: differences of the dual, a sum over all pixels, decide whether a step is accepted.
    """
    log_prior, bounds, limits, feasible = _take_limits(problem.log_prior.double(), problem.bounds.double())
    mu, cap, dual, evaluations = _solve(log_prior, bounds, tolerance)
    unlimited = torch.where(limits != 0, limits, torch.where(mu.abs() >= cap, mu.sign(), 0.0))
    reported = torch.where(unlimited != 0, unlimited * math.inf, mu)
    multipliers = torch.stack([reported.clamp(min=0), reported.clamp(max=0).abs()], dim=-1)
    return make_proposals(
        problem, log_prior + mu[..., None], multipliers, evaluations, torch.where(feasible, dual, math.inf)
    )


def exact_proposals(
    logits: torch.Tensor,
    weak_label: torch.Tensor,
    bounds: torch.Tensor,
    classes: Sequence[int] | None = None,
    sides: Sides = "both",
    tolerance: float = 1e-3,
    ignore_index: int = DEFAULT_IGNORE_INDEX,
) -> Proposals:
    r"""The exact solution of the problem that :func:`~sizeloss_monai.proposals.projected_gradient_ascent` approaches.

    Each size of the solution lies within its bounds with :math:`\mu = 0`, or at one of them, up to ``tolerance`` plus
    rounding. In float32 the rounding is about 1e-7 of the size, plus what half a unit in the last place of :math:`\mu`
    moves it; larger logits make it larger.

    A bound that leaves no choice, such as ``(0, 0)`` for an absent class, is met in the limit: exactly 0 or 1 at every
    pixel that is not certain. Where seeds or other bounds make the bounds infeasible, Q is the limit that the
    multipliers tend to, ``violation`` is what remains, and the dual is ``inf``. Several classes share pixels; an
    infeasible sum of their bounds ends at a cap of the multipliers.

    Args:
        logits, weak_label, bounds, classes, sides, ignore_index: see
            :class:`~sizeloss_monai.proposals.LagrangianProposals`.
        tolerance: in voxels.

    Raises:
        ValueError: when ``tolerance`` is negative, or as :class:`~sizeloss_monai.proposals.LagrangianProposals` says.
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be >= 0, got {tolerance}.")
    with torch.no_grad(), torch.autocast(logits.device.type, enabled=False):
        problem = make_problem(logits, weak_label, bounds, classes, sides, ignore_index)
        solve = solve_one_class if len(problem.classes) == 1 else solve_several_classes
        return solve(problem, tolerance)
