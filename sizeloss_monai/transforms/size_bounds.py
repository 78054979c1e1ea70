"""Size bounds of a label, per slice or per volume."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_tensor

from sizeloss_monai.data.label_ids import class_sizes
from sizeloss_monai.sizes.bounds import check_bounds
from sizeloss_monai.transforms.voxel_size import SCOPES, VoxelSize

__all__ = [
    "LabelToSizeBounds",
    "LabelToSizeBoundsD",
    "LabelToSizeBoundsDict",
    "LabelToSizeBoundsd",
]

MODES = ("tags", "common", "individual", "volume")
UNITS = ("voxels", "mm")


def size_of_voxel(label: NdarrayOrTensor, unit: str, per: str | None = None) -> torch.Tensor:
    """What a voxel counts, a float32 scalar: 1 in ``"voxels"``; in ``"mm"`` its mm² or its mL, as ``per`` says."""
    if unit == "voxels":
        return torch.tensor(1.0)
    return VoxelSize(per or ("slice" if label.ndim == 3 else "volume"))(label)


class LabelToSizeBounds(Transform):
    r"""Lower and upper bound on the size of every class in what it is given, a slice or a whole volume.

    With :math:`\tau` the true size of a class and :math:`|\Omega|` the number of voxels (Kervadec et al. 2019,
    sections 3 and 4):

    ================  ================================  ==================
    mode              class present                     class absent
    ================  ================================  ==================
    ``"tags"``        ``(1, |Omega|)``                  ``(0, 0)``
    ``"common"``      ``common_bounds`` of the class    ``(0, 0)``
    ``"individual"``  ``(0.9 tau, 1.1 tau)``            ``(0, 0)``
    ``"volume"``      as ``"individual"``, but refuses anything that is not a volume
    ================  ================================  ==================

    The background is unconstrained, ``(0, inf)``. Bounds are of the label they are made from: apply it after everything
    that resamples, pads or crops, so that they are right for what the network sees. In the unit ``"mm"`` they are in
    mm² for a slice and in mL for a volume, or for a slice's share of one (``per="volume"``); a 1 in the table is then
    the size of a voxel, and the loss needs that size, too (``voxel_size`` of :class:`LabelToSizeBoundsd`).

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
        mode: str,
        num_classes: int,
        common_bounds: Sequence[Sequence[float]] | None = None,
        lower_factor: float = 0.9,
        upper_factor: float = 1.1,
        unit: str = "voxels",
        per: str | None = None,
    ) -> None:
        """
        Args:
            mode: ``"tags"``, ``"common"``, ``"individual"`` or ``"volume"``.
            num_classes: including the background, >= 2.
            common_bounds: ``[num_classes][2]`` in ``unit``, for mode ``"common"`` only; may be given, such as
                ``[[0, inf], [60, 2000]]`` for the paper's ACDC, or measured by
                :func:`~sizeloss_monai.sizes.measure_common_bounds`.
            lower_factor: for modes ``"individual"`` and ``"volume"``.
            upper_factor: likewise.
            unit: ``"voxels"``, or ``"mm"`` for mm² or mL by the affine of the label.
            per: what sizes in ``"mm"`` are of, ``"slice"`` (mm²) or ``"volume"`` (mL); None: what the label is. Slices
                whose bounds a loss adds up to those of their volume (``VolumeSizeConstraintLoss``) need ``"volume"``.

        Raises:
            ValueError: when ``mode``, ``unit`` or ``per`` is none of these, a number is out of range, or
                ``common_bounds`` is missing or not as :func:`~sizeloss_monai.sizes.check_bounds` wants it.
        """
        if mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, found {mode!r}.")
        if unit not in UNITS:
            raise ValueError(f"unit must be one of {UNITS}, found {unit!r}.")
        if per not in (None, *SCOPES):
            raise ValueError(f"per must be one of {SCOPES} or None, found {per!r}.")
        if num_classes < 2:
            raise ValueError(f"num_classes must be >= 2, found {num_classes}.")
        if not 0 <= lower_factor <= upper_factor:
            raise ValueError(f"0 <= lower_factor <= upper_factor is needed, found {lower_factor} and {upper_factor}.")
        self.common_bounds: torch.Tensor | None = None
        if mode == "common":
            if common_bounds is None:
                raise ValueError("mode 'common' needs common_bounds.")
            check_bounds(common_bounds, num_classes, "common_bounds")
            self.common_bounds = torch.as_tensor(common_bounds, dtype=torch.float32)
        self.mode = mode
        self.num_classes = num_classes
        self.lower_factor = lower_factor
        self.upper_factor = upper_factor
        self.unit = unit
        self.per = per

    def __call__(self, label: NdarrayOrTensor) -> torch.Tensor:
        """
        Args:
            label: class ids, shape ``[1, *spatial]``.

        Returns:
            Bounds in the unit, float32, shape ``[num_classes, 2]``.

        Raises:
            ValueError: when an id is out of range, or mode ``"volume"`` gets anything but ``[1, H, W, D]``.
            TypeError: when the unit is ``"mm"`` and ``label`` has no affine.
        """
        ids = torch.as_tensor(convert_to_tensor(label, track_meta=False))
        if self.mode == "volume" and ids.ndim != 4:
            raise ValueError(f"mode 'volume' needs a volume, shape [1, H, W, D], found {list(ids.shape)}.")
        voxel = size_of_voxel(label, self.unit, self.per)
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
    """Dictionary-based version of :class:`LabelToSizeBounds`."""

    backend = LabelToSizeBounds.backend

    def __init__(
        self,
        keys: KeysCollection = "label",
        output_key: str = "size_bounds",
        mode: str = "individual",
        num_classes: int = 2,
        common_bounds: Sequence[Sequence[float]] | None = None,
        lower_factor: float = 0.9,
        upper_factor: float = 1.1,
        unit: str = "voxels",
        voxel_size_key: str = "voxel_size",
        per: str | None = None,
    ) -> None:
        """
        Args:
            keys: one key, the full annotation.
            output_key: where the bounds go.
            mode: see :class:`LabelToSizeBounds`, as the arguments after it.
            num_classes: including the background.
            common_bounds: for mode ``"common"``.
            lower_factor: for modes ``"individual"`` and ``"volume"``.
            upper_factor: likewise.
            unit: of the bounds, ``"voxels"`` or ``"mm"``.
            voxel_size_key: where the size of a voxel in that unit goes.
            per: what sizes in ``"mm"`` are of, ``"slice"`` or ``"volume"``; None: what the label is.

        Raises:
            ValueError: when there is more than one key.
        """
        super().__init__(keys)
        if len(self.keys) != 1:
            raise ValueError(f"one key is needed, found {self.keys}.")
        self.output_key = output_key
        self.voxel_size_key = voxel_size_key
        self.converter = LabelToSizeBounds(mode, num_classes, common_bounds, lower_factor, upper_factor, unit, per)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: an item with the annotation.

        Returns:
            A copy with the bounds, float32, shape ``[num_classes, 2]``, and the size of a voxel, a float32 scalar.
        """
        out = dict(data)
        label = out[self.keys[0]]
        out[self.output_key] = self.converter(label)
        out[self.voxel_size_key] = size_of_voxel(label, self.converter.unit, self.converter.per)
        return out


LabelToSizeBoundsD = LabelToSizeBoundsDict = LabelToSizeBoundsd
