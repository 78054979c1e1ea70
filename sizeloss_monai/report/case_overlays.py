"""The mask of a case over its scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from matplotlib.figure import Figure
from monai.data import MetaTensor
from monai.transforms import Orientation
from numpy.typing import NDArray

from sizeloss_monai.data.slice_axis import SliceAxis
from sizeloss_monai.data.volumes import load_volume
from sizeloss_monai.datalist import ClassMap
from sizeloss_monai.errors import DataError, Place
from sizeloss_monai.report.overlays import Outline, Panel, largest_slice, overlay_figure, square_window
from sizeloss_monai.report.run_files import CaseResult
from sizeloss_monai.transforms import ThroughPlaneLast
from sizeloss_monai.transforms.geometry import LABELS
from sizeloss_monai.transforms.label_ids import LabelIdsToClasses

__all__ = ["case_figure", "legend_keys", "upright"]

COLORS = ("red", "deepskyblue", "gold", "magenta", "darkorange", "mediumpurple")
"""Colours of the classes from 1 on; more classes begin again."""
TRUTH_COLOR = "lime"
_VIEW = {**dict.fromkeys("LR", "L"), **dict.fromkeys("PA", "P"), **dict.fromkeys("IS", "I")}


def upright(volume: MetaTensor, slice_axis: SliceAxis = "widest") -> MetaTensor:
    """Turn slices as radiologists look at them, and keep their order.

    Args:
        volume: ``[C, X, Y, Z]``.
        slice_axis: where slices lie.

    Returns:
        ``[C, H, W, D]``, slices along the last axis. With the first axis drawn from left to right and the second from
        top to bottom, the patient's right is on the left (sagittal slices: anterior), and anterior is at the top
        (slices that are not axial: superior).
    """
    sliced = ThroughPlaneLast(slice_axis)(volume)
    codes = nib.orientations.aff2axcodes(sliced.affine.numpy())
    in_plane = sorted((_VIEW[code] for code in codes[:2]), key="LPI".index)
    return Orientation(axcodes="".join([*in_plane, codes[2]]), labels=LABELS)(sliced)  # type: ignore[return-value]


def legend_keys(results: Sequence[CaseResult]) -> list[tuple[str, str]]:
    """Names and colours of the contours in :py:func:`case_figure`, for all cases that are drawn."""
    keys = list({row.name: _color(row.class_id) for result in results for row in result.rows}.items())
    return [*keys, ("truth", TRUTH_COLOR)] if any(result.label for result in results) else keys


def _color(class_id: int) -> str:
    return COLORS[(class_id - 1) % len(COLORS)]


def case_figure(result: CaseResult, classes: ClassMap, slice_axis: SliceAxis = "widest") -> Figure:
    """The scan with mask and truth, two panels a row: the slice with most of both, and up to three slices close up.

    :py:func:`legend_keys` makes the legend.

    Args:
        result: of the case.
        classes: the class of each id of the label files.
        slice_axis: where slices lie.

    Raises:
        DataError: when a file is missing or damaged, a label file has an id without a class, or mask and scan differ
            in shape.
    """
    image = _load(result, result.image, "image")
    mask = _load(result, result.mask, "mask")
    truth = None
    if result.label is not None:
        to_classes = LabelIdsToClasses(classes)
        try:
            truth = to_classes(_load(result, result.label, "label"))
        except ValueError as err:
            raise DataError(f"case '{result.case}', key 'label': {err}") from err
    for key, volume in (("mask", mask), ("label", truth)):
        if volume is not None and volume.shape[1:] != image.shape[1:]:
            found, expected = (" x ".join(map(str, array.shape[1:])) for array in (volume, image))
            raise DataError(f"case '{result.case}', key '{key}': found shape {found}, expected the scan's, {expected}.")
    view = upright(image, slice_axis)
    spacing = (float(view.pixdim[0]), float(view.pixdim[1]))
    grey = view[0].numpy()
    found = upright(mask, slice_axis)[0].numpy().round().astype(int)
    wanted = np.zeros_like(found) if truth is None else upright(truth, slice_axis)[0].numpy().round().astype(int)
    either = (found > 0) | (wanted > 0)
    names = {row.class_id: row.name for row in result.rows}

    def panel(index: int, window: tuple[slice, slice]) -> Panel:
        where = (*window, index)
        outlines = [Outline(found[where] == class_id, _color(class_id), name, 0.2) for class_id, name in names.items()]
        if truth is not None:
            outlines += [Outline(wanted[where] == class_id, TRUTH_COLOR, "truth", style="--") for class_id in names]
        return Panel(grey[where], outlines, spacing, f"slice {index}")

    whole = (slice(None), slice(None))
    panels: list[Panel | None] = [panel(largest_slice(either), whole)]
    if either.any():
        window = square_window(either, spacing)
        panels += [panel(index, window) for index in _spread(np.flatnonzero(either.any(axis=(0, 1))))]
    columns = min(len(panels), 2)
    panels += [None] * (-len(panels) % columns)
    return overlay_figure([panels[i : i + columns] for i in range(0, len(panels), columns)], legend=False)


def _load(result: CaseResult, path: Path, key: str) -> MetaTensor:
    """The first channel of a volume, ``[1, X, Y, Z]``."""
    return load_volume(path, Place(result.case, key))[:1]  # type: ignore[return-value]


def _spread(indices: NDArray[np.intp]) -> list[int]:
    """Up to three slices: near the first, in the middle, near the last."""
    return sorted({int(indices[round(share * (len(indices) - 1))]) for share in (0.1, 0.5, 0.9)})
