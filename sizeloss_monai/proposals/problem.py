"""The problem of Lagrangian proposals, its dual, and the result of its solvers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from monai.utils import convert_to_tensor

from sizeloss_monai.constraints import bound_violations, soft_size
from sizeloss_monai.constraints.penalties import Sides, check_bounds_shape
from sizeloss_monai.constraints.statistics import check_classes
from sizeloss_monai.errors import check_option

__all__ = [
    "NonFiniteLogitsError",
    "Problem",
    "Proposals",
    "dual_value",
    "kkt_residual",
    "make_problem",
    "make_proposals",
]


class NonFiniteLogitsError(ValueError):
    """Logits that are NaN or infinite, which allow no proposal; the message says what to do."""


@dataclass(frozen=True)
class Problem:
    r"""``min_Q KL(Q || S)`` under bounds on the sizes of Q, spatial dimensions flattened to ``N`` pixels.

    Attributes:
        log_prior: :math:`\log \tilde S`, shape ``[B, C, N]``, float32 or float64, seeds at certainty (``-inf`` for the
            other classes).
        bounds: ``[B, C, 2]`` in voxels, ``(-inf, inf)`` where a class or side is not constrained.
        classes: the constrained classes.
        shape: ``[B, C, *spatial]``.
    """

    log_prior: torch.Tensor
    bounds: torch.Tensor
    classes: list[int]
    shape: torch.Size


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Drop MONAI's metadata, whose bookkeeping slows every operation."""
    plain: torch.Tensor = convert_to_tensor(tensor, track_meta=False)
    return plain


def _check_values(logits: torch.Tensor, weak_label: torch.Tensor, bounds: torch.Tensor, ignore_index: int) -> None:
    """Raise the errors for values that :class:`~sizeloss_monai.proposals.LagrangianProposals` lists.

    Shapes: ``logits`` ``[B, C, N]``, ``weak_label`` ``[B, 1, N]``, ``bounds`` ``[B, C, 2]``.
    """
    num_classes = logits.shape[1]
    unknown = ((weak_label < 0) | (weak_label >= num_classes)) & (weak_label != ignore_index)
    lower, upper = bounds.unbind(-1)
    # a NaN fails every comparison
    possible = (lower <= upper) & (lower < math.inf) & (upper > -math.inf)
    finite = logits.isfinite()
    # one look at all values: each look makes the host wait for the device
    if bool(finite.all() & possible.all() & ~unknown.any()):
        return
    if not bool(finite.all()):
        num_nan, num_infinite = int(logits.isnan().sum()), int(logits.isinf().sum())
        items = (~finite).flatten(1).any(1).nonzero().flatten().tolist()
        raise NonFiniteLogitsError(
            f"logits must be finite, got {num_nan} NaN and {num_infinite} infinite values in the batch's items "
            f"{items}. The network has diverged: lower the learning rate, or train without amp."
        )
    if bool(unknown.any()):
        raise ValueError(
            f"weak_label must hold class ids 0..{num_classes - 1} or {ignore_index}, got "
            f"{torch.unique(weak_label[unknown]).tolist()}."
        )
    raise ValueError(f"bounds must be pairs lower <= upper with lower < inf and upper > -inf, got {bounds.tolist()}.")


