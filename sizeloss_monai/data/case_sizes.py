"""Sizes of the classes of an annotated case in mm2 of a slice or mL of a volume, from its file."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from monai.data import MetaTensor
from numpy.typing import NDArray

from sizeloss_monai.data.checks.reading import read_volume
from sizeloss_monai.data.checks.volumes import label_findings
from sizeloss_monai.data.findings import DataError, Finding, Place

__all__ = ["CaseSizes", "measure_grid", "measure_sizes", "slice_axis", "voxel_size"]


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


def slice_axis(affine: NDArray[Any]) -> int:
    """The axis of slices: that of widest spacing, or the last one where none is wider by more than 1 %.

    Args:
        affine: of the file, ``[4, 4]``, in mm.

    Returns:
        0, 1 or 2; as :py:class:`sizeloss_monai.transforms.ThroughPlaneLast` has it.
    """
    spacing = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    return int(spacing.argmax()) if spacing.max() > 1.01 * spacing[2] else 2


def voxel_size(affine: NDArray[Any], per: str) -> float:
    """The size of a voxel in the unit of bounds.

    Args:
        affine: of the file, ``[4, 4]``, in mm.
        per: ``"volume"`` for mL, :math:`|\\det A| / 1000`; ``"slice"`` for mm2, the area of the parallelogram that the
            two axes within a slice span.

    Returns:
        The size, right under any spacing, rotation, reflection and shear.
    """
    columns = np.asarray(affine, dtype=np.float64)[:3, :3]
    if per == "volume":
        return float(abs(np.linalg.det(columns)) / 1000)
    first, second = (axis for axis in range(3) if axis != slice_axis(affine))
    return float(np.linalg.norm(np.cross(columns[:, first], columns[:, second])))


def measure_grid(item: Mapping[str, Any], key: str, per: str) -> CaseSizes:
    """The sizes of a case's voxels and of the whole, without those of classes.

    Args:
        item: of a data list, with absolute paths.
        key: of the file to read.
        per: ``"slice"`` or ``"volume"``.

    Returns:
        With no `sizes`.

    Raises:
        DataError: when the file cannot be read, is no volume, or its voxels have no size.
    """
    return _grid(item, key, per, _read(item, key))


def measure_sizes(
    item: Mapping[str, Any],
    key: str = "label",
    per: str = "volume",
    allowed: Collection[int] | None = None,
    unannotated: int | None = None,
) -> CaseSizes:
    """The sizes of the classes in an annotation.

    Args:
        item: of a data list, with absolute paths.
        key: of the annotation.
        per: ``"slice"`` for mm2 of each slice that has the class, ``"volume"`` for mL.
        allowed: the ids that may be there; None allows any from 0.
        unannotated: the id of voxels that nobody annotated; it has no size.

    Returns:
        The sizes.

    Raises:
        DataError: when the file cannot be read, is no volume, its voxels have no size, or its values are no such ids.
    """
    volume = _read(item, key)
    problems = label_findings(volume, Place(str(item["case"]), key), allowed, unannotated)
    if problems:
        raise DataError(str(problems[0]))
    grid = _grid(item, key, per, volume)
    ids = np.moveaxis(volume[0].numpy().astype(np.int64), slice_axis(volume.affine.numpy()), 0)
    sizes: dict[int, NDArray[np.float64]] = {}
    for class_id in np.unique(ids).tolist():
        if class_id not in (0, unannotated):
            counts = (ids == class_id).sum(axis=(1, 2)) if per == "slice" else np.array([(ids == class_id).sum()])
            sizes[class_id] = counts[counts > 0] * grid.voxel
    return CaseSizes(grid.case, grid.patient, grid.voxel, grid.whole, sizes)


def _read(item: Mapping[str, Any], key: str) -> MetaTensor:
    """The volume of a key, ``[C, *spatial]``."""
    volume = read_volume(item[key], Place(str(item["case"]), key))
    if isinstance(volume, Finding):
        raise DataError(str(volume))
    return volume


def _grid(item: Mapping[str, Any], key: str, per: str, volume: MetaTensor) -> CaseSizes:
    """What :py:func:`measure_grid` gives."""
    shape, affine = tuple(volume.shape[1:]), volume.affine.numpy()
    voxel = voxel_size(affine, per) if len(shape) == 3 else float("nan")
    if not 0 < voxel < float("inf"):
        raise DataError(
            f"case '{item['case']}', key '{key}': found shape {shape} and voxels of {voxel:g} "
            f"{'mL' if per == 'volume' else 'mm2'}, expected a 3D volume with voxels of a positive size"
        )
    count = math.prod(shape) // (1 if per == "volume" else shape[slice_axis(affine)])
    return CaseSizes(str(item["case"]), str(item.get("patient", item["case"])), voxel, voxel * count, {})
