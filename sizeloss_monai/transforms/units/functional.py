"""Sizes and distances of voxels, of the affine of a volume."""

from __future__ import annotations

import torch

__all__ = ["pixel_area", "voxel_spacing", "voxel_volume"]


def voxel_volume(affine: torch.Tensor) -> torch.Tensor:
    """The volume of a voxel, its determinant, so that it is right for oblique and sheared axes too.

    Args:
        affine: ``[4, 4]``, in mm.

    Returns:
        A scalar, float64, in mm³.
    """
    return _axes(affine).det().abs()


def pixel_area(affine: torch.Tensor, axis: int = 2) -> torch.Tensor:
    """The area of a voxel within its slice: of the parallelogram that the other two axes span.

    Args:
        affine: ``[4, 4]``, in mm.
        axis: that the slices are stacked along.

    Returns:
        A scalar, float64, in mm².
    """
    axes = _axes(affine)
    first, second = (axes[:, index] for index in range(3) if index != axis)
    return torch.linalg.cross(first, second).norm()


def voxel_spacing(affine: torch.Tensor) -> torch.Tensor:
    """The distances of neighbouring voxels along the three axes.

    Args:
        affine: ``[4, 4]``, in mm.

    Returns:
        ``[3]``, float64, in mm.
    """
    return _axes(affine).norm(dim=0)


def _axes(affine: torch.Tensor) -> torch.Tensor:
    """The steps along the three axes of a volume, columns of a float64 ``[3, 3]``."""
    return affine[:3, :3].double()
