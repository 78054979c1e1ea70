"""The dual problem of Lagrangian proposals, and what its solvers return."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from monai.utils import convert_to_tensor

from sizeloss_monai.constraints import bound_violations, soft_size
from sizeloss_monai.constraints.statistics import check_classes

__all__ = [
    "NonFiniteLogitsError",
    "Problem",
    "Proposals",
    "dual_value",
    "kkt_residual",
    "make_problem",
    "make_proposals",
]

SIDES = ("both", "lower", "upper")


class NonFiniteLogitsError(ValueError):
    """Logits that are NaN or infinite, which no proposal can be made from; the message says what to do."""


@dataclass(frozen=True)
class Problem:
    r"""``min_Q KL(Q || S)`` under bounds on the sizes of Q, the spatial dimensions flattened to ``N`` pixels.

    ``log_prior``: :math:`\log \tilde S`, shape ``[B, C, N]``, at least float32, seeds at certainty (``-inf`` for the
    other classes). ``bounds``: ``[B, C, 2]`` in voxels, ``(-inf, inf)`` where a class or side is not constrained.
    ``classes``: the constrained classes. ``shape``: ``[B, C, *spatial]``.
    """

    log_prior: torch.Tensor
    bounds: torch.Tensor
    classes: list[int]
    shape: torch.Size


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Without MONAI's metadata, whose bookkeeping is paid at every operation."""
    plain: torch.Tensor = convert_to_tensor(tensor, track_meta=False)
    return plain


def _check_values(logits: torch.Tensor, weak_label: torch.Tensor, bounds: torch.Tensor, ignore_index: int) -> None:
    """Raise the errors for values; see :class:`~sizeloss_monai.proposals.LagrangianProposals`.

    Args:
        logits: shape ``[B, C, N]``, in the precision they were given in.
        weak_label: shape ``[B, 1, N]``.
        bounds: shape ``[B, C, 2]``.
        ignore_index: of the weak label.
    """
    num_classes = logits.shape[1]
    unknown = ((weak_label < 0) | (weak_label >= num_classes)) & (weak_label != ignore_index)
    lower, upper = bounds.unbind(-1)
    # a NaN fails every comparison
    possible = (lower <= upper) & (lower < math.inf) & (upper > -math.inf)
    finite = logits.isfinite()
    # one look at all of them: each one makes the host wait for another device
    if bool(finite.all() & possible.all() & ~unknown.any()):
        return
    if not bool(finite.all()):
        num_nan, num_infinite = int(logits.isnan().sum()), int(logits.isinf().sum())
        items = (~finite).flatten(1).any(1).nonzero().flatten().tolist()
        raise NonFiniteLogitsError(
            f"logits must be finite, found {num_nan} NaN and {num_infinite} infinite values in the batch's items "
            f"{items}: the network has diverged; lower the learning rate, or train without amp."
        )
    if bool(unknown.any()):
        raise ValueError(
            f"weak_label must hold class ids 0..{num_classes - 1} or {ignore_index}, found "
            f"{torch.unique(weak_label[unknown]).tolist()}."
        )
    raise ValueError(
        f"bounds must be pairs lower <= upper, the lower one below inf, the upper one above -inf, found "
        f"{bounds.tolist()}."
    )


def make_problem(
    logits: torch.Tensor,
    weak_label: torch.Tensor,
    bounds: torch.Tensor,
    classes: Sequence[int] | None,
    sides: str,
    ignore_index: int,
) -> Problem:
    """Check the input and bring it into the form the solvers need.

    Logits of fp16 and bf16 are widened to float32.

    Args:
        logits, weak_label, bounds, classes, sides, ignore_index: see
            :class:`~sizeloss_monai.proposals.LagrangianProposals`.

    Raises:
        ValueError: when ``sides`` or ``classes`` is wrong, or as that class says of its input.
    """
    if sides not in SIDES:
        raise ValueError(f"sides must be one of {SIDES}, found {sides!r}.")
    if logits.ndim < 3 or logits.shape[1] < 2 or not logits.is_floating_point():
        raise ValueError(f"logits must be floating, shape [B, C >= 2, *spatial], found {list(logits.shape)}.")
    batch, num_classes, *spatial = logits.shape
    if list(weak_label.shape) != [batch, 1, *spatial]:
        raise ValueError(f"weak_label must have shape {[batch, 1, *spatial]}, found {list(weak_label.shape)}.")
    if list(bounds.shape) != [batch, num_classes, 2]:
        raise ValueError(f"bounds must have shape {[batch, num_classes, 2]}, found {list(bounds.shape)}.")
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
        problem: of ``C`` classes.
        multipliers: lower and upper, shape ``[B, C, 2]``; a multiplier of 0 gives 0 with an infinite bound too.

    Returns:
        Shape ``[B]``, in nats.
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
        gradient: of the dual, in voxels, the same shape.

    Returns:
        The size of the gradient where a multiplier can move both ways, its positive part where the multiplier is 0.
    """
    return torch.where(multipliers > 0, gradient.abs(), gradient.relu())


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
