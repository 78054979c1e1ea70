"""Refuse augmentation after which bounds given in mm² or mL no longer hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from monai import transforms as mt

__all__ = ["check_sizes_hold"]

_CUTTING = (
    mt.Cropd,
    mt.RandCropByLabelClassesd,
    mt.RandCropByPosNegLabeld,
    mt.RandSpatialCropSamplesd,
    mt.RandWeightedCropd,
    mt.RandZoomd,
    mt.Zoomd,
)
_DEFORMING = (
    mt.GridDistortiond,
    mt.Rand2DElasticd,
    mt.Rand3DElasticd,
    mt.RandGridDistortiond,
    mt.RandSmoothDeformd,
)


def check_sizes_hold(transforms: Sequence[Any]) -> None:
    """Check that transforms keep the size of a target, or tell of its change in the affine.

    Rotation, translation, flips and affine zoom do (``RandAffined``), as far as the target stays in the image. Crops,
    and zooms to the same number of voxels, may cut it. Elastic deformation and grid distortion change sizes, by a third
    at times, and leave the affine as it is.

    Args:
        transforms: of a training item, after its size bounds are known; a ``Compose`` in it is looked into.

    Raises:
        ValueError: when one of them does not.
    """
    for transform in _flat(transforms):
        for kinds, what in ((_CUTTING, "may cut the target"), (_DEFORMING, "deforms it unseen by the affine")):
            if isinstance(transform, kinds):
                raise ValueError(
                    f"augmentation: found {type(transform).__name__}, which {what}; expected transforms after which "
                    "size bounds in mm2 or mL hold, such as RandAffined, flips, and changes of intensity."
                )


def _flat(transforms: Sequence[Any]) -> Iterator[Any]:
    for transform in transforms:
        if isinstance(transform, mt.Compose):
            yield from _flat(transform.transforms)
        else:
            yield transform
