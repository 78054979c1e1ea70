"""Along which axis slices are stacked: as a user says, as strokes were painted, or by the spacing of the voxels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast, get_args

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "SliceAxis",
    "is_clearly_widest",
    "painted_axis",
    "parse_slice_axis",
    "plane_of",
    "slice_axis_of",
    "through_plane_axis",
]

SliceAxis = Literal["auto", "widest", "axial", "coronal", "sagittal", 0, 1, 2]
"""Where slices lie: ``"widest"`` stacks them along the widest spacing, a plane along the voxel axis nearest to its
normal, a number along that voxel axis of the file. ``"auto"`` looks at strokes, and without any takes ``"widest"``."""

PLANES = ("sagittal", "coronal", "axial")
"""The planes whose normals are the world's axes R, A and S."""

_CLEARLY = 1.1
"""How many times wider than the others the clearly widest axis is."""

_PAINTED = 0.8
"""The largest share of the neighbours along other axes that strokes have along the axis of their slices: strokes of
ACDC, on every slice, have 0.12 to 0.46, its full masks 0.74 to 0.89, balls 1."""

_ALIKE = 0.5
"""The least share of the neighbours along one axis that strokes in both directions have along another."""


def parse_slice_axis(value: Any) -> SliceAxis:
    """Check a :py:data:`SliceAxis`; numbers may be text, as command lines give them.

    Raises:
        ValueError: when the value is anything else.
    """
    known = {str(name): name for name in get_args(SliceAxis)}
    if isinstance(value, bool) or str(value) not in known:
        raise ValueError(f"slice_axis must be one of {', '.join(known)}, got {value!r}.")
    return cast(SliceAxis, known[str(value)])


def through_plane_axis(spacing: Sequence[float]) -> int:
    """The axis of the widest spacing; the last one if no axis is wider by more than 1 %, which may be rounding."""
    widest = max(spacing)
    return list(spacing).index(widest) if widest > 1.01 * spacing[-1] else len(spacing) - 1


def is_clearly_widest(spacing: Sequence[float]) -> bool:
    """Whether one axis is wider than the others by more than 10 %, so that slices are surely stacked along it."""
    *_, second, widest = sorted(spacing)
    return widest > _CLEARLY * second


def slice_axis_of(spacing: Sequence[float], affine: ArrayLike, slice_axis: SliceAxis) -> int:
    """The voxel axis that slices are stacked along.

    Args:
        spacing: of the voxels along each axis, mm.
        affine: of the volume, ``[4, 4]``, to RAS.
        slice_axis: ``"auto"`` is ``"widest"`` here, as a scan alone has no strokes.
    """
    if isinstance(slice_axis, int):
        return slice_axis
    if slice_axis in ("auto", "widest"):
        return through_plane_axis(spacing)
    return _world_axes(affine).index(PLANES.index(slice_axis))


def plane_of(affine: ArrayLike, axis: int) -> str:
    """The plane nearest to slices that are stacked along a voxel axis: ``"axial"``, ``"coronal"`` or ``"sagittal"``."""
    return PLANES[_world_axes(affine)[axis]]


def painted_axis(paint: NDArray[np.bool_]) -> int | None:
    """The axis of the slices that a person painted strokes on; None if the paint does not tell.

    Within a slice a voxel of a stroke has painted neighbours; from slice to slice it has them by chance. So few voxels
    have a painted neighbour along the axis of the slices, both at all and beside those along the other two. Solid
    bodies, such as full masks and balls, have many along each axis. Dots and parallel lines lie in planes of several
    axes: the axis with the fewest planes counts, if it has at most half as many as the next, and as many unpainted ones
    between them. A stroke at nearly one place on every slice misleads: it looks like a filled slice of another axis.

    Args:
        paint: which voxels are painted, ``[X, Y, Z]``.
    """
    if not paint.any() or paint.all():
        return None
    pairs, planes, gaps = [], [], []
    for axis in range(3):
        slices = np.moveaxis(paint, axis, 0)
        pairs.append(int(np.count_nonzero(slices[1:] & slices[:-1])))
        painted = np.flatnonzero(slices.any(axis=(1, 2)))
        planes.append(len(painted))
        gaps.append(int(painted[-1] - painted[0]) + 1 - len(painted))
    first, second, third = sorted(range(3), key=lambda axis: pairs[axis])
    if pairs[third] > 0 and pairs[second] >= _ALIKE * pairs[third]:
        few = _PAINTED * pairs[second], pairs[second] - 3 * pairs[second] ** 0.5  # fewer than by chance, too
        found = first if pairs[first] <= min(few) else None
    else:
        alike = [first, second] if pairs[third] else [first, second, third]
        found, other = sorted(alike, key=lambda axis: planes[axis])[:2]
        apart = planes[found] == 1 or gaps[found] >= planes[found]
        found = found if apart and 2 * planes[found] <= planes[other] else None
    # a body of more than two slices has a neighbour along their axis for more than half of its voxels
    return found if found is not None and 2 * pairs[found] <= np.count_nonzero(paint) else None


def _world_axes(affine: ArrayLike) -> list[int]:
    """The world axis nearest to each voxel axis, each world axis once."""
    return [int(axis) for axis in nib.orientations.io_orientation(np.asarray(affine, dtype=np.float64))[:, 0]]
