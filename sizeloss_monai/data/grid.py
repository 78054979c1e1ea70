"""The grid of a volume: one reading of every file's header, for check, training, inference, evaluation and reports.

Of a NIfTI header counts the sform where its code is above 0, else the qform, else pixdim, in the unit that
``xyzt_units`` says; an sform is never corrected by pixdim. MetaImage and NRRD have one placement."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
import torch
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing, orientation_ras_lps
from monai.utils import ensure_tuple
from numpy.typing import ArrayLike, NDArray

from sizeloss_monai.data.headers import Header, HeaderError, is_nifti, read_header
from sizeloss_monai.errors import DataError

__all__ = [
    "Grid",
    "TOLERANCE",
    "check_itk_reads",
    "grid_of",
    "itk_placement",
    "pixel_area",
    "read_grid",
    "voxel_spacing",
    "voxel_volume",
]


def voxel_volume(affine: torch.Tensor) -> torch.Tensor:
    """The volume of a voxel by its affine ``[4, 4]`` in mm: a scalar, float64, in mm³. Axes may be sheared."""
    return _axes(affine).det().abs()


def pixel_area(affine: torch.Tensor, axis: int = 2) -> torch.Tensor:
    """The area of a voxel within its slice, the parallelogram of the axes other than `axis`: float64, in mm²."""
    axes = _axes(affine)
    first, second = (axes[:, index] for index in range(3) if index != axis)
    return torch.linalg.cross(first, second).norm()


def voxel_spacing(affine: torch.Tensor) -> torch.Tensor:
    """The distances of neighbouring voxels along the three axes, ``[3]``, float64, in mm."""
    return _axes(affine).norm(dim=0)


def _axes(affine: torch.Tensor) -> torch.Tensor:
    """The steps along the three axes of a volume, columns of a float64 ``[3, 3]``."""
    return affine[:3, :3].double()


MM3_PER_ML = 1000.0

TOLERANCE = 0.1
"""How far apart the first voxels of two grids may lie, in voxels.

Further ones may be apart by a tenth of that per step, as they are where one header is rounded to two decimals."""


@dataclass(frozen=True, eq=False)
class Grid:
    """The grid of a 3D volume.

    Args:
        shape: number of voxels along each axis, ``[x, y, z]``.
        affine: from voxel indices to mm in RAS, ``[4, 4]``, float64.
        forms: every placement that the file's header holds, by name, the one that counts first.
        notes: what contradicts itself in the header, and which of it is taken.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    forms: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, shape: Sequence[int], affine: ArrayLike) -> Grid | None:
        """The grid of a shape ``[x, y, z]`` and an affine ``[4, 4]`` in mm; None if voxels have no volume."""
        matrix = np.asarray(affine, dtype=np.float64)
        if len(shape) != 3 or matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            return None
        if not abs(np.linalg.det(matrix[:3, :3])) > 0:
            return None
        x, y, z = (int(size) for size in shape)
        return cls((x, y, z), matrix)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Spacing of the voxels along each axis, mm."""
        x, y, z = affine_to_spacing(self.affine).tolist()
        return x, y, z

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel, mm3."""
        return float(voxel_volume(torch.from_numpy(self.affine)))

    def pixel_mm2(self, axis: int) -> float:
        """The area of a voxel within its slice, where slices are stacked along `axis`."""
        return float(pixel_area(torch.from_numpy(self.affine), axis))

    def voxel_size(self, per: str, unit: str, axis: int) -> float:
        """The size of a voxel in the unit of size bounds: mm2 of a slice, mL of a volume, 1 in voxels."""
        if unit == "voxels":
            return 1.0
        return self.pixel_mm2(axis) if per == "slice" else self.voxel_mm3 / MM3_PER_ML

    def image_size(self, per: str, unit: str, axis: int) -> float:
        """The size of a whole slice (``per`` is ``"slice"``) or of the whole volume, in the unit of size bounds."""
        voxels = int(np.prod(self.shape)) // (self.shape[axis] if per == "slice" else 1)
        return voxels * self.voxel_size(per, unit, axis)

    @property
    def unsheared(self) -> NDArray[np.float64]:
        """The affine with axes turned as little as makes them stand at right angles, the first voxel where it is."""
        axes = self.affine[:3, :3] / np.asarray(self.spacing)
        left, _, right = np.linalg.svd(axes)
        affine = self.affine.copy()
        affine[:3, :3] = left @ right * np.asarray(self.spacing)
        return affine

    @property
    def leans(self) -> bool:
        """Whether the axes are sheared, by more than :data:`TOLERANCE`. ITK reads no NIfTI file with such axes."""
        return not _same_placement(self.affine, self.unsheared, self.shape)

    def at_right_angles(self) -> Grid:
        """The grid with axes at right angles to the last bit, where rounding alone keeps them from it.

        MONAI's Spacing puts pixels up to half a pixel elsewhere where axes are so to seven digits only, as most headers
        hold them. A grid that leans stays as it is.
        """
        return self if self.leans else replace(self, affine=self.unsheared)

    def apart_mm(self, other: Grid) -> float | None:
        """How far apart the corners of two grids of one shape lie.

        Args:
            other: for instance of a label.

        Returns:
            The largest distance by the placements that count, mm; None where a placement of one header is one of the
            other's within :data:`TOLERANCE`.
        """
        mine = [self.affine, *self.forms.values()]
        theirs = [other.affine, *other.forms.values()]
        if any(_same_placement(one, two, self.shape) for one in mine for two in theirs):
            return None
        return float(_apart(self.affine, other.affine, self.shape).max())


