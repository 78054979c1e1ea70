"""Proposals by projected gradient ascent on the dual, as published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch

from sizeloss_monai.constraints.penalties import Sides
from sizeloss_monai.data.label_ids import DEFAULT_IGNORE_INDEX
from sizeloss_monai.errors import check_option
from sizeloss_monai.proposals.exact_one_class import log_odds
from sizeloss_monai.proposals.problem import Problem, Proposals, dual_value, kkt_residual, make_problem, make_proposals

__all__ = ["projected_gradient_ascent"]

EarlyStop = Literal["none", "sound", "as_published"]
PUBLISHED_TOLERANCE = 1e-3  # relative change of the upper multiplier
ITERATIONS_BETWEEN_LOOKS = 16  # each look at whether all items have stopped makes the host wait for the device


def check_ascent_options(early_stop: EarlyStop, step_size: float, max_iterations: int, tolerance: float) -> None:
    """Raise ValueError for options of :func:`projected_gradient_ascent` that are unknown or out of range."""
    check_option("early_stop", early_stop, EarlyStop)
    if not step_size > 0:
        raise ValueError(f"step_size must be > 0, got {step_size}.")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be >= 1, got {max_iterations}.")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be >= 0, got {tolerance}.")


def _sizes_of_one_class(problem: Problem) -> Callable[[torch.Tensor], torch.Tensor]:
    odds = log_odds(problem)
    buffer = torch.empty_like(odds)

    def sizes(shift: torch.Tensor) -> torch.Tensor:
        torch.add(odds, shift, out=buffer)
        return buffer.sigmoid_().sum(1, keepdim=True)

    return sizes


def _sizes_of_several_classes(problem: Problem) -> Callable[[torch.Tensor], torch.Tensor]:
    shifted, probabilities = torch.empty_like(problem.log_prior), torch.empty_like(problem.log_prior)
    shifts = problem.bounds.new_zeros(problem.bounds.shape[:2])
    # a list as an index would be copied to the device in every iteration, and the host would wait
    constrained = torch.tensor(problem.classes, device=shifts.device)

    def sizes(shift: torch.Tensor) -> torch.Tensor:
        shifts.index_copy_(1, constrained, shift)
        torch.add(problem.log_prior, shifts[..., None], out=shifted)
        torch.softmax(shifted, 1, out=probabilities)
        return probabilities.sum(2).index_select(1, constrained)

    return sizes


def _ascend(
    problem: Problem, early_stop: EarlyStop, step_size: float, max_iterations: int, tolerance: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Multipliers of the constrained classes, ``[B, K, 2]``, and evaluations, ``[B]``."""
    sizes = _sizes_of_one_class(problem) if len(problem.classes) == 1 else _sizes_of_several_classes(problem)
    bounds = problem.bounds[:, problem.classes]
    absent = (bounds == 0).all(-1)
    # under (0, 0) the two multipliers would grow against each other; the paper uses (-1, 0) instead
    bounds = torch.where(absent[..., None], bounds.new_tensor([-1.0, 0.0]), bounds)
    sign = bounds.new_tensor([1.0, -1.0])
    signed_bounds = bounds * sign
    step_of_bounds, step_of_sizes = step_size * signed_bounds, -step_size * sign

    multipliers = torch.zeros_like(bounds)
    shift = torch.zeros_like(bounds[..., 0])
    iterations = torch.full(shift.shape[:1], max_iterations, dtype=torch.int64, device=shift.device)
    running = torch.ones_like(iterations, dtype=torch.bool)
    between_looks = 1 if shift.device.type == "cpu" else ITERATIONS_BETWEEN_LOOKS
    # the last of max_iterations evaluations makes the proposals
    for iteration in range(1, max_iterations):
        size = sizes(shift)[..., None]
        moved = torch.addcmul(step_of_bounds, size, step_of_sizes).add_(multipliers).clamp_(min=0)
        if early_stop == "none":
            multipliers = moved
        else:
            if early_stop == "sound":
                residual = kkt_residual(multipliers, signed_bounds - size * sign)
                settled = (residual <= tolerance).flatten(1).all(1)
            else:
                upper = multipliers[..., 1]
                settled = ((moved[..., 1] - upper).abs() / (upper + 1e-10) < PUBLISHED_TOLERANCE).all(1)
            iterations = torch.where(running & settled, iteration, iterations)
            running = running & ~settled
            multipliers = torch.where(running[:, None, None], moved, multipliers)
            if iteration % between_looks == 0 and not bool(running.any()):
                break
        torch.sub(multipliers[..., 0], multipliers[..., 1], out=shift)
    return multipliers, iterations


def projected_gradient_ascent(
    logits: torch.Tensor,
    weak_label: torch.Tensor,
    bounds: torch.Tensor,
    classes: Sequence[int] | None = None,
    sides: Sides = "both",
    early_stop: EarlyStop = "none",
    step_size: float = 5e-5,
    max_iterations: int = 500,
    tolerance: float = 1e-3,
    ignore_index: int = DEFAULT_IGNORE_INDEX,
) -> Proposals:
    r"""Proposals by projected gradient ascent on the dual (Pathak et al. 2015; Kervadec et al. 2019, section 4).

    From :math:`\lambda = 0`, with V the sizes of Q,

    .. math::
        \lambda_{lower} \leftarrow \max(\lambda_{lower} + \eta (a - V), 0), \quad
        \lambda_{upper} \leftarrow \max(\lambda_{upper} + \eta (V - b), 0).

    Bounds ``(0, 0)`` become ``(-1, 0)``, the paper's rule. ``max_iterations`` evaluations of Q make one update less, so
    that Q and the returned multipliers belong together. An item that has stopped stays fixed while others go on.

    Args:
        logits, weak_label, bounds, classes, sides, ignore_index: see
            :class:`~sizeloss_monai.proposals.LagrangianProposals`.
        early_stop: when an item stops.

            - ``"none"``: after ``max_iterations``.
            - ``"sound"``: as soon as the KKT residual of every multiplier is at most ``tolerance``.
            - ``"as_published"``: as soon as every upper multiplier changes by less than 1e-3 of itself. The rule
              ignores lower multipliers, and so they never act: an item below its upper bound stops at once.
        step_size: :math:`\eta`, per voxel.
        max_iterations: largest number of evaluations of Q.
        tolerance: in voxels, for ``"sound"``. Sizes carry the rounding of the logits' precision, about 1e-7 of a size
            in float32; a smaller tolerance is never reached.

    Returns:
        :class:`Proposals`, with the dual of the bounds ascended on.

    Raises:
        ValueError: when an option is unknown or out of range, or as
            :class:`~sizeloss_monai.proposals.LagrangianProposals` says.
    """
    check_ascent_options(early_stop, step_size, max_iterations, tolerance)
    with torch.no_grad(), torch.autocast(logits.device.type, enabled=False):
        problem = make_problem(logits, weak_label, bounds, classes, sides, ignore_index)
        constrained, iterations = _ascend(problem, early_stop, step_size, max_iterations, tolerance)
        multipliers = torch.zeros_like(problem.bounds)
        multipliers[:, problem.classes] = constrained
        shift = multipliers[..., 0] - multipliers[..., 1]
        log_weights = problem.log_prior + shift[..., None]
        return make_proposals(problem, log_weights, multipliers, iterations, dual_value(problem, multipliers))