def make_problem(
    logits: torch.Tensor,
    weak_label: torch.Tensor,
    bounds: torch.Tensor,
    classes: Sequence[int] | None,
    sides: Sides,
    ignore_index: int,
) -> Problem:
    """Check the input of :class:`~sizeloss_monai.proposals.LagrangianProposals`, and bring it into the solvers' form.

    Float16 and bfloat16 logits become float32.
    """
    check_option("sides", sides, Sides)
    if logits.ndim < 3 or logits.shape[1] < 2 or not logits.is_floating_point():
        raise ValueError(f"logits must be floating, shape [B, C >= 2, *spatial], got {list(logits.shape)}.")
    batch, num_classes, *spatial = logits.shape
    if list(weak_label.shape) != [batch, 1, *spatial]:
        raise ValueError(f"weak_label must have shape {[batch, 1, *spatial]}, got {list(weak_label.shape)}.")
    check_bounds_shape(bounds, logits)
    constrained = check_classes(range(1, num_classes) if classes is None else classes, num_classes)

    wide = _plain(logits).flatten(2)
    if wide.dtype in (torch.float16, torch.bfloat16):
        wide = wide.float()
    seeds = _plain(weak_label).flatten(2).to(wide.device)
    given = _plain(bounds).to(wide)
    _check_values(wide, seeds, given, ignore_index)

    ids = torch.arange(num_classes, device=wide.device).view(1, -1, 1)
    other = (seeds != ids) & (seeds != ignore_index)
    log_prior = wide.masked_fill(other, -math.inf).log_softmax(1)

    active = torch.tensor([-math.inf, math.inf]).to(given).repeat(batch, num_classes, 1)
    if sides != "upper":
        active[:, constrained, 0] = given[:, constrained, 0]
    if sides != "lower":
        active[:, constrained, 1] = given[:, constrained, 1]
    return Problem(log_prior, active, constrained, logits.shape)


def dual_value(problem: Problem, multipliers: torch.Tensor) -> torch.Tensor:
    r"""The dual function (Pathak et al. 2015, section 4), for finite multipliers.

    .. math::
        g(\lambda) = \sum_k (\lambda_{lower,k} a_k - \lambda_{upper,k} b_k)
            - \sum_p \log \sum_c \tilde S_{p,c} e^{\mu_c}

    Args:
        problem: a problem with ``C`` classes.
        multipliers: lower and upper, shape ``[B, C, 2]``; 0 times an infinite bound counts as 0.

    Returns:
        Values in nats, shape ``[B]``.
    """
    lower, upper = multipliers.unbind(-1)
    signed_bounds = problem.bounds * problem.bounds.new_tensor([1.0, -1.0])
    linear = torch.where(multipliers > 0, multipliers * signed_bounds, 0.0).sum((1, 2), dtype=torch.float64)
    log_sum = torch.logsumexp(problem.log_prior + (lower - upper)[..., None], 1)
    return (linear - log_sum.sum(1, dtype=torch.float64)).to(multipliers)


def kkt_residual(multipliers: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """How far each multiplier is from optimal.

    Args:
        multipliers: any shape, >= 0.
        gradient: gradient of the dual in voxels, same shape.

    Returns:
        Absolute gradient where a multiplier can move both ways, its positive part where the multiplier is 0.
    """
    return torch.where(multipliers > 0, gradient.abs(), gradient.relu())


@dataclass(frozen=True)
class Proposals:
    """Segmentation proposals of a batch.

    Attributes:
        probabilities: soft proposals Q, shape ``[B, C, *spatial]``; float64 for float64 logits, otherwise float32.
        multipliers: the lower and upper ones that made Q, shape ``[B, C, 2]``, >= 0; ``inf`` where the dual reaches its
            supremum only in the limit, 0 for classes that are not constrained.
        iterations: evaluations of Q, shape ``[B]``, int64.
        dual_value: in nats, shape ``[B]``; the exact solver gives ``inf`` where the bounds are infeasible.
        violation: voxels by which the soft sizes lie outside their bounds, shape ``[B, C]``.
    """

    probabilities: torch.Tensor
    multipliers: torch.Tensor
    iterations: torch.Tensor
    dual_value: torch.Tensor
    violation: torch.Tensor

    def labels(self) -> torch.Tensor:
        """Hard proposals: the likeliest class, the first among equals, int64, shape ``[B, 1, *spatial]``."""
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
        problem: the solved problem.
        log_weights: logarithm of Q up to a constant per pixel, shape ``[B, C, N]``.
        multipliers, iterations, dual: see :class:`Proposals`.
    """
    dtype = problem.log_prior.dtype
    probabilities = log_weights.softmax(1).to(dtype)
    below, above = bound_violations(soft_size(probabilities), problem.bounds)
    return Proposals(
        probabilities.reshape(problem.shape), multipliers.to(dtype), iterations, dual.to(dtype), below + above
    )
