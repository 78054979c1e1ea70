"""Read one file of a case, and say what is wrong with it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ImageReader, MetaTensor
from monai.transforms import LoadImage
from monai.utils import ensure_tuple

from sizeloss_monai.data.grid import grid_of
from sizeloss_monai.data.label_ids import LARGEST_ID, whole_ids
from sizeloss_monai.data.names import no_file_reason
from sizeloss_monai.data.volume_reader import VolumeReader
from sizeloss_monai.errors import DataError, Finding, Place, listed

__all__ = ["grid_findings", "image_findings", "label_findings", "load_volume", "read_volume"]


def read_volume(files: Any, where: Place, reader: ImageReader | None = None) -> MetaTensor | Finding:
    """Read a path, or several as channels.

    Args:
        files: a path, or a sequence of paths.
        where: their case and key.
        reader: a MONAI reader; :class:`~sizeloss_monai.data.VolumeReader` by default.

    Returns:
        The volume, ``[C, *spatial]``, or what is wrong: a file is missing, truncated, damaged or of an unknown format.
    """
    paths = [Path(path) for path in ensure_tuple(files)]
    missing = [
        path.name[:255] if reason == "nothing" else f"{path.name[:255]} ({reason})"
        for path in paths
        if (reason := no_file_reason(path)) not in ("", "a folder")  # readers of DICOM take folders
    ]
    if missing:
        return where.error("missing-file", f"no file {listed(missing)}", "it to exist")
    try:
        return LoadImage(image_only=True, ensure_channel_first=True)(paths, reader=reader or VolumeReader())
    except Exception as err:  # every reader has its own errors, and none of them may hide those of other cases
        lines = [line.strip() for line in str(err).splitlines() if line.strip()]
        reason = lines[-1] if lines else type(err).__name__
        for path in paths:
            reason = reason.replace(str(path), path.name)
        return where.error("unreadable", f"a file that cannot be read ({reason})", "a whole image")


def load_volume(files: Any, where: Place) -> MetaTensor:
    """:py:func:`read_volume` for callers that cannot go on without the volume.

    Raises:
        DataError: when it cannot be read.
    """
    volume = read_volume(files, where)
    if isinstance(volume, Finding):
        raise DataError(str(volume))
    return volume


def image_findings(image: MetaTensor, where: Place, num_channels: int = 1) -> list[Finding]:
    """What is wrong with the shape, the header and the voxels of an image ``[C, *spatial]``.

    Errors are another number of dimensions or channels, voxels without a volume, sheared axes, and NaN and infinite
    voxels; warnings are contradictions of the header.
    """
    found = _shape_findings(image, where, num_channels)
    grid = grid_of(image)
    if grid is None and image.ndim == 4:
        matrix = image.affine.tolist()
        found.append(
            where.error("singular-affine", f"an affine whose voxels have no volume, {matrix}", "full rank, in mm")
        )
    if grid and grid.leans:
        found.append(
            where.error(
                "sheared", "axes that are not at right angles (gantry tilt)", "such axes: ITK reads no mask with others"
            )
        )
    for note in grid.notes if grid else ():
        found.append(where.warning("header", f"a header that contradicts itself: {note}", "one placement, in mm"))
    num_nan, num_inf = int(image.isnan().sum()), int(image.isinf().sum())
    if num_nan or num_inf:
        found.append(where.error("not-finite", f"{num_nan} NaN and {num_inf} infinite voxels", "finite numbers"))
    return found


def label_findings(
    label: MetaTensor, where: Place, allowed: Collection[int] | None, ignore_index: int | None
) -> list[Finding]:
    """What is wrong with the shape and the values of a label.

    Args:
        label: ``[1, *spatial]``.
        where: its case and key.
        allowed: the ids it may have; None allows any from 0.
        ignore_index: another id that it may have, or None.

    Returns:
        Errors: another number of dimensions or channels, values that are not ids (see
        :py:func:`~sizeloss_monai.data.label_ids.whole_ids`), unknown ids.
    """
    found = _shape_findings(label, where, 1)
    values = np.unique(label.numpy())
    whole_values, whole = whole_ids(values)
    if not whole.all():
        finite = np.abs(values) <= LARGEST_ID
        for which, what, expected in (
            (~whole & (finite | ~np.isfinite(values)), "values other than integers", "class ids"),
            (~finite & np.isfinite(values), "ids too large", f"ids up to {LARGEST_ID}"),
        ):
            if which.any():
                shown = listed([f"{value:.8g}" for value in values[which].astype(np.float64).round(6)], 5)
                found.append(where.error("not-integer", f"{what} ({shown})", expected))
        return found
    ids = set(whole_values.tolist()) - {ignore_index}
    unknown = sorted(ids - set(allowed)) if allowed is not None else sorted(value for value in ids if value < 0)
    if unknown:
        expected = "ids from 0" if allowed is None else listed([str(value) for value in sorted(set(allowed))])
        extra = "" if ignore_index is None else f" or {ignore_index} (ignored)"
        if unknown == [0] and where.key == "weak_label":
            extra += ' (does it mean unannotated? datalist ... --unannotated 0, or "unannotated": 0 in the list)'
        shown = listed([str(value) for value in unknown])
        found.append(where.error("unknown-id", f"ids {shown}", expected + extra))
    return found


def grid_findings(label: MetaTensor, image: MetaTensor, where: Place, image_key: str = "image") -> list[Finding]:
    """A finding if the shape or the placement of a label differs from its image's, both as read from their files."""
    if label.shape[1:] != image.shape[1:]:
        expected = f"that of '{image_key}' {tuple(image.shape[1:])}"
        return [where.error("shape", f"shape {tuple(label.shape[1:])}", expected)]
    of_label, of_image = grid_of(label), grid_of(image)
    if of_label is None or of_image is None:  # told of the shape, or of the affine
        return []
    apart = of_image.apart_mm(of_label)
    if apart is None:
        return []
    found = f"an affine that puts voxels up to {apart:.4g} mm away from those of '{image_key}'"
    return [where.error("affine", found, "the same grid (export it again, with the scan as reference volume)")]


def _shape_findings(volume: MetaTensor, where: Place, num_channels: int) -> list[Finding]:
    """What is wrong with the shape ``[C, x, y, z]``."""
    if volume.ndim == 4 and volume.shape[0] == num_channels:
        return []
    found = "x".join(map(str, volume.shape[1:]))
    hint = " (split a 4D file, a volume over time, into its phases)" if volume.shape[0] > num_channels else ""
    return [
        where.error(
            "dimensions",
            f"{volume.ndim - 1}D ({found}) with {volume.shape[0]} channels",
            f"3D with {num_channels} channel{'s' if num_channels > 1 else ''}{hint}",
        )
    ]
