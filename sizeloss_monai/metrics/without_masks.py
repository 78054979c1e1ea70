"""Metrics and a validation score that need no full masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.metrics import CumulativeIterationMetric, DiceMetric
from monai.utils import MetricReduction

from sizeloss_monai.constraints.penalties import refuse_nan_bounds
from sizeloss_monai.data.label_ids import DEFAULT_IGNORE_INDEX
from sizeloss_monai.errors import check_option
from sizeloss_monai.losses import gated_crf_energy
from sizeloss_monai.metrics.with_masks import DefinedMeanMetric
from sizeloss_monai.options import Per

__all__ = ["AnnotatedDiceMetric", "CRFEnergyMetric", "SizeViolationMetric", "WeakScoreMetric", "size_violation"]


class AnnotatedDiceMetric(DefinedMeanMetric, DiceMetric):
    r"""Dice of every class over the annotated voxels :math:`\Omega_L`, for validation without full masks.

    .. math::
        D_c = \frac{2 |P_c \cap Y_c|}{|P_c \cap \Omega_L| + |Y_c|}

    with prediction :math:`P_c` and annotation :math:`Y_c \subseteq \Omega_L`. It sees a false positive only where
    another class is annotated. Without annotated background a prediction that covers everything scores 1; then only
    narrow size bounds tell it from a good one. A class without annotated voxels in a case is NaN, and does not count.

    Args:
        include_background: whether class 0 counts too.
        ignore_index: value of unannotated voxels.
        reduction: over cases and classes, as in ``monai.metrics.DiceMetric``.

    Example:
        >>> weak_label = torch.tensor([[[[1, 1, 255, 0]]]])
        >>> prediction = torch.tensor([[[[0, 1, 1, 0]]]])
        >>> metric = AnnotatedDiceMetric()
        >>> _ = metric(torch.cat([1 - prediction, prediction], dim=1), weak_label)
        >>> round(metric.aggregate().item(), 4)  # 2 * 1 / (1 + 2)
        0.6667
    """

    def __init__(
        self,
        include_background: bool = False,
        ignore_index: int = DEFAULT_IGNORE_INDEX,
        reduction: MetricReduction | str = MetricReduction.MEAN,
    ) -> None:
        super().__init__(include_background=include_background, reduction=reduction, ignore_index=ignore_index)

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **kwargs: Any) -> torch.Tensor:  # type: ignore[override]
        """Dice, float32, shape ``[B, C - 1]`` (``C`` with the background).

        Args:
            y_pred: one-hot, shape ``[B, C, *spatial]``, ``C >= 2``.
            y: class ids and ``ignore_index``, shape ``[B, 1, *spatial]``.
            kwargs: unused.

        Raises:
            ValueError: when ``y`` has another shape.
        """
        expected = [len(y_pred), 1, *y_pred.shape[2:]]
        if list(y.shape) != expected:
            raise ValueError(f"y must hold class ids, shape {expected}, got {list(y.shape)}.")
        ids = y.as_subclass(torch.Tensor).long()
        return super()._compute_tensor(y_pred.as_subclass(torch.Tensor).float(), ids).float()


def size_violation(size: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    r"""How far sizes lie outside their bounds, 0 (inside) to 1.

    With :math:`t` the value within the bounds nearest to the size :math:`V`,

    .. math::
        v = \frac{|V - t|}{V + t}

    so that :math:`1 - v = 2 \min(V, t) / (V + t)` is the highest Dice that a mask of this size can have with any mask
    that keeps the bounds. It has no unit and treats twice and half the size alike. It is 1 for an empty mask of a
    present class, and for any mask of an absent class, bounds ``(0, 0)``.

    Args:
        size: any shape ``[...]``, >= 0.
        bounds: lower and upper bound in the same unit, shape ``[..., 2]``; the upper one may be infinite.

    Returns:
        Violations, shaped as ``size``; NaN for ``(0, inf)``, where nothing is bounded.

    Raises:
        ValueError: when a bound is NaN.
    """
    refuse_nan_bounds(bounds)
    lower, upper = bounds.unbind(-1)
    nearest = torch.minimum(torch.maximum(size, lower), upper)
    total = size + nearest
    violation = (size - nearest).abs() / torch.where(total > 0, total, 1)
    return torch.where((lower == 0) & torch.isinf(upper), torch.nan, violation)


class SizeViolationMetric(DefinedMeanMetric):
    """:func:`size_violation` of every class; classes without bounds, ``(0, inf)``, are NaN and do not count.

    Args:
        per: whether bounds hold for a case as a whole (``"volume"``), or for each of its slices (``"slice"``).
        include_background: whether class 0 counts too.
        reduction: over cases and classes, as in ``monai.metrics.DiceMetric``.

    Raises:
        ValueError: when ``per`` is neither.

    Example:
        >>> mask = torch.zeros(1, 2, 4, 4, 1)
        >>> mask[:, 1, :2] = 1  # 8 voxels
        >>> metric = SizeViolationMetric()
        >>> bounds = torch.tensor([[[0.0, torch.inf], [1.0, 3.0]]])  # mL
        >>> metric(mask, bounds, voxel_size=torch.tensor([0.75])).item()  # (6 - 3) / (6 + 3)
        0.3333333432674408
    """

    def __init__(
        self,
        per: Per = "volume",
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
    ) -> None:
        super().__init__()
        check_option("per", per, Per)
        self.per = per
        self.include_background = include_background
        self.reduction = reduction

    def _compute_tensor(  # type: ignore[override]
        self, y_pred: torch.Tensor, y: torch.Tensor, voxel_size: torch.Tensor | None = None, **kwargs: Any
    ) -> torch.Tensor:
        """Violations, float32, ``[B, C - 1]`` (``C`` with the background); of slices the mean over bounded ones.

        Args:
            y_pred: one-hot, shape ``[B, C, *spatial]``.
            y: bounds, shape ``[B, C, 2]``, or ``[B, C, 2, D]`` with those of each slice along the last axis. Slices'
                bounds of a volume are shares that add up to it.
            voxel_size: size of one voxel in the bounds' unit, shape ``[B]``; None means voxels.
            kwargs: unused.

        Raises:
            ValueError: when ``y`` or ``voxel_size`` has another shape.
        """
        bounds = y.as_subclass(torch.Tensor).float()
        of_slices = (*y_pred.shape[:2], 2, y_pred.shape[-1])
        if bounds.shape != of_slices and (self.per == "slice" or bounds.shape != of_slices[:-1]):
            shapes = [list(of_slices)] if self.per == "slice" else [list(of_slices[:-1]), list(of_slices)]
            raise ValueError(f"bounds must have shape {' or '.join(map(str, shapes))}, got {list(bounds.shape)}.")
        unit = torch.ones(len(y_pred)) if voxel_size is None else torch.as_tensor(voxel_size).float()
        if unit.shape != (len(y_pred),):
            raise ValueError(f"voxel_size must have shape [{len(y_pred)}], got {list(unit.shape)}.")
        mask = y_pred.as_subclass(torch.Tensor) > 0
        voxels = mask.flatten(2, -2).sum(dim=2)  # [B, C, D], exact
        unit, bounds = unit.to(voxels.device), bounds.to(voxels.device)
        if self.per == "slice":
            violation = size_violation(voxels * unit[:, None, None], bounds.movedim(2, -1)).nanmean(dim=-1)
        else:
            of_case = bounds.sum(dim=-1) if bounds.ndim == len(of_slices) else bounds
            violation = size_violation(voxels.sum(dim=-1) * unit[:, None], of_case)
        return violation if self.include_background else violation[:, 1:]


class CRFEnergyMetric(DefinedMeanMetric):
    r"""Share of a segmentation's boundary that lies where the image has no edge, 0 to 1.

    It is the Potts energy (:class:`~sizeloss_monai.losses.GatedCRFLoss`) of the hard segmentation, divided by the
    energy of the same segmentation in an image without contrast:

    .. math::
        \frac{\sum_{ij:\, P_i \ne P_j} e^{-|x_i - x_j|^2 / 2 \sigma_{xy}^2 - |I_i - I_j|^2 / 2 \sigma_I^2}}
        {\sum_{ij:\, P_i \ne P_j} e^{-|x_i - x_j|^2 / 2 \sigma_{xy}^2}}

    The energy alone grows with the length of the boundary, and would prefer small masks to right ones. A segmentation
    without a boundary, one label everywhere, has 1: no edge supports it.

    Args:
        radius: of the window in voxels, one number or one per axis; the default takes neighbours within a slice, for
            volumes with thick slices along the last axis.
        sigma_xy: of the distance, in mm where the image has an affine, else in voxels.
        sigma_intensity: of the contrast, in the image's unit; the default suits images scaled to 0..1.
        reduction: over cases, as in ``monai.metrics.DiceMetric``.
    """

    def __init__(
        self,
        radius: int | Sequence[int] = (2, 2, 0),
        sigma_xy: float = 6.0,
        sigma_intensity: float = 0.1,
        reduction: MetricReduction | str = MetricReduction.MEAN,
    ) -> None:
        super().__init__()
        self.radius = radius
        self.distance = {"weight": 1.0, "sigma_xy": sigma_xy}
        self.appearance = {**self.distance, "sigma_intensity": sigma_intensity}
        self.reduction = reduction

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **kwargs: Any) -> torch.Tensor:  # type: ignore[override]
        """Shares, float32, shape ``[B, 1]``.

        Args:
            y_pred: one-hot, shape ``[B, C, *spatial]``.
            y: image, shape ``[B, K, *spatial]``; the affine of a ``MetaTensor`` gives the spacing in mm.
            kwargs: unused.

        Raises:
            ValueError: when a shape is invalid, or the radius does not fit the number of axes.
        """
        spacing = None
        if isinstance(y, MetaTensor):
            # one spacing, or a list of them where items were collated
            per_item = torch.stack(y.pixdim) if isinstance(y.pixdim, list) else torch.as_tensor(y.pixdim)[None]
            spacing = per_item[:, : y.ndim - 2].expand(len(y), -1)
        mask = y_pred.float()
        energy = gated_crf_energy(mask, y, self.radius, spacing, [self.appearance])
        boundary = gated_crf_energy(mask, y, self.radius, spacing, [self.distance])
        share = torch.where(boundary > 0, energy / boundary, 1.0)
        return share.clamp(max=1.0)[:, None]


class WeakScoreMetric(CumulativeIterationMetric):
    r"""Score that selects an epoch without full masks; higher is better.

    .. math::
        s = D - w_v v - w_e e

    with the Dice :math:`D` over annotated voxels (:class:`AnnotatedDiceMetric`), the violation :math:`v` of the size
    bounds (:class:`SizeViolationMetric`) and the CRF energy :math:`e` of the boundary (:class:`CRFEnergyMetric`), each
    averaged over the classes of a case, then over the cases that define it. :math:`D` and :math:`v` share the unit of
    Dice: :math:`v` is the Dice that a mask of a wrong size must lose. The score leaves out a part that no case defines,
    for example without bounds; see :meth:`parts`.

    The weights were chosen on ACDC's left ventricle (scribbles of 30 validation volumes, bounds of 20 to 400 mL) over
    32 networks, trained in 16 ways to a true Dice of .12 to .92. The score's rank correlation with the true Dice is
    .97, that of :math:`D` alone .97, of :math:`-e` .94, and of :math:`-v` .16: bounds that wide only tell impossible
    masks from possible ones.

    Where no voxels are annotated as background, :math:`D` only measures whether the prediction finds the target's
    annotated voxels, and the score is only as good as the bounds are narrow.

    Args:
        size_weight: :math:`w_v`; 0 skips the term.
        crf_weight: :math:`w_e`; 0 skips the term.
        annotated_dice, size_violation, crf_energy: the three metrics, where their defaults do not fit.

    Raises:
        ValueError: when a weight is negative.

    Example:
        >>> mask = torch.zeros(1, 2, 4, 4, 1)
        >>> mask[:, 1, :2], mask[:, 0, 2:] = 1, 1
        >>> weak_label = torch.full((1, 1, 4, 4, 1), 255)
        >>> weak_label[..., 0, 0, 0], weak_label[..., 3, 3, 0] = 1, 0
        >>> metric = WeakScoreMetric()
        >>> _ = metric(mask, weak_label, size_bounds=torch.tensor([[[0, torch.inf], [2, 4]]]))  # 8 voxels, 4 at most
        >>> round(metric.aggregate().item(), 4)  # 1 - (8 - 4) / (8 + 4)
        0.6667
    """

    part_names = ("annotated_dice", "size_violation", "crf_energy")

    def __init__(
        self,
        size_weight: float = 1.0,
        crf_weight: float = 0.25,
        annotated_dice: AnnotatedDiceMetric | None = None,
        size_violation: SizeViolationMetric | None = None,
        crf_energy: CRFEnergyMetric | None = None,
    ) -> None:
        super().__init__()
        if size_weight < 0 or crf_weight < 0:
            raise ValueError(f"size_weight and crf_weight must be >= 0, got {size_weight} and {crf_weight}.")
        self.weights = (1.0, -size_weight, -crf_weight)
        self.metrics: tuple[CumulativeIterationMetric, ...] = (
            annotated_dice or AnnotatedDiceMetric(),
            size_violation or SizeViolationMetric(),
            crf_energy or CRFEnergyMetric(),
        )

    def _compute_tensor(
        self,
        y_pred: torch.Tensor,
        y: torch.Tensor | None = None,
        size_bounds: torch.Tensor | None = None,
        voxel_size: torch.Tensor | None = None,
        image: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """The three parts of every case, each a mean over classes, ``[B, 3]``; NaN where a part is not defined.

        Args:
            y_pred: one-hot, shape ``[B, C, *spatial]``.
            y: weak label, class ids and 255 where not annotated, shape ``[B, 1, *spatial]``.
            size_bounds, voxel_size: see :class:`SizeViolationMetric`.
            image: shape ``[B, K, *spatial]``, a ``MetaTensor`` for distances in mm.
            kwargs: unused.
        """
        columns = []
        for metric, weight, against in zip(self.metrics, self.weights, (y, size_bounds, image), strict=True):
            if against is None or weight == 0:
                columns.append(torch.full((len(y_pred),), torch.nan, device=y_pred.device))
            else:
                values = metric._compute_tensor(y_pred, against.to(y_pred.device), voxel_size=voxel_size)
                columns.append(torch.as_tensor(values).nanmean(dim=1))
        return torch.stack(columns, dim=1)

    @property
    def measured(self) -> list[str]:
        """Names of the parts whose weight is not 0."""
        return [name for name, weight in zip(self.part_names, self.weights, strict=True) if weight != 0]

    def parts(self) -> dict[str, float]:
        """Means over cases of the parts by name, without those that have weight 0 or that no case defines."""
        means = torch.as_tensor(self.get_buffer()).nanmean(dim=0).tolist()
        return {name: mean for name, mean in zip(self.part_names, means, strict=True) if mean == mean}

    def aggregate(self) -> torch.Tensor:
        """The score; NaN where no voxels of any case are annotated."""
        parts = {"annotated_dice": torch.nan, **self.parts()}
        weights = dict(zip(self.part_names, self.weights, strict=True))
        return torch.tensor(sum(weights[name] * value for name, value in parts.items()))
