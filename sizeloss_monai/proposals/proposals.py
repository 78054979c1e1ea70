"""Lagrangian proposals as a component of a config."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from sizeloss_monai.constraints.penalties import Sides
from sizeloss_monai.constraints.statistics import check_classes
from sizeloss_monai.data.label_ids import DEFAULT_IGNORE_INDEX
from sizeloss_monai.errors import check_option
from sizeloss_monai.proposals.exact import exact_proposals
from sizeloss_monai.proposals.gradient_ascent import EarlyStop, check_ascent_options, projected_gradient_ascent
from sizeloss_monai.proposals.problem import Proposals

__all__ = ["LagrangianProposals"]

Solver = Literal["exact", "gradient_ascent"]


class LagrangianProposals:
    r"""The segmentation closest to the network's that keeps the size bounds (Pathak et al., ICCV 2015).

    .. math::
        \min_Q \mathrm{KL}(Q \| S) \text{ such that } a_k \le \sum_p Q_{p,k} \le b_k,

    with S the softmax of the logits, and annotated pixels held at certainty. The solution is
    :math:`Q_{p,c} \propto S_{p,c} e^{\mu_c}`, :math:`\mu = \lambda_{lower} - \lambda_{upper}`. The baseline of
    Kervadec et al. 2019 (section 4) makes such proposals from every output, and trains on them.

    Args:
        solver: ``"exact"`` (:func:`~sizeloss_monai.proposals.exact_proposals`), or ``"gradient_ascent"`` as published
            (:func:`~sizeloss_monai.proposals.projected_gradient_ascent`).
        classes: the constrained classes; None constrains all but the background.
        sides: ``"both"`` bounds, or only the ``"lower"`` or the ``"upper"`` one (the paper's "one bound").
        early_stop, step_size, max_iterations: options of gradient ascent alone.
        tolerance: in voxels; how far sizes may be from optimal for the exact solver, and for the stop ``"sound"``.
        ignore_index: value of unannotated pixels in the weak label.

    Raises:
        ValueError: when an option is unknown or out of range, ``classes`` is empty or has a negative or repeated id, or
            the exact solver gets an early stop.

    Example:
        >>> logits = torch.zeros(1, 2, 4, 4)  # a soft size of 8
        >>> nothing_annotated = torch.full((1, 1, 4, 4), 255)
        >>> proposals = LagrangianProposals()(logits, nothing_annotated, torch.tensor([[[0.0, 16.0], [1.0, 4.0]]]))
        >>> round(proposals.probabilities[0, 1, 0, 0].item(), 4)
        0.25
    """

    def __init__(
        self,
        solver: Solver = "exact",
        classes: Sequence[int] | None = None,
        sides: Sides = "both",
        early_stop: EarlyStop = "none",
        step_size: float = 5e-5,
        max_iterations: int = 500,
        tolerance: float = 1e-3,
        ignore_index: int = DEFAULT_IGNORE_INDEX,
    ) -> None:
        check_option("solver", solver, Solver)
        check_option("sides", sides, Sides)
        check_ascent_options(early_stop, step_size, max_iterations, tolerance)
        if solver == "exact" and early_stop != "none":
            raise ValueError(f"early_stop must be 'none' with the exact solver, got {early_stop!r}.")
        self.solver = solver
        self.classes = None if classes is None else check_classes(classes)
        self.sides = sides
        self.early_stop = early_stop
        self.step_size = step_size
        self.max_iterations = max_iterations
        self.tolerance = tolerance
        self.ignore_index = ignore_index

    def __call__(self, logits: torch.Tensor, weak_label: torch.Tensor, bounds: torch.Tensor) -> Proposals:
        """
        Args:
            logits: shape ``[B, C >= 2, *spatial]``, finite, any floating dtype. Proposals carry no gradients.
            weak_label: class ids, shape ``[B, 1, *spatial]``, ``ignore_index`` where not annotated. Annotated pixels
                are held at certainty, those of the background too.
            bounds: lower and upper bound in voxels, shape ``[B, C, 2]``; ``(0, 0)`` for an absent class, ``(0, inf)``
                for an unconstrained one.

        Raises:
            NonFiniteLogitsError: a ValueError, when a logit is NaN or infinite, as after divergence or an overflow of
                half precision.
            ValueError: when a shape is wrong, a class is not below ``C``, a bound is NaN, inverted or infinite on the
                wrong side, or the weak label holds an unknown id. On a device other than the CPU the host waits once.
        """
        problem = (logits, weak_label, bounds, self.classes, self.sides)
        if self.solver == "exact":
            return exact_proposals(*problem, self.tolerance, self.ignore_index)
        return projected_gradient_ascent(
            *problem, self.early_stop, self.step_size, self.max_iterations, self.tolerance, self.ignore_index
        )
