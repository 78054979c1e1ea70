"""The size constraint of the paper (Eqs. 2 and 3), per slice and per volume."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.utils import LossReduction
from torch.nn.modules.loss import _Loss

from sizeloss_monai.constraints.penalties import bound_violations, refuse_nan_bounds
from sizeloss_monai.constraints.statistics import check_classes, class_probabilities, soft_size

__all__ = ["SizeConstraintLoss", "VolumeSizeConstraintLoss", "size_constraint", "size_penalty"]

SCALES = ("voxels", "image", "relative", "log")
SIDES = ("both", "lower", "upper")
SMALLEST_RATIO = 1e-12
"""Of a size to its lower bound, below which ``"log"`` grows no more: softmax in float32 can underflow to 0."""


def size_constraint(
    logits: torch.Tensor,
    bounds: torch.Tensor,
    scale: str = "voxels",
    sides: str = "both",
    voxel_size: torch.Tensor | None = None,
    sharpness: float = 1.0,
) -> torch.Tensor:
    """Penalty of every class of every item; the functional core of :class:`SizeConstraintLoss`.

    Args:
        logits: shape ``[B, C, *spatial]``.
        bounds: shape ``[B, C, 2]``, in voxels, or the unit of ``voxel_size``.
        scale: see :class:`SizeConstraintLoss`.
        sides: see :class:`SizeConstraintLoss`.
        voxel_size: size of a voxel of each item in the unit of ``bounds``, shape ``[B]``; None: that unit is voxels.
        sharpness: see :class:`SizeConstraintLoss`.

    Returns:
        Penalties, shape ``[B, C]``.

    Raises:
        ValueError: when an option is none of those, ``voxel_size`` is not of that shape, or a bound is NaN.
    """
    _check_options(scale, sides, sharpness)
    with torch.autocast(logits.device.type, enabled=False):
        size, extent = sizes_and_extent(logits, voxel_size, sharpness)
        return size_penalty(size, bounds.to(size), extent, scale, sides)


def sizes_and_extent(
    logits: torch.Tensor, voxel_size: torch.Tensor | None, sharpness: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """What a size constraint measures; see :func:`size_constraint` for the arguments.

    Returns:
        The soft size of every class, shape ``[B, C]``, and the size of the whole item, shape ``[B, 1]``, both in the
        unit of ``voxel_size``.

    Raises:
        ValueError: when ``voxel_size`` is not of shape ``[B]``.
    """
    size = soft_size(class_probabilities(logits, sharpness))
    extent = torch.full((len(logits), 1), math.prod(logits.shape[2:]), device=size.device)
    if voxel_size is None:
        return size, extent
    if voxel_size.shape != logits.shape[:1]:
        raise ValueError(f"voxel_size must have shape {[len(logits)]}, found {list(voxel_size.shape)}.")
    unit = voxel_size.to(size)[:, None]
    return size * unit, extent * unit


def size_penalty(
    size: torch.Tensor, bounds: torch.Tensor, extent: torch.Tensor, scale: str, sides: str
) -> torch.Tensor:
    """Penalty (Kervadec et al. 2019, Eq. 3) of sizes that are known already.

    Args:
        size: shape ``[B, C]``, at least float32.
        bounds: shape ``[B, C, 2]``, of the same type and unit.
        extent: the size of what the sizes were measured in, shape ``[B, 1]``, in the same unit.
        scale: see :class:`SizeConstraintLoss`.
        sides: see :class:`SizeConstraintLoss`.

    Returns:
        Penalties of the shape of ``size``; NaN where a size is, as with NaN logits.

    Raises:
        ValueError: when a bound is NaN.
    """
    refuse_nan_bounds(bounds)
    below, above = bound_violations(size, bounds)
    if scale in ("relative", "log"):
        lower, upper = bounds.unbind(-1)
        # an absent target has b = 0: there the share of the image is the only scale-free measure
        below = below / torch.where(lower > 0, lower, extent)
        above = above / torch.where(upper > 0, upper, extent)
    if scale == "log":
        ratio = torch.where(lower > 0, size / torch.where(lower > 0, lower, 1), 1)
        below = torch.relu(-torch.log(ratio.clamp(min=SMALLEST_RATIO)))
        above = torch.where(upper > 0, torch.log1p(above), above)
    zero = torch.zeros_like(size)
    penalty = (zero if sides == "upper" else below.square()) + (zero if sides == "lower" else above.square())
    return penalty / extent if scale == "image" else penalty


def _check_options(scale: str, sides: str, sharpness: float) -> None:
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {SCALES}, found {scale!r}.")
    if sides not in SIDES:
        raise ValueError(f"sides must be one of {SIDES}, found {sides!r}.")
    if not (math.isfinite(sharpness) and sharpness > 0):
        raise ValueError(f"sharpness must be finite and > 0, found {sharpness!r}.")


class _SizeConstraint(_Loss):
    """What the constraints on items and on volumes have in common: their options, and the check of their input."""

    def __init__(
        self,
        include_background: bool = False,
        classes: Sequence[int] | None = None,
        scale: str = "voxels",
        sides: str = "both",
        reduction: LossReduction | str = LossReduction.MEAN,
        sharpness: float = 1.0,
    ) -> None:
        """
        Args:
            include_background: whether class 0 is constrained too. Ignored where ``classes`` is given.
            classes: the constrained classes; defaults to all, the background as ``include_background`` says.
            scale: the unit of the violation; defaults to ``"voxels"``.

                - ``"voxels"``: Eq. 3 as printed. Gradients grow with the size of the image.
                - ``"image"``: Eq. 3 divided by the number of voxels of an item, as in the authors' published code.
                - ``"relative"``: the violation as a share of the violated bound (of the item's number of voxels where
                  that bound is 0), squared: the same for the same shape at any resolution.
                - ``"log"``: the logarithm of the size over the violated bound, squared (where that bound is 0 as
                  ``"relative"``). The same as ``"relative"`` near the bound, but far above it the penalty stays
                  small, and it does not vanish with the prediction.

                With ``voxel_size`` sizes and numbers of voxels are in its unit: ``"voxels"`` is then squared mm²,
                say, and only ``"relative"`` and ``"log"`` do not depend on the choice of the unit.
            sides: ``"both"`` bounds, or only the ``"lower"`` or the ``"upper"`` one.
            reduction: {``"none"``, ``"mean"``, ``"sum"``} over items and constrained classes; the paper sums, the
                published code averages. ``"none"`` gives shape ``[B, number of constrained classes]``.
            sharpness: sizes are measured on softmax(``sharpness`` * logits). At 1, the paper's, a uniformly grey map
                whose argmax is empty can have any size; the larger, the closer the soft size comes to the hard one,
                and the fewer voxels, those near a boundary, take the gradient.

        Raises:
            ValueError: when ``scale``, ``sides`` or ``reduction`` is none of the above, ``classes`` is empty or
                has a negative or repeated id, or ``sharpness`` is not finite and positive.
        """
        super().__init__(reduction=LossReduction(reduction).value)
        _check_options(scale, sides, sharpness)
        self.include_background = include_background
        self.classes = None if classes is None else check_classes(classes)
        self.scale = scale
        self.sides = sides
        self.sharpness = sharpness

    def _constrained_classes(self, input: torch.Tensor, bounds: torch.Tensor) -> list[int]:
        """The constrained classes of logits ``input``; raises as :meth:`forward` says."""
        if bounds.shape != (*input.shape[:2], 2):
            raise ValueError(f"bounds must have shape {[*input.shape[:2], 2]}, found {list(bounds.shape)}.")
        num_classes = input.shape[1]
        classes = self.classes or list(range(0 if self.include_background else 1, num_classes))
        if not classes or max(classes) >= num_classes:
            raise ValueError(f"classes {classes} must be below the number of channels, {num_classes}, at least one.")
        return classes


class SizeConstraintLoss(_SizeConstraint):
    r"""Quadratic penalty on the soft size outside its bounds (Kervadec et al. 2019, Eq. 3).

    With :math:`V_S = \sum_p S_p` and bounds :math:`(a, b)`,

    .. math::
        C(V_S) = (V_S - a)^2 \text{ if } V_S < a, \quad (V_S - b)^2 \text{ if } V_S > b, \quad 0 \text{ otherwise,}

    with the gradient :math:`2 (V_S - a)` or :math:`2 (V_S - b)` at every voxel's :math:`S_p` (Eq. 4). Bounds are
    per item and class, so an item may be a slice or a whole volume, and tags, common and individual bounds differ
    only in their values: an absent class has ``(0, 0)``, an unconstrained one ``(0, inf)``.

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
            bounds: lower and upper bound per item and class, shape ``[B, C, 2]``, in voxels, or the unit of
                ``voxel_size``.
            voxel_size: size of a voxel of each item in the unit of ``bounds`` (mm² of a pixel, mL of a voxel), shape
                ``[B]``, > 0. None: that unit is voxels.

        Raises:
            ValueError: when ``bounds`` or ``voxel_size`` is not of that shape, a bound is NaN, a constrained class
                is not below ``C``, or there is none.
        """
        classes = self._constrained_classes(input, bounds)
        penalty = size_constraint(input, bounds, self.scale, self.sides, voxel_size, self.sharpness)[:, classes]
        if self.reduction == LossReduction.NONE.value:
            return penalty
        return penalty.sum() if self.reduction == LossReduction.SUM.value else penalty.mean()


class VolumeSizeConstraintLoss(_SizeConstraint):
    r"""Penalty on the soft size of a volume, summed over its slices (Kervadec et al. 2019, section 4, "3D").

    A batch holds all slices of one volume, or of several: :math:`V_B = \sum_S V_S`, and its bounds are the sums of the
    slices' bounds. Slices with individual bounds ``(0.9 tau_S, 1.1 tau_S)`` so give
    :math:`(0.9\, \tau_B, 1.1\, \tau_B)`; that a slice's target is absent is not used. The scale ``"image"`` divides by
    the voxels of the volume, so that a volume of n slices weighs as much as n slices with the same relative error; the
    authors' published code divides by the pixels of one slice, which weighs n times as much.

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
            input: logits of slices, shape ``[B, C, *spatial]``.
            bounds: lower and upper bound per slice and class, shape ``[B, C, 2]``, in voxels, or the unit of
                ``voxel_size``.
            volume: which volume each slice belongs to, any integers, shape ``[B]``; slices of one volume need not be
                neighbours. None where all are of one.
            voxel_size: size of a voxel of each slice in the unit of ``bounds`` (mL), shape ``[B]``, > 0. None: that
                unit is voxels.

        Returns:
            Mean or sum over volumes and classes; with ``"none"`` each slice's volume's penalties, ``[B, classes]``.

        Raises:
            ValueError: when ``bounds``, ``volume`` or ``voxel_size`` is not of that shape, a bound is NaN, a
                constrained class is not below ``C``, or there is none.
        """
        classes = self._constrained_classes(input, bounds)
        if volume is None:
            volume = torch.zeros(len(input), dtype=torch.long, device=input.device)
        if volume.shape != input.shape[:1]:
            raise ValueError(f"volume must have shape {[len(input)]}, found {list(volume.shape)}.")
        with torch.autocast(input.device.type, enabled=False):
            size, extent = sizes_and_extent(input, voxel_size, self.sharpness)
            together = volume[:, None] == volume[None, :]
            # each slice gets its volume's sums: no grouping whose number of groups the host would have to know
            size, both, extent = (_sums(together, values) for values in (size, bounds.to(size), extent))
            penalty = size_penalty(size, both, extent, self.scale, self.sides)[:, classes]
        share = 1 / together.sum(dim=1, keepdim=True).to(penalty)  # every slice repeats its volume's penalty
        if self.reduction == LossReduction.NONE.value:
            return penalty
        total = (penalty * share).sum()
        return total if self.reduction == LossReduction.SUM.value else total / (share.sum() * len(classes))


def _sums(together: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """For each item the sum over the items it belongs together with; ``[B, B]`` and ``[B, ...]`` give ``[B, ...]``."""
    mask = together.reshape(*together.shape, *[1] * (values.ndim - 1))
    return torch.where(mask, values[None], 0).sum(dim=1)  # a product would make 0 * inf of absent bounds
