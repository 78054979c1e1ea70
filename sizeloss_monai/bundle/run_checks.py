"""What must hold of a run's settings before it starts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai import transforms as mt

from sizeloss_monai.bundle.config_check import ConfigError
from sizeloss_monai.bundle.run_record import read_starts
from sizeloss_monai.data.grid import read_grid
from sizeloss_monai.data.slice_axis import (
    SliceAxis,
    is_clearly_widest,
    parse_slice_axis,
    plane_of,
    slice_axis_of,
)
from sizeloss_monai.datalist.classes import read_classes
from sizeloss_monai.errors import DataError, listed

__all__ = ["check_label_map", "check_pixdim", "check_sizes_hold", "check_trained_grid", "trained_slice_axis"]


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
    label_ids: Sequence[int],
    target_ids: Sequence[int],
    num_classes: int,
    datalist: Mapping[str, Any] | None = None,
    unannotated: int | None = None,
) -> None:
    """Raise where a label file's id would become no class of the network, or the wrong one. For ``initialize``.

    Args:
        label_ids: ids that occur in label files.
        target_ids: the class of each.
        num_classes: of the network, including the background.
        datalist: whose ``labels`` may say which id is the background.
        unannotated: the id of voxels that nobody annotated, which is no class; None where there is none.

    Raises:
        ConfigError: when the lists differ in length, a class lies outside ``0..num_classes - 1`` or has no id, the
            background of the data list is not class 0, or ``unannotated`` is among the ids.
    """
    if len(label_ids) != len(target_ids):
        raise ConfigError(f"target_ids must name a class for each of label_ids {label_ids}, found {target_ids}.")
    outside = [target for target in target_ids if not 0 <= target < num_classes]
    if outside:
        raise ConfigError(f"target_ids must lie in 0..{num_classes - 1} (num_classes {num_classes}), found {outside}.")
    without = sorted(set(range(num_classes)) - set(target_ids))
    if without:
        used, ids = f"{min(target_ids)}..{max(target_ids)}", listed([str(class_id) for class_id in without])
        raise ConfigError(f"num_classes: found {num_classes}, but target_ids use {used}: class {ids} has no id.")
    if unannotated in label_ids:
        raise ConfigError(
            f"label_ids: found {unannotated}, the id of voxels that nobody annotated, expected ids of classes only."
        )
    if datalist is None:
        return
    classes, _ = read_classes(datalist)
    class_of = dict(zip(label_ids, target_ids, strict=True))
    if classes.background is not None and class_of.get(classes.background, 0) != 0:
        found = listed([_named(label_id, classes.names) for label_id, target in class_of.items() if target == 0])
        raise ConfigError(
            f"label_ids: found {found} for class 0, expected {classes.background}, "
            "which the data list calls background."
        )


def _named(label_id: int, names: Mapping[int, str]) -> str:
    """An id for a message, with its name if it has one."""
    return f"{label_id} ({names[label_id]})" if label_id in names else str(label_id)
