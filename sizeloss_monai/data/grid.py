"""The grid of a volume: its slices, and the sizes of its voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
import torch
from monai.utils import ensure_tuple
from numpy.typing import ArrayLike, NDArray

from sizeloss_monai.transforms.units.array import MM3_PER_ML
from sizeloss_monai.transforms.units.functional import pixel_area, voxel_spacing, voxel_volume

__all__ = ["Grid", "read_grid"]


@dataclass(frozen=True)
class Grid:
    """The grid of a 3D volume.

    Args:
        shape: number of voxels along each axis.
        spacing: of the voxels along each axis, mm.
        voxel_mm3: volume of a voxel.
        affine: ``[4, 4]``, voxel index to mm.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    voxel_mm3: float
    affine: NDArray[np.float64] = field(compare=False, repr=False)

    @classmethod
    def of(cls, shape: Sequence[int], affine: ArrayLike) -> Grid | None:
        """The grid of a shape ``[x, y, z]`` and an affine, ``[4, 4]`` in mm; None where voxels have no volume."""
        matrix = torch.tensor(np.asarray(affine, dtype=np.float64))
        if len(shape) != 3 or matrix.shape != (4, 4) or not matrix[:3, :3].isfinite().all():
            return None
        voxel_mm3 = float(voxel_volume(matrix))
        if not voxel_mm3 > 0:
            return None
        spacing = tuple(voxel_spacing(matrix).tolist())
        return cls(tuple(int(size) for size in shape), spacing, voxel_mm3, matrix.numpy())

    def pixel_mm2(self, axis: int) -> float:
        """The area of a voxel within its slice, where slices are stacked along `axis`."""
        return float(pixel_area(torch.as_tensor(self.affine), axis))

    def voxel_size(self, per: str, unit: str, axis: int) -> float:
        """The size of a voxel in the unit of size bounds: mm2 of a slice, mL of a volume, 1 in voxels."""
        if unit == "voxels":
            return 1.0
        return self.pixel_mm2(axis) if per == "slice" else self.voxel_mm3 / MM3_PER_ML

    def image_size(self, per: str, unit: str, axis: int) -> float:
        """The size of a whole slice (``per`` is ``"slice"``) or of the whole volume, in the unit of size bounds."""
        voxels = int(np.prod(self.shape)) // (self.shape[axis] if per == "slice" else 1)
        return voxels * self.voxel_size(per, unit, axis)


def read_grid(files: Any) -> Grid | None:
    """The grid of an image, from its header alone.

    Args:
        files: a path, or the paths of its channels, of which the first is read.

    Returns:
        The grid, or None where the voxels have no volume.

    Raises:
        OSError: if the file cannot be read.
    """
    path = Path(ensure_tuple(files)[0])
    try:
        shape, affine = _read_header(path)
    except (OSError, RuntimeError, nib.filebasedimages.ImageFileError) as err:
        raise OSError(f"no header of an image in {path.name}") from err
    return Grid.of(shape, affine)


def _read_header(path: Path) -> tuple[Sequence[int], ArrayLike]:
    """Shape and affine, to RAS or to LPS: the sizes are the same. Every library has its own errors."""
    if path.name.lower().endswith((".nii", ".nii.gz")):
        image = cast(nib.nifti1.Nifti1Image, nib.load(path))
        return image.shape[:3], cast(ArrayLike, image.affine)
    header = sitk.ImageFileReader()
    header.SetFileName(str(path))
    header.ReadImageInformation()
    size, spacing = header.GetSize()[:3], header.GetSpacing()[:3]
    direction = np.asarray(header.GetDirection()).reshape(header.GetDimension(), -1)[:3, :3]
    affine = np.eye(4)
    affine[: len(size), : len(size)] = direction * np.asarray(spacing)
    return size, affine
