"""What must hold of a run's settings before it starts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from monai import transforms as mt

from sizeloss_monai.bundle.guard import is_handed_over
from sizeloss_monai.bundle.run_record import read_starts
from sizeloss_monai.bundle.start import is_first_process
from sizeloss_monai.checks import check_cases, check_used_data
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
from sizeloss_monai.options import Unit

__all__ = [
    "check_inputs",
    "check_label_map",
    "check_pixdim",
    "check_sizes_hold",
    "check_trained_grid",
    "trained_slice_axis",
]


def check_inputs(
    datalist: Mapping[str, Any],
    classes: ClassMap,
    pixdim: Any,
    unit: str = "voxels",
    slice_axis: SliceAxis | None = None,
    unannotated: int | None = None,
    **options: Any,
) -> None:
    """Raise where the settings or the data of a training are wrong. For a config's ``initialize``.

    Of several processes the first one reads the files.

    Args:
        datalist: with absolute paths. Cases without a name come from another program; their masks hold classes.
        classes: the class of each id of the label files.
        pixdim: see :py:func:`check_pixdim`.
        unit: of size bounds, see :py:class:`~sizeloss_monai.transforms.LabelToSizeBounds`.
        slice_axis: where slices lie; None of whole volumes.
        unannotated: the id of weak labels where no voxel was annotated; None: the data list's.
        options: for :py:func:`~sizeloss_monai.checks.check_used_data`.

    Raises:
        ConfigError: when a setting is wrong.
        DataError: with one line for each problem of the data.
    """
    check_pixdim(pixdim)
    if unit not in (*get_args(Unit), "mm"):  # mm: the old spelling, read with a warning
        raise ConfigError(f"unit must be voxels, mm2 or mL, got {unit!r}.")
    check_label_map(classes, datalist, unannotated)
    if not is_first_process():
        return
    if not is_handed_over(datalist["training"]):
        check_used_data(datalist, classes, unannotated=unannotated, slice_axis=slice_axis, **options)
        return
    items = [*datalist["training"], *datalist["validation"]]
    check_cases(items, label_ids={"label": classes.label_ids}, ignore_index=None)  # full masks leave nothing out


def check_pixdim(pixdim: Any) -> None:
    """Raise ConfigError where the size of a voxel is not three numbers. For a config's ``initialize``.

    Args:
        pixdim: in mm; a negative number keeps the scan's own size.
    """
    numbers = list(pixdim) if isinstance(pixdim, (list, tuple)) else []
    if len(numbers) != 3 or not all(isinstance(x, (int, float)) and math.isfinite(x) and x != 0 for x in numbers):
        found = list(pixdim) if isinstance(pixdim, tuple) else pixdim
        raise ConfigError(
            f"pixdim: found {found!r}, expected three numbers in mm, such as [1.5, 1.5, -1.0], where -1.0 keeps the "
            "spacing between slices."
        )


def trained_slice_axis(checkpoint: str | Path, slice_axis: Any = "auto") -> SliceAxis:
    """Where slices lie, for weights that are used again. For a config.

    Args:
        checkpoint: ``<run>/checkpoints/<name>.pt``, or weights outside a run.
        slice_axis: what the user says; ``"auto"``: as in the run's training, or ``"widest"`` outside a run.

    Returns:
        One of :py:data:`~sizeloss_monai.data.slice_axis.SliceAxis`, never ``"auto"``.

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
    """Raise where a run's weights are used on another grid than in its training. For a config's ``initialize``.

    A network gives poor masks at another scale, or of coronal slices when it learned axial ones, and no message says
    so. The run's ``run.json`` holds its grid; weights outside a run are not compared.

    Args:
        checkpoint: ``<run>/checkpoints/<name>.pt``.
        pixdim: size of a voxel after resampling, mm; None where scans keep their own.
        slice_axis: where slices lie; None for whole volumes.
        items: cases whose ``image`` is cut into slices.

    Raises:
        ConfigError: when pixel sizes differ, a case would be cut into other slices, or ``run.json`` is damaged. Where
            the training took the widest spacing, scans without a clearly widest one are not compared.
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
    """Where slices lay in the training; None where ``run.json`` does not hold it."""
    recorded = _recorded_grid(checkpoint).get("slice_axis")
    if recorded is None:
        return None
    try:
        return parse_slice_axis(recorded)
    except ValueError as err:
        raise _damaged(checkpoint) from err


def _recorded_grid(checkpoint: str | Path) -> Mapping[str, Any]:
    """The grid of the run's last start; empty for weights outside a run, or of an older one."""
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
    """Raise ValueError where a transform changes the size of a target and not the affine.

    Rotation, translation, flips and affine zoom (``RandAffined``) are safe while the target stays in the image. Crops,
    and zooms to the same number of voxels, may cut it. Elastic deformation and grid distortion change sizes, by a third
    at times, and leave the affine as it is.

    Args:
        transforms: of a training item, after its size bounds are known, also within a ``Compose``.
    """
    for transform in _flat(transforms):
        for kinds, what in ((_CUTTING, "may cut the target"), (_DEFORMING, "deforms it and not the affine")):
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
