"""Dictionary twin of the size-bounds transform."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from sizeloss_monai.transforms.bounds.array import LabelToSizeBounds, size_of_voxel

__all__ = ["LabelToSizeBoundsD", "LabelToSizeBoundsDict", "LabelToSizeBoundsd"]


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
