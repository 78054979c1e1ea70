"""CRF energy of a hard segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.metrics import CumulativeIterationMetric, do_metric_reduction
from monai.utils import MetricReduction

from sizeloss_monai.losses import gated_crf_energy

__all__ = ["CRFEnergyMetric"]


class CRFEnergyMetric(CumulativeIterationMetric):
    r"""How much of a segmentation's boundary lies where the image has no edge, 0 to 1.

    It is the Potts energy of :class:`~sizeloss_monai.losses.GatedCRFLoss` of the hard segmentation, divided by that of
    the same segmentation in an image without any contrast:

    .. math::
        \frac{\sum_{ij:\, P_i \ne P_j} e^{-|x_i - x_j|^2 / 2 \sigma_{xy}^2 - |I_i - I_j|^2 / 2 \sigma_I^2}}
        {\sum_{ij:\, P_i \ne P_j} e^{-|x_i - x_j|^2 / 2 \sigma_{xy}^2}}

    The energy itself grows with the length of the boundary, and so with the size of the target: it would prefer
    small masks to right ones. A segmentation without a boundary, one label everywhere, has 1: no edge speaks for it.
    """

    def __init__(
        self,
        radius: int | Sequence[int] = (2, 2, 0),
        sigma_xy: float = 6.0,
        sigma_intensity: float = 0.1,
        reduction: MetricReduction | str = MetricReduction.MEAN,
    ) -> None:
        """
        Args:
            radius: of the window of neighbours in voxels, one number or one for each axis; defaults to neighbours
                within a slice, for volumes with thick slices along the last axis.
            sigma_xy: of the distance, in mm where the image has an affine, else in voxels.
            sigma_intensity: of the contrast, in the image's unit; the default suits images scaled to 0..1.
            reduction: how cases are reduced by ``aggregate``, as in ``monai.metrics.DiceMetric``.
        """
        super().__init__()
        self.radius = radius
        self.distance = {"weight": 1.0, "sigma_xy": sigma_xy}
        self.appearance = {**self.distance, "sigma_intensity": sigma_intensity}
        self.reduction = reduction

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **kwargs: Any) -> torch.Tensor:  # type: ignore[override]
        """
        Args:
            y_pred: one-hot, shape ``[B, C, *spatial]``.
            y: the image, shape ``[B, K, *spatial]``; the affine of a ``MetaTensor`` gives the spacing in mm.
            kwargs: unused.

        Returns:
            Shape ``[B, 1]``, float32.

        Raises:
            ValueError: when a shape is none of these, or the radius does not fit the number of axes.
        """
        spacing = None
        if isinstance(y, MetaTensor):
            # one spacing, or where items were collated a list of them
            per_item = torch.stack(y.pixdim) if isinstance(y.pixdim, list) else torch.as_tensor(y.pixdim)[None]
            spacing = per_item[:, : y.ndim - 2].expand(len(y), -1)
        mask = y_pred.float()
        energy = gated_crf_energy(mask, y, self.radius, spacing, [self.appearance])
        boundary = gated_crf_energy(mask, y, self.radius, spacing, [self.distance])
        share = torch.where(boundary > 0, energy / boundary, 1.0)
        return share.clamp(max=1.0)[:, None]

    def aggregate(self, reduction: MetricReduction | str | None = None) -> torch.Tensor:
        """
        Args:
            reduction: overrides the one given at construction.
        """
        values, _ = do_metric_reduction(self.get_buffer(), reduction or self.reduction)
        return values
