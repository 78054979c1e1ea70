"""Dictionary twins of the transforms that measure voxels."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from sizeloss_monai.transforms.units.array import VoxelSize, VoxelSpacing

__all__ = [
    "VoxelSizeD",
    "VoxelSizeDict",
    "VoxelSized",
    "VoxelSpacingD",
    "VoxelSpacingDict",
    "VoxelSpacingd",
]


class _Measured(MapTransform):
    """Write what is measured of ``keys`` under ``output_key``."""

    backend = VoxelSize.backend

    def __init__(self, keys: KeysCollection, output_key: str, measure: Callable[[Any], Any]) -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise ValueError(f"one key is needed, found {self.keys}.")
        self.output_key = output_key
        self.measure = measure

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        out[self.output_key] = self.measure(out[self.keys[0]])
        return out


class VoxelSized(_Measured):
    """Dictionary-based version of :class:`VoxelSize`; apply it after everything that changes the geometry."""

    def __init__(self, keys: KeysCollection = "image", output_key: str = "voxel_size", per: str = "volume") -> None:
        """
        Args:
            keys: one key, of what has the affine.
            output_key: where the size goes.
            per: ``"slice"`` (mm²) or ``"volume"`` (mL).

        Raises:
            ValueError: when there is more than one key, or ``per`` is none of these.
        """
        super().__init__(keys, output_key, VoxelSize(per))


class VoxelSpacingd(_Measured):
    """Dictionary-based version of :class:`VoxelSpacing`; apply it after everything that changes the geometry."""

    def __init__(self, keys: KeysCollection = "image", output_key: str = "spacing") -> None:
        """
        Args:
            keys: one key, of what has the affine.
            output_key: where the distances go.

        Raises:
            ValueError: when there is more than one key.
        """
        super().__init__(keys, output_key, VoxelSpacing())


VoxelSizeD = VoxelSizeDict = VoxelSized
VoxelSpacingD = VoxelSpacingDict = VoxelSpacingd
