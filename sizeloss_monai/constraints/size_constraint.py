"""The size constraint of the paper (Eqs. 2 and 3), per item and per volume."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.utils import LossReduction
from torch.nn.modules.loss import _Loss

from sizeloss_monai.constraints.penalties import Scale, Sides, check_bounds_shape, quadratic_penalty
from sizeloss_monai.constraints.statistics import check_classes, measure_sizes
from sizeloss_monai.errors import check_option

__all__ = ["SizeConstraintLoss", "VolumeSizeConstraintLoss", "size_constraint"]


def size_constraint(
    logits: torch.Tensor,
    bounds: torch.Tensor,
    scale: Scale = "voxels",
    sides: Sides = "both",
    voxel_size: torch.Tensor | None = None,
    sharpness: float = 1.0,
) -> torch.Tensor:
    """Penalty of every class of every item, shape ``[B, C]``; the pure function of :class:`SizeConstraintLoss`."""
    _check_options(scale, sides, sharpness)
    with torch.autocast(logits.device.type, enabled=False):
        size, extent = measure_sizes(logits, voxel_size, sharpness)
        return quadratic_penalty(size, bounds.to(size), extent, scale, sides)


def _check_options(scale: Scale, sides: Sides, sharpness: float) -> None:
    check_option("scale", scale, Scale)
    check_option("sides", sides, Sides)
    if not (math.isfinite(sharpness) and sharpness > 0):
        raise ValueError(f"sharpness must be finite and > 0, got {sharpness!r}.")


class _SizeConstraint(_Loss):
    """Options and input checks of the constraints on items and on volumes."""

    def __init__(
        self,
        include_background: bool = False,
        classes: Sequence[int] | None = None,
        scale: Scale = "voxels",
        sides: Sides = "both",
        reduction: LossReduction | str = LossReduction.MEAN,
        sharpness: float = 1.0,
    ) -> None:
        """
        Args:
            include_background: whether class 0 is constrained too. Ignored where ``classes`` is given.
            classes: the constrained classes; None constrains all, class 0 as ``include_background`` says.
            scale: how a violation is measured.

                - ``"voxels"``: Eq. 3 as printed. Gradients grow with the size of the image.
                - ``"image"``: Eq. 3 divided by the number of voxels of an item, as in the authors' published code.
                - ``"relative"``: the violation as a share of the violated bound (as a share of the item's number of
                  voxels where that bound is 0), squared. The same shape costs the same at any resolution.
                - ``"log"``: the logarithm of the size over the violated bound, squared (where that bound is 0, as
                  ``"relative"``). It equals ``"relative"`` near the bound, stays small far above it, and does not
                  vanish with the prediction.

                With ``voxel_size``, sizes and numbers of voxels are in its unit: ``"voxels"`` is then squared mm²,
                for example. Only ``"relative"`` and ``"log"`` do not depend on the unit.
            sides: ``"both"`` bounds, or only the ``"lower"`` or the ``"upper"`` one.
            reduction: {``"none"``, ``"mean"``, ``"sum"``} over items and constrained classes; the paper sums, the
                published code averages. ``"none"`` gives shape ``[B, number of constrained classes]``.
            sharpness: sizes are measured on softmax(``sharpness`` * logits). At the paper's 1, a uniformly grey map
                whose argmax is empty can have any size. A larger value brings the soft size closer to the hard one,
                and leaves the gradient to fewer voxels, those near a boundary.

        Raises:
            ValueError: when ``scale``, ``sides`` or ``reduction`` is unknown, ``classes`` is empty or has a negative
                or repeated id, or ``sharpness`` is not finite and positive.
        """
        super().__init__(reduction=LossReduction(reduction).value)
        _check_options(scale, sides, sharpness)
        self.include_background = include_background
        self.classes = None if classes is None else check_classes(classes)
        self.scale: Scale = scale
        self.sides: Sides = sides
        self.sharpness = sharpness

    def _constrained_classes(self, input: torch.Tensor, bounds: torch.Tensor) -> list[int]:
        """The constrained classes; raises as :meth:`forward` says."""
        check_bounds_shape(bounds, input)
        num_classes = input.shape[1]
        classes = self.classes or list(range(0 if self.include_background else 1, num_classes))
        if not classes or max(classes) >= num_classes:
            raise ValueError(f"classes must be at least one id below the {num_classes} channels, got {classes}.")
        return classes


class SizeConstraintLoss(_SizeConstraint):
    r"""Quadratic penalty on the soft size outside its bounds (Kervadec et al. 2019, Eq. 3).

    With :math:`V_S = \sum_p S_p` and bounds :math:`(a, b)`,

    .. math::
        C(V_S) = (V_S - a)^2 \text{ if } V_S < a, \quad (V_S - b)^2 \text{ if } V_S > b, \quad 0 \text{ otherwise,}

    with the gradient :math:`2 (V_S - a)` or :math:`2 (V_S - b)` at every voxel's :math:`S_p` (Eq. 4). An item may be a
    slice or a whole volume. Tags, common and individual bounds differ only in their values: an absent class has
    ``(0, 0)``, an unconstrained one ``(0, inf)``.

    Example:
        >>> loss = SizeConstraintLoss()
        >>> logits = torch.zeros(1, 2, 4, 4)  # a soft size of 8
        >>> loss(logits, torch.tensor([[[0.0, float("inf")], [1.0, 6.0]]])).item()
        4.0
    """

    def forward(
        self, input: torch.Tensor, bounds: torch.Tensor, voxel_size: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Args:
            input: logits, shape ``[B, C, *spatial]``.
            bounds: lower and upper bound per item and class, shape ``[B, C, 2]``, in the unit of ``voxel_size``.
            voxel_size: size of one voxel of each item (mm² of a pixel, mL of a voxel), shape ``[B]``, > 0; None means
                bounds in voxels.

        Raises:
            ValueError: when ``bounds`` or ``voxel_size`` has another shape, a bound is NaN, a constrained class is not
                below ``C``, or there are no constrained classes.
        """
        classes = self._constrained_classes(input, bounds)
        penalty = size_constraint(input, bounds, self.scale, self.sides, voxel_size, self.sharpness)[:, classes]
        if self.reduction == LossReduction.NONE.value:
            return penalty
        return penalty.sum() if self.reduction == LossReduction.SUM.value else penalty.mean()


