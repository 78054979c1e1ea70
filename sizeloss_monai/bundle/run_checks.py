"""What must hold of a run's settings before it starts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai import transforms as mt

from sizeloss_monai.bundle.run_record import read_starts
from sizeloss_monai.data.grid import read_grid
from sizeloss_monai.data.slice_axis import (
    SliceAxis,
    is_clearly_widest,
    parse_slice_axis,
    plane_of,
    slice_axis_of,
)
from sizeloss_monai.datalist.classes import ClassMap, read_classes
from sizeloss_monai.errors import ConfigError, DataError, listed

__all__ = ["check_label_map", "check_pixdim", "check_sizes_hold", "check_trained_grid", "trained_slice_axis"]


def check_pixdim(pixdim: Any) -> None:
    """Raise where the size of a voxel is not three numbers. For a config's ``initialize``.

    Args:
        pixdim: in mm; one that is negative keeps the scan's own.

    Raises:
        ConfigError: when it is anything else.
    """
    numbers = list(pixdim) if isinstance(pixdim, (list, tuple)) else []
    if len(numbers) != 3 or not all(isinstance(x, (int, float)) and math.isfinite(x) and x != 0 for x in numbers):
        found = list(pixdim) if isinstance(pixdim, tuple) else pixdim
        raise ConfigError(
            f"pixdim: found {found!r}, expected three numbers in mm, such as [1.5, 1.5, -1.0], of which the last, "
            "-1.0, keeps the spacing between slices."
        )


def trained_slice_axis(checkpoint: str | Path, slice_axis: Any = "auto") -> SliceAxis:
    """Where the slices lie that weights are used on. For a config.

    Args:
        checkpoint: ``<run>/checkpoints/<name>.pt``; other weights are of no run that could say it.
        slice_axis: what the user says; ``"auto"`` takes what the run's training took.

    Returns:
        One of :py:data:`~sizeloss_monai.data.slice_axis.SliceAxis`, never ``"auto"``: ``"widest"`` where nobody says.

    Raises:
        ConfigError: when `slice_axis` is unknown or ``run.json`` is damaged.
    """
    given = _parsed(slice_axis)
    return given if given != "auto" else _recorded_slice_axis(checkpoint) or "widest"


def check_trained_grid(
    checkpoint: str | Path,
    pixdim: Sequence[float] | None,
    slice_axis: SliceAxis | None = None,
    items: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Raise where a run's weights are used on another grid than its own. For a config's ``initialize``.

    A network that learned an organ's size in pixels gives poor masks at another scale, without a word, and so does one
    that learned axial slices on coronal ones. What the run used is in its ``run.json``; weights that lie in no run's
    folder are not compared.

    Args:
        checkpoint: ``<run>/checkpoints/<name>.pt``.
        pixdim: size of a voxel, mm, that scans are resampled to; None where they keep their own.
        slice_axis: where slices lie; None of whole volumes.
        items: cases whose ``image`` is cut into slices.

    Raises:
        ConfigError: when pixel sizes differ, a case would be cut into other slices, or ``run.json`` is damaged. What
            the widest spacing of a training says of scans without a clearly widest one is no contradiction.
        DataError: when the header of an image cannot be read.
    """
    grid = _recorded_grid(checkpoint)
    found = None if pixdim is None else list(pixdim)
    expected = grid.get("pixdim", found)
    if found != expected:
        remedy = (
            "give --resample False"
            if expected is None
            else 'give --pixdim "' + ",".join(map(str, expected)).join("[]") + '"'
        )
        raise ConfigError(
            f"pixdim: found {_shown(found)}, expected {_shown(expected)}, with which {str(checkpoint)!r} was trained: "
            f"{remedy}."
        )
    trained = _recorded_slice_axis(checkpoint)
    if slice_axis is None or trained is None or slice_axis == trained:
        return
    for item in items:
        case = read_grid(item["image"])
        if trained == "widest" and not is_clearly_widest(case.spacing):
            continue
        axis, usual = (slice_axis_of(case.spacing, case.affine, name) for name in (slice_axis, trained))
        if axis != usual:
            raise ConfigError(
                f"slice_axis: found {slice_axis!r}, expected {trained!r}, with which {str(checkpoint)!r} was trained: "
                f"case '{item['case']}' would be cut into {plane_of(case.affine, axis)} slices, not "
                f"{plane_of(case.affine, usual)} ones. Leave --slice_axis out."
            )


def _recorded_slice_axis(checkpoint: str | Path) -> SliceAxis | None:
    """Where slices lay in the training; None where that was not noted."""
    recorded = _recorded_grid(checkpoint).get("slice_axis")
    if recorded is None:
        return None
    try:
        return parse_slice_axis(recorded)
    except ValueError as err:
        raise _damaged(checkpoint) from err


def _recorded_grid(checkpoint: str | Path) -> Mapping[str, Any]:
    """What the last start of the run noted; empty where weights lie in no run's folder, or in an older run's."""
    if not _record(checkpoint).is_file():
        return {}
    try:
        start = read_starts(_record(checkpoint).parent)[-1]
        if "grid" not in start:
            return {}
        return {**start["grid"], "pixdim": start["grid"]["pixdim"]}
    except (DataError, KeyError, TypeError) as err:
        raise _damaged(checkpoint) from err


def _record(checkpoint: str | Path) -> Path:
    return Path(checkpoint).resolve().parent.parent / "run.json"


def _damaged(checkpoint: str | Path) -> ConfigError:
    return ConfigError(f"checkpoint: found a damaged '{_record(checkpoint)}', expected what training wrote of its run.")


def _parsed(slice_axis: Any) -> SliceAxis:
    try:
        return parse_slice_axis(slice_axis)
    except ValueError as err:
        raise ConfigError(str(err)) from None


def _shown(pixdim: list[float] | None) -> str:
    """A voxel size in a message."""
    return "each scan's own" if pixdim is None else f"{pixdim} mm"


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


def check_label_map(
    classes: ClassMap, datalist: Mapping[str, Any] | None = None, unannotated: int | None = None
) -> None:
    """Raise where an id of the label files would become the wrong class. For ``initialize``.

    Args:
        classes: the class of each id of the label files.
        datalist: its ``labels`` may say which id is the background.
        unannotated: the id of voxels that were not annotated; None where there is none.

    Raises:
        ConfigError: when a class has no id, the background of the data list is not class 0, or ``unannotated`` is
            among the ids.
    """
    made = classes.target_ids
    without = sorted(set(range(classes.num_classes)) - set(made))
    if without:
        ids = listed([str(class_id) for class_id in without])
        raise ConfigError(
            f"num_classes: found {classes.num_classes}, but target_ids use {min(made)}..{max(made)}: "
            f"class {ids} has no id."
        )
    if unannotated in classes.label_ids:
        raise ConfigError(
            f"label_ids: found {unannotated}, the id of voxels that were not annotated, expected ids of classes only."
        )
    if datalist is None:
        return
    stated, _ = read_classes(datalist)
    if stated.background is not None and classes.class_of.get(stated.background, 0) != 0:
        found = listed([_named(label_id, stated.names) for label_id in classes.ids_of.get(0, [])])
        raise ConfigError(
            f"label_ids: found {found} for class 0, expected {stated.background}, which the data list calls background."
        )


def _named(label_id: int, names: Mapping[int, str]) -> str:
    """An id for a message, with its name if it has one."""
    return f"{label_id} ({names[label_id]})" if label_id in names else str(label_id)
