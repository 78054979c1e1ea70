"""Sizes of the classes of an annotated case in mm2 of a slice or mL of a volume, from its file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from monai.data import MetaTensor
from numpy.typing import NDArray

from sizeloss_monai.data.checks.reading import read_volume
from sizeloss_monai.data.checks.volumes import label_findings
from sizeloss_monai.data.findings import DataError, Finding, Place
from sizeloss_monai.data.grid import Grid
from sizeloss_monai.data.slice_axis import SliceAxis, slice_axis_of
from sizeloss_monai.transforms.label_ids import whole_ids

__all__ = ["CaseSizes", "measure_grid", "measure_sizes"]


@dataclass(frozen=True)
class CaseSizes:
    """What an annotated case says of the sizes of its classes.

    Args:
        case: its name.
        patient: whose it is.
        voxel: size of one voxel, in mm2 of a slice or mL.
        whole: size of a whole slice or of the volume, likewise.
        sizes: by class id above 0, the size in the volume, ``[1]``, or in each slice that has the class, ``[n]``, in
            mm2 or mL. Only classes that are there.
    """

    case: str
    patient: str
    voxel: float
    whole: float
    sizes: Mapping[int, NDArray[np.float64]]


def measure_grid(item: Mapping[str, Any], key: str, per: str, slice_axis: SliceAxis = "widest") -> CaseSizes:
    """The sizes of a case's voxels and of the whole, without those of classes.

    Args:
        item: of a data list, with absolute paths.
        key: of the file to read.
        per: ``"slice"`` or ``"volume"``.
        slice_axis: where slices lie.

    Returns:
        With no `sizes`.

    Raises:
        DataError: when the file cannot be read, is no volume, or its voxels have no size.
    """
    grid = _grid(item, key, _read(item, key))
    return _sizes_of_grid(item, per, grid, slice_axis_of(grid.spacing, grid.affine, slice_axis))


def measure_sizes(
    item: Mapping[str, Any],
    key: str = "label",
    per: str = "volume",
    allowed: Collection[int] | None = None,
    unannotated: int | None = None,
    slice_axis: SliceAxis = "widest",
) -> CaseSizes:
    """The sizes of the classes in an annotation.

    Args:
        item: of a data list, with absolute paths.
        key: of the annotation.
        per: ``"slice"`` for mm2 of each slice that has the class, ``"volume"`` for mL.
        allowed: the ids that may be there; None allows any from 0.
        unannotated: the id of voxels that nobody annotated; it has no size.
        slice_axis: where slices lie.

    Returns:
        The sizes.

    Raises:
        DataError: when the file cannot be read, is no volume, its voxels have no size, or its values are no such ids.
    """
    volume = _read(item, key)
    problems = label_findings(volume, Place(str(item["case"]), key), allowed, unannotated)
    if problems:
        raise DataError(str(problems[0]))
    grid = _grid(item, key, volume)
    axis = slice_axis_of(grid.spacing, grid.affine, slice_axis)
    of_grid = _sizes_of_grid(item, per, grid, axis)
    ids = np.moveaxis(whole_ids(volume[0].numpy())[0], axis, 0)
    sizes: dict[int, NDArray[np.float64]] = {}
    for class_id in np.unique(ids).tolist():
        if class_id not in (0, unannotated):
            counts = (ids == class_id).sum(axis=(1, 2)) if per == "slice" else np.array([(ids == class_id).sum()])
            sizes[class_id] = counts[counts > 0] * of_grid.voxel
    return replace(of_grid, sizes=sizes)


def _read(item: Mapping[str, Any], key: str) -> MetaTensor:
    """The volume of a key, ``[C, *spatial]``."""
    volume = read_volume(item[key], Place(str(item["case"]), key))
    if isinstance(volume, Finding):
        raise DataError(str(volume))
    return volume


def _grid(item: Mapping[str, Any], key: str, volume: MetaTensor) -> Grid:
    """The grid of a volume, whose voxels must have a size."""
    grid = Grid.of(volume.shape[1:], volume.affine)
    if grid is None:
        found = f"shape {tuple(volume.shape[1:])} and an affine of determinant {volume.affine.det().item():g}"
        expected = "a 3D volume with voxels of a positive size"
        raise DataError(str(Place(str(item["case"]), key).error("singular-affine", found, expected)))
    return grid


def _sizes_of_grid(item: Mapping[str, Any], per: str, grid: Grid, axis: int) -> CaseSizes:
    """What :py:func:`measure_grid` gives."""
    unit = "mL" if per == "volume" else "mm2"
    case = str(item["case"])
    voxel, whole = grid.voxel_size(per, unit, axis), grid.image_size(per, unit, axis)
    return CaseSizes(case, str(item.get("patient", case)), voxel, whole, {})
