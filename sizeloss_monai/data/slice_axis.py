"""Along which axis slices are stacked: as a user says, as strokes were painted, or by the spacing of the voxels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
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
"""Where slices lie.

``"widest"`` stacks them along the widest spacing, a plane along the voxel axis nearest to that
plane's normal, a number along that voxel axis of the file. ``"auto"`` looks at strokes, where there are any, and takes
``"widest"`` otherwise."""

PLANES = ("sagittal", "coronal", "axial")
"""The planes whose normals are the world's axes R, A and S."""

_CLEARLY = 1.1
"""How many times wider than the others an axis must be to be clearly the widest."""

_PAINTED = 0.8
"""What share of the links across other axes strokes may have across the axis of their slices.

Strokes on slices that are apart have none; those of ACDC, on every slice, touch those of the next one and have 0.40 to
0.69; bodies of 3 slices have 0.86, thicker ones more, full masks of ACDC at least 0.90, balls 1."""


def parse_slice_axis(value: Any) -> SliceAxis:
    """Read the option that says where slices lie.

    Args:
        value: one of :py:data:`SliceAxis`; numbers may be text, as command lines give them.

    Returns:
        The value.

    Raises:
        ValueError: when it is anything else.
    """
    known = {str(name): name for name in get_args(SliceAxis)}
    if isinstance(value, bool) or str(value) not in known:
        raise ValueError(f"slice_axis must be one of {', '.join(known)}, got {value!r}.")
    return cast(SliceAxis, known[str(value)])


def through_plane_axis(spacing: Sequence[float]) -> int:
    """The axis of the widest spacing.

    Args:
        spacing: of the voxels along each axis, mm.

    Returns:
        Index of the axis; the last one where no axis is wider than that by more than 1 %, which may be rounding.
    """
    widest = max(spacing)
    return list(spacing).index(widest) if widest > 1.01 * spacing[-1] else len(spacing) - 1


def is_clearly_widest(spacing: Sequence[float]) -> bool:
    """Whether one axis is wider than each of the others by more than 10 %, so that slices are surely stacked along it.

    Args:
        spacing: of the voxels along each axis, mm.
    """
    *_, second, widest = sorted(spacing)
    return widest > _CLEARLY * second


def slice_axis_of(spacing: Sequence[float], affine: ArrayLike, slice_axis: SliceAxis) -> int:
    """The voxel axis that slices are stacked along.

    Args:
        spacing: of the voxels along each axis, mm.
        affine: of the volume, ``[4, 4]``, to RAS.
        slice_axis: what to go by; ``"auto"`` is ``"widest"`` here, as a scan alone has no strokes.

    Returns:
        Index of the axis.
    """
    if isinstance(slice_axis, int):
        return slice_axis
    if slice_axis in ("auto", "widest"):
        return through_plane_axis(spacing)
    return _world_axes(affine).index(PLANES.index(slice_axis))


def plane_of(affine: ArrayLike, axis: int) -> str:
    """The plane that slices lie in, or the nearest one where they are oblique.

    Args:
        affine: of the volume, ``[4, 4]``, to RAS.
        axis: voxel axis that the slices are stacked along.

    Returns:
        ``"axial"``, ``"coronal"`` or ``"sagittal"``.
    """
    return PLANES[_world_axes(affine)[axis]]


def painted_axis(paint: NDArray[np.bool_]) -> int | None:
    """The axis of the slices that somebody painted strokes on, one slice after another.

    Within a slice the voxels of a stroke touch each other; those of two slices do so by chance. So links between
    neighbours (of 26) that cross from one plane to the next are rare along one axis alone. Solid bodies, such as full
    masks and balls, have as many along each axis. Where strokes are straight lines or dots, which lie in planes of
    several axes, the axis with the fewest planes counts, if it has at most half as many as the next.

    Args:
        paint: which voxels are painted, ``[X, Y, Z]``.

    Returns:
        Index of the axis; None where the paint does not tell.
    """
    if not paint.any() or paint.all():
        return None
    inside = [np.flatnonzero(paint.any(axis=tuple(other for other in range(3) if other != axis))) for axis in range(3)]
    box = paint[tuple(slice(planes[0], planes[-1] + 1) for planes in inside)]
    links = _links_across(box)
    first, second, third = np.argsort(links, kind="stable")
    if links[first] <= _PAINTED * links[second] and links[second] > 0:
        return int(first)
    if links[second] > _PAINTED * links[third]:
        return None
    alike = [first, second] if links[third] else [first, second, third]
    fewest, next_fewest = sorted(alike, key=lambda axis: len(inside[axis]))[:2]
    return int(fewest) if 2 * len(inside[fewest]) <= len(inside[next_fewest]) else None


def _links_across(box: NDArray[np.bool_]) -> list[int]:
    """How many pairs of neighbouring voxels, of 26, differ in their place along each axis."""
    links = [0, 0, 0]
    for step in product((-1, 0, 1), repeat=3):
        if step <= (0, 0, 0):  # the other half are the same pairs
            continue
        here = tuple(slice(max(0, -by), size - max(0, by)) for by, size in zip(step, box.shape, strict=True))
        there = tuple(slice(max(0, by), size + min(0, by)) for by, size in zip(step, box.shape, strict=True))
        count = int(np.count_nonzero(box[here] & box[there]))
        for axis, by in enumerate(step):
            links[axis] += count * abs(by)
    return links


def _world_axes(affine: ArrayLike) -> list[int]:
    """The world axis nearest to each voxel axis, each world axis once."""
    return [int(axis) for axis in nib.orientations.io_orientation(np.asarray(affine, dtype=np.float64))[:, 0]]