class VolumeSizeConstraintLoss(_SizeConstraint):
    r"""Penalty on the soft size of a volume, summed over its slices (Kervadec et al. 2019, section 4, "3D").

    A batch holds all slices of one or several volumes: :math:`V_B = \sum_S V_S`, and its bounds are the sums of the
    slices' bounds. Individual bounds ``(0.9 tau_S, 1.1 tau_S)`` of slices so give :math:`(0.9\, \tau_B, 1.1\, \tau_B)`.
    The loss does not use that a single slice lacks a target. The scale ``"image"`` divides by the voxels of the volume,
    so that a volume of n slices weighs as much as n slices with the same relative error. The authors' published code
    divides by the pixels of one slice, which weighs n times as much.

    Example:
        >>> loss = VolumeSizeConstraintLoss()
        >>> logits = torch.zeros(2, 2, 4, 4)  # two slices, a soft size of 8 each
        >>> bounds = torch.tensor([[[0.0, float("inf")], [4.0, 8.0]], [[0.0, float("inf")], [2.0, 6.0]]])
        >>> loss(logits, bounds).item()  # (16 - 14)^2
        4.0
    """

    def forward(
        self,
        input: torch.Tensor,
        bounds: torch.Tensor,
        volume: torch.Tensor | None = None,
        voxel_size: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Args:
            input, bounds, voxel_size: see :class:`SizeConstraintLoss`; the items are slices.
            volume: integers that name the volume of each slice, in any order, shape ``[B]``; None for one volume.

        Returns:
            Mean or sum over volumes and classes; with ``"none"`` the penalties of each slice's volume,
            ``[B, number of constrained classes]``.

        Raises:
            ValueError: as :class:`SizeConstraintLoss`, or when ``volume`` has another shape.
        """
        classes = self._constrained_classes(input, bounds)
        if volume is None:
            volume = torch.zeros(len(input), dtype=torch.long, device=input.device)
        if volume.shape != input.shape[:1]:
            raise ValueError(f"volume must have shape {[len(input)]}, got {list(volume.shape)}.")
        with torch.autocast(input.device.type, enabled=False):
            size, extent = measure_sizes(input, voxel_size, self.sharpness)
            together = volume[:, None] == volume[None, :]
            # each slice gets its volume's sums: a grouping would make the host wait for the number of groups
            size, both, extent = (_sums(together, values) for values in (size, bounds.to(size), extent))
            penalty = quadratic_penalty(size, both, extent, self.scale, self.sides)[:, classes]
        share = 1 / together.sum(dim=1, keepdim=True).to(penalty)  # every slice repeats its volume's penalty
        if self.reduction == LossReduction.NONE.value:
            return penalty
        total = (penalty * share).sum()
        return total if self.reduction == LossReduction.SUM.value else total / (share.sum() * len(classes))


def _sums(together: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Sum over the items of the same volume, for each item; ``[B, B]`` and ``[B, ...]`` give ``[B, ...]``."""
    mask = together.reshape(*together.shape, *[1] * (values.ndim - 1))
    return torch.where(mask, values[None], 0).sum(dim=1)  # a product would make 0 * inf of absent bounds