def _corners(shape: Sequence[int]) -> NDArray[np.float64]:
    """Indices of the eight corner voxels, ``[4, 8]``."""
    corners = np.asarray(list(itertools.product(*[(0, size - 1) for size in shape])), dtype=np.float64)
    return np.concatenate([corners.T, np.ones((1, len(corners)))])


def _apart(one: NDArray[np.float64], two: NDArray[np.float64], shape: Sequence[int]) -> NDArray[np.float64]:
    """How far apart two affines put the eight corners, mm."""
    return np.linalg.norm(((one - two) @ _corners(shape))[:3], axis=0)


def _same_placement(one: NDArray[np.float64], two: NDArray[np.float64], shape: Sequence[int]) -> bool:
    """Whether two affines are one within :data:`TOLERANCE`."""
    corners = one @ _corners(shape)
    from_first = np.linalg.norm((corners - corners[:, :1])[:3], axis=0)
    allowed = TOLERANCE * (affine_to_spacing(one).min() + 0.1 * from_first)
    return bool((_apart(one, two, shape) <= allowed).all())


def read_grid(files: Any) -> Grid:
    """The grid of an image, from its header alone.

    Args:
        files: a path, or the paths of its channels, the first of them counts.

    Returns:
        The grid, its axes at right angles as of :py:meth:`Grid.at_right_angles`. A file of one or two dimensions has a
        size of 1 along the others; of a fourth dimension nothing is kept.

    Raises:
        DataError: when the file cannot be read, or its header cannot be true.
    """
    path = Path(ensure_tuple(files)[0]).expanduser()
    try:
        header = read_header(path)
        forms = dict(header.forms) if is_nifti(path) else {"header": itk_placement(_itk_header(path))}
    except (OSError, RuntimeError) as err:
        reason = err if isinstance(err, HeaderError) else getattr(err, "strerror", None) or "its header is not readable"
        raise DataError(f"file '{path.name}': {reason}.") from err
    grid = Grid.of((*header.shape, 1, 1)[:3], next(iter(forms.values())))
    if grid is None:
        raise DataError(f"file '{path.name}': found voxels of no volume, expected an affine of full rank.")
    return replace(grid, forms=forms, notes=header.notes).at_right_angles()


def grid_of(volume: MetaTensor) -> Grid | None:
    """The grid of a volume as it was read from a file, with every placement that nibabel or ITK may take.

    Args:
        volume: ``[C, x, y, z]``; without the name of a file in its metadata, its own affine counts.

    Returns:
        The grid, None where it is not 3D or its voxels have no volume.
    """
    grid = Grid.of(volume.shape[1:], volume.affine)
    path = Path(str(volume.meta.get("filename_or_obj", "")))
    if grid is None or not path.is_file():
        return grid
    file = read_grid(path)
    forms = dict(file.forms)
    # ITK takes no sheared axes: then no label of its making exists either
    with contextlib.suppress(RuntimeError):
        forms["ITK"] = itk_placement(_itk_header(path))
    return replace(grid, forms=forms, notes=file.notes)


def _itk_header(path: Path) -> sitk.ImageFileReader:
    """ITK's reading of a header; raises RuntimeError where it cannot."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return reader


def check_itk_reads(path: Path, header: Header) -> None:
    """Check that ITK makes the same of a MetaImage or NRRD header as we do, before it allocates the voxels.

    Args:
        path: of the file.
        header: of it.

    Raises:
        HeaderError: when ITK finds another number of voxels.
        RuntimeError: when it cannot read the header.
    """
    reader = _itk_header(path)
    numbers = math.prod(reader.GetSize()) * reader.GetNumberOfComponents()
    if numbers != math.prod(header.shape) * header.channels:
        raise HeaderError(
            f"found {' x '.join(map(str, reader.GetSize()))} voxels by ITK's reading of the header, expected the "
            f"{' x '.join(map(str, header.shape))} that its sizes say"
        )


def itk_placement(image: sitk.Image | sitk.ImageFileReader) -> NDArray[np.float64]:
    """The affine ``[4, 4]`` to RAS of an image of SimpleITK, or of a reader that has read a header."""
    dim = image.GetDimension()
    rank = min(dim, 3)
    affine = np.eye(4)
    direction = np.asarray(image.GetDirection()).reshape(dim, dim)[:rank, :rank]
    affine[:rank, :rank] = direction * np.asarray(image.GetSpacing())[:rank]
    affine[:rank, -1] = image.GetOrigin()[:rank]
    return np.asarray(orientation_ras_lps(affine))
