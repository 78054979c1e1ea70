"""Lagrangian proposals as a component of a training configuration."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sizeloss_monai.constraints.statistics import check_classes
from sizeloss_monai.data.label_ids import DEFAULT_IGNORE_INDEX
from sizeloss_monai.proposals.exact import exact_proposals
from sizeloss_monai.proposals.gradient_ascent import check_ascent_options, projected_gradient_ascent
from sizeloss_monai.proposals.problem import SIDES, Proposals

__all__ = ["LagrangianProposals"]

SOLVERS = ("exact", "gradient_ascent")


class LagrangianProposals:
    r"""The segmentation closest to the network's that is within the size bounds (Pathak et al., ICCV 2015).

    .. math::
        \min_Q \mathrm{KL}(Q \| S) \text{ such that } a_k \le \sum_p Q_{p,k} \le b_k,

    with S the softmax of the logits, annotated pixels held at certainty. The solution is
    :math:`Q_{p,c} \propto S_{p,c} e^{\mu_c}`, :math:`\mu = \lambda_{lower} - \lambda_{upper}`. The baseline of
    Kervadec et al. 2019 (section 4) trains on such proposals, made anew from every output.

    Example:
        >>> logits = torch.zeros(1, 2, 4, 4)  # a soft size of 8
        >>> nothing_annotated = torch.full((1, 1, 4, 4), 255)
        >>> proposals = LagrangianProposals()(logits, nothing_annotated, torch.tensor([[[0.0, 16.0], [1.0, 4.0]]]))
        >>> round(proposals.probabilities[0, 1, 0, 0].item(), 4)
        0.25
    """

    def __init__(
        self,
        solver: str = "exact",
        classes: Sequence[int] | None = None,
        sides: str = "both",
        early_stop: str = "none",
        step_size: float = 5e-5,
        max_iterations: int = 500,
        tolerance: float = 1e-3,
        ignore_index: int = DEFAULT_IGNORE_INDEX,
    ) -> None:
        """
        Args:
            solver: ``"exact"``, or ``"gradient_ascent"`` as published; see
                :func:`~sizeloss_monai.proposals.exact_proposals` and
                :func:`~sizeloss_monai.proposals.projected_gradient_ascent`.
            classes: the constrained classes; defaults to all but the background.
            sides: ``"both"`` bounds, or only the ``"lower"`` or the ``"upper"`` one ("one bound" of the paper).
            early_stop, step_size, max_iterations: of gradient ascent alone; see there.
            tolerance: in voxels; how far sizes may be from optimal for the exact solver, and for the stop ``"sound"``.
            ignore_index: value of the weak label where nobody annotated.

        Raises:
            ValueError: when an option is none of the above or out of range, ``classes`` is empty or has a negative or
                repeated id, or an early stop is asked of the exact solver.
        """
        if solver not in SOLVERS:
            raise ValueError(f"solver must be one of {SOLVERS}, found {solver!r}.")
        if sides not in SIDES:
            raise ValueError(f"sides must be one of {SIDES}, found {sides!r}.")
        check_ascent_options(early_stop, step_size, max_iterations, tolerance)
        if solver == "exact" and early_stop != "none":
            raise ValueError(f"early_stop {early_stop!r} is for gradient ascent; the exact solver has none.")
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
            logits: shape ``[B, C >= 2, *spatial]``, finite, any floating dtype; computed in at least float32, without
                gradients.
            weak_label: class ids, shape ``[B, 1, *spatial]``, ``ignore_index`` where not annotated. Annotated pixels
                of any class, the background too, are held at certainty.
            bounds: lower and upper bound in voxels, shape ``[B, C, 2]``; ``(0, 0)`` where a class is absent,
                ``(0, inf)`` where it is not constrained.

        Raises:
            NonFiniteLogitsError: a ValueError, when a logit is NaN or infinite, as after a training that diverged or
                an overflow of half precision.
            ValueError: when a shape is wrong or a class is not below ``C``; a bound is NaN, inverted or infinite on
                the wrong side; or the weak label holds an unknown id. On another device than the CPU the look at
                values makes the host wait once.
        """
        if self.solver == "exact":
            return exact_proposals(
                logits, weak_label, bounds, self.classes, self.sides, self.tolerance, self.ignore_index
            )
        return projected_gradient_ascent(
            logits,
            weak_label,
            bounds,
            self.classes,
            self.sides,
            self.early_stop,
            self.step_size,
            self.max_iterations,
            self.tolerance,
            self.ignore_index,
        )
