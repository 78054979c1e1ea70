"""The size of a voxel as augmentation leaves it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends

from sizeloss_monai.data.grid import MM3_PER_ML, pixel_area, voxel_spacing, voxel_volume

__all__ = [
    "VoxelSize",
    "VoxelSizeD",
    "VoxelSizeDict",
    "VoxelSized",
    "VoxelSpacing",
    "VoxelSpacingD",
    "VoxelSpacingDict",
    "VoxelSpacingd",
]

SCOPES = ("slice", "volume")


class VoxelSize(Transform):
    """The size of one voxel: mm² of a slice, or mL of a volume.

    It is the determinant of the affine as it is now, so that a soft size times it is right after resampling, zoom and
    rotation, for oblique affines too.

    Example:
        >>> scan = MetaTensor(torch.zeros(1, 4, 4, 4), affine=torch.diag(torch.tensor([1.5, 1.5, 10.0, 1.0])))
        >>> VoxelSize("volume")(scan), VoxelSize("slice")(scan)
        (tensor(0.0225), tensor(2.2500))
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, per: str = "volume") -> None:
        """
        Args:
            per: ``"slice"`` for the area of a pixel in mm², slices being along the last axis of the affine, or
                ``"volume"`` for the volume of a voxel in mL.

        Raises:
            ValueError: when ``per`` is neither.
        """
        if per not in SCOPES:
            raise ValueError(f"per must be one of {SCOPES}, found {per!r}.")
        self.per = per

    def __call__(self, img: Any) -> torch.Tensor:
        """
        Args:
            img: ``MetaTensor`` of a volume, ``[C, H, W, D]``, or of a slice with its volume's affine, ``[C, H, W]``.

        Returns:
            A scalar, float32.

        Raises:
            TypeError: when ``img`` has no affine.
            ValueError: when its affine is not that of a volume.
        """
        affine = _affine(img)
        size = voxel_volume(affine) / MM3_PER_ML if self.per == "volume" else pixel_area(affine)
        return size.float()


class VoxelSpacing(Transform):
    """The distances of neighbouring voxels along the axes of an image, mm, from its affine as it is now.

    Example:
        >>> scan = MetaTensor(torch.zeros(1, 4, 4, 4), affine=torch.diag(torch.tensor([1.5, 1.5, 10.0, 1.0])))
        >>> VoxelSpacing()(scan)
        tensor([ 1.5000,  1.5000, 10.0000])
    """

    backend = [TransformBackends.TORCH]

    def __call__(self, img: Any) -> torch.Tensor:
        """
        Args:
            img: as for :class:`VoxelSize`.

        Returns:
            One distance for each spatial axis of ``img``, float32.

        Raises:
            TypeError: when ``img`` has no affine.
            ValueError: when its affine is not that of a volume.
        """
        return voxel_spacing(_affine(img))[: img.ndim - 1].float()


def _affine(img: Any) -> torch.Tensor:
    """The affine of a volume, ``[4, 4]``."""
    if not isinstance(img, MetaTensor):
        raise TypeError(f"img must be a MetaTensor, found {type(img).__name__}: without an affine it has no size.")
    if img.affine.shape != (4, 4):
        raise ValueError(f"expected the affine of a volume, [4, 4], found {list(img.affine.shape)}.")
    return img.affine.as_subclass(torch.Tensor)


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
