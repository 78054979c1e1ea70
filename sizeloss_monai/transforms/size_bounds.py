"""Size bounds of a label, a slice or a volume."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_tensor

from sizeloss_monai.data.label_ids import class_sizes
from sizeloss_monai.errors import check_option
from sizeloss_monai.options import Per, Unit
from sizeloss_monai.sizes.bounds import check_bounds, read_unit
from sizeloss_monai.transforms.geometry import VoxelSize

__all__ = ["LabelToSizeBounds", "LabelToSizeBoundsD", "LabelToSizeBoundsDict", "LabelToSizeBoundsd"]

Mode = Literal["tags", "common", "individual"]


class LabelToSizeBounds(Transform):
    r"""Lower and upper bound on the size of every class in a label, a slice or a whole volume.

    With :math:`\tau` the true size of a class and :math:`|\Omega|` the number of voxels (Kervadec et al. 2019,
    sections 3 and 4):

    ================  ================================  ==================
    mode              class present                     class absent
    ================  ================================  ==================
    ``"tags"``        ``(1, |Omega|)``                  ``(0, 0)``
    ``"common"``      ``common_bounds`` of the class    ``(0, 0)``
    ``"individual"``  ``(0.9 tau, 1.1 tau)``            ``(0, 0)``
    ================  ================================  ==================

    The background gets ``(0, inf)``. Apply the transform after all that resamples, pads or crops, so that bounds fit
    what the network sees. In mm² and mL the 1 in the table is the size of one voxel, and the loss needs that size too
    (``voxel_size`` of :class:`LabelToSizeBoundsd`).

    Args:
        mode: ``"tags"``, ``"common"`` or ``"individual"``.
        num_classes: number of classes with the background, >= 2.
        common_bounds: ``[num_classes][2]`` in ``unit``, for mode ``"common"``, such as ``[[0, inf], [60, 2000]]`` for
            the paper's ACDC, or what :func:`~sizeloss_monai.sizes.measure_common_bounds` gives.
        lower_factor, upper_factor: for mode ``"individual"``.
        unit: ``"voxels"``, or by the affine of the label ``"mm2"`` per slice, ``"mL"`` per volume.
        per: what bounds hold for, ``"slice"`` or ``"volume"``. Slices whose bounds in mL ``VolumeSizeConstraintLoss``
            adds up need ``"volume"``.

    Raises:
        ValueError: when an option is unknown, a number is out of range, or ``common_bounds`` is missing or refused by
            :func:`~sizeloss_monai.sizes.check_bounds`.

    Example:
        >>> label = torch.zeros(1, 8, 8, dtype=torch.uint8)
        >>> label[:, :5, :2] = 1
        >>> LabelToSizeBounds("individual", num_classes=2)(label)
        tensor([[ 0., inf],
                [ 9., 11.]])
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        mode: Mode,
        num_classes: int,
        common_bounds: Sequence[Sequence[float]] | None = None,
        lower_factor: float = 0.9,
        upper_factor: float = 1.1,
        unit: Unit = "voxels",
        per: Per = "slice",
    ) -> None:
        check_option("mode", mode, Mode)
        check_option("per", per, Per)
        if num_classes < 2:
            raise ValueError(f"num_classes must be >= 2, got {num_classes}.")
        if not 0 <= lower_factor <= upper_factor:
            raise ValueError(f"factors must be 0 <= lower <= upper, got {lower_factor} and {upper_factor}.")
        self.common_bounds: torch.Tensor | None = None
        if mode == "common":
            if common_bounds is None:
                raise ValueError("common_bounds must be given with mode 'common'.")
            check_bounds(common_bounds, num_classes, "common_bounds")
            self.common_bounds = torch.as_tensor(common_bounds, dtype=torch.float32)
        self.mode = mode
        self.num_classes = num_classes
        self.lower_factor = lower_factor
        self.upper_factor = upper_factor
        self.unit = read_unit(unit, per)
        self.per: Per = per

    def voxel_size(self, label: NdarrayOrTensor) -> torch.Tensor:
        """Size of one voxel of ``label`` in the unit, float32 scalar."""
        return torch.tensor(1.0) if self.unit == "voxels" else VoxelSize(self.per)(label)

    def __call__(self, label: NdarrayOrTensor) -> torch.Tensor:
        """
        Args:
            label: class ids, shape ``[1, *spatial]``.

        Returns:
            Bounds in the unit, float32, shape ``[num_classes, 2]``.

        Raises:
            ValueError: when an id is out of range.
            TypeError: when ``label`` has no affine, unless the unit is ``"voxels"``.
        """
        ids = torch.as_tensor(convert_to_tensor(label, track_meta=False))
        voxel = self.voxel_size(label)
        sizes = class_sizes(ids, self.num_classes) * voxel
        if self.mode == "tags":
            bounds = torch.tensor([1.0, ids.numel()]).repeat(self.num_classes, 1) * voxel
        elif self.common_bounds is not None:
            bounds = self.common_bounds.clone()
        else:
            bounds = torch.stack([self.lower_factor * sizes, self.upper_factor * sizes], dim=1)
        bounds[sizes == 0] = 0.0
        bounds[0] = torch.tensor([0.0, math.inf])
        return bounds


class LabelToSizeBoundsd(MapTransform):
    """Dictionary form of :class:`LabelToSizeBounds`, which explains the other arguments.

    Args:
        keys: one key, of the full annotation.
        output_key: where the bounds go.
        voxel_size_key: where the size of a voxel in ``unit`` goes, a float32 scalar.
    """

    backend = LabelToSizeBounds.backend

    def __init__(
        self,
        keys: KeysCollection = "label",
        output_key: str = "size_bounds",
        mode: Mode = "individual",
        num_classes: int = 2,
        common_bounds: Sequence[Sequence[float]] | None = None,
        lower_factor: float = 0.9,
        upper_factor: float = 1.1,
        unit: Unit = "voxels",
        voxel_size_key: str = "voxel_size",
        per: Per = "slice",
    ) -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise ValueError(f"keys must hold one key, got {self.keys}.")
        self.output_key = output_key
        self.voxel_size_key = voxel_size_key
        self.converter = LabelToSizeBounds(mode, num_classes, common_bounds, lower_factor, upper_factor, unit, per)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A copy of the item with the bounds, ``[num_classes, 2]``, and the size of a voxel."""
        label = data[self.keys[0]]
        size = self.converter.voxel_size(label)
        return {**data, self.output_key: self.converter(label), self.voxel_size_key: size}


LabelToSizeBoundsD = LabelToSizeBoundsDict = LabelToSizeBoundsd
