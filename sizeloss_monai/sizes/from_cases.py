"""Sizes of annotated cases, and the bounds that follow from them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sizeloss_monai.data.grid import Grid
from sizeloss_monai.data.label_ids import class_sizes, whole_ids
from sizeloss_monai.data.slice_axis import SliceAxis, slice_axis_of
from sizeloss_monai.data.volumes import label_findings, load_volume
from sizeloss_monai.errors import DataError, Place, check_option
from sizeloss_monai.options import UNIT_OF, Method, Per, Unit
from sizeloss_monai.sizes.bounds import read_unit

__all__ = [
    "MIN_SIZES",
    "CaseSizes",
    "common_size_bounds",
    "count_outside",
    "leave_one_out",
    "measure_common_bounds",
    "measure_grid",
    "measure_sizes",
    "round_outward",
    "size_interval",
]

logger = logging.getLogger(__name__)

MIN_SIZES: dict[Method, int] = {"range": 1, "quantile": 1, "lognormal": 2}
"""The number of sizes that each method needs."""

TOLERANCE = 1e-9
"""The relative difference of two sizes that counts as none: products of spacings are rounded."""


def size_interval(
    sizes: ArrayLike, method: Method = "lognormal", coverage: float = 0.95, margin: float = 1.0
) -> tuple[float, float]:
    r"""Bounds from sizes.

    ===============  ===================================================================================
    ``"range"``      :math:`(0.9 \min, 1.1 \max)`, the common bounds of Kervadec et al. 2019, section 4
    ``"quantile"``   the sample quantiles at :math:`(1 \mp \text{coverage}) / 2`, within the range seen
    ``"lognormal"``  the prediction interval of one more size, :math:`\exp(m \pm t_{n-1} s \sqrt{1 + 1/n})`,
                     with `m` and `s` the mean and the standard deviation of the `n` log sizes and `t` the
                     quantile of Student's distribution at :math:`(1 + \text{coverage}) / 2`
    ===============  ===================================================================================

    Quantiles of few sizes cover less than asked: one more size lies outside even the range of `n` with probability
    :math:`2 / (n + 1)`. The prediction interval covers what is asked for any `n`, if sizes are independent and
    log-normal; with 2 or 3 it is very wide. Slices of one volume and phases of one patient are not independent: the
    interval covers less, as :py:func:`leave_one_out` or other cases tell.

    Args:
        sizes: of one class, all positive, ``[n]``.
        method: one of the above.
        coverage: of ``"quantile"`` and ``"lognormal"``, between 0 and 1.
        margin: what to divide the lower bound and multiply the upper bound by, at least 1.

    Returns:
        Lower and upper bound in the unit of the sizes.

    Raises:
        ValueError: when an argument is out of range, or there are fewer sizes than :py:data:`MIN_SIZES`.
    """
    values = np.asarray(sizes, dtype=np.float64).ravel()
    check_option("method", method, Method)
    if not 0 < coverage < 1:
        raise ValueError(f"coverage must lie between 0 and 1, got {coverage:g}.")
    if not 1 <= margin < math.inf:
        raise ValueError(f"margin must be at least 1, got {margin:g}.")
    if len(values) < MIN_SIZES[method]:
        raise ValueError(f"method {method!r} needs at least {MIN_SIZES[method]} sizes, got {len(values)}.")
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError("sizes must be positive and finite.")
    if method == "range":
        lower, upper = 0.9 * values.min(), 1.1 * values.max()
    elif method == "quantile":
        lower, upper = np.quantile(values, [(1 - coverage) / 2, (1 + coverage) / 2])
    else:
        logs = np.log(values)
        half = stats.t.ppf((1 + coverage) / 2, len(logs) - 1) * logs.std(ddof=1) * np.sqrt(1 + 1 / len(logs))
        with np.errstate(over="ignore"):  # two very different sizes: no upper bound
            lower, upper = np.exp([logs.mean() - half, logs.mean() + half])
    return float(lower / margin), float(upper * margin)


def count_outside(sizes: ArrayLike, bounds: tuple[float, float]) -> int:
    """How many sizes ``[n]`` lie below the lower or above the upper bound, by more than a billionth of it."""
    values = np.asarray(sizes, dtype=np.float64)
    return int(((values < bounds[0] * (1 - TOLERANCE)) | (values > bounds[1] * (1 + TOLERANCE))).sum())


def leave_one_out(
    groups: Sequence[ArrayLike], method: Method = "lognormal", coverage: float = 0.95, margin: float = 1.0
) -> tuple[int, int]:
    """How many sizes fall outside the bounds that the other groups give.

    Args:
        groups: the sizes of one class by patient, ``[n_i]`` each: those of one patient are alike.
        method, coverage, margin: see :py:func:`size_interval`.

    Returns:
        The number of sizes outside, and the number tested, 0 where the others are too few to give bounds.
    """
    arrays = [np.asarray(group, dtype=np.float64).ravel() for group in groups]
    outside = tested = 0
    for index, left_out in enumerate(arrays):
        others = np.concatenate([np.empty(0), *arrays[:index], *arrays[index + 1 :]])
        if len(others) >= MIN_SIZES[method]:
            outside += count_outside(left_out, size_interval(others, method, coverage, margin))
            tested += len(left_out)
    return outside, tested


def round_outward(bounds: tuple[float, float], digits: int = 4) -> tuple[float, float]:
    """Round the lower bound down and the upper one up, to significant decimal digits; infinity stays."""
    # 1.1 * 16.8 is a little more than 18.48, and should not become 18.49
    exact = Context(prec=12)
    lower, upper = (exact.create_decimal_from_float(bound) for bound in bounds)
    down, up = Context(prec=digits, rounding=ROUND_FLOOR), Context(prec=digits, rounding=ROUND_CEILING)
    return float(down.plus(lower)), float(up.plus(upper))


@dataclass(frozen=True)
class CaseSizes:
    """The sizes of an annotated case, in mm2 (per slice) or mL (per volume).

    Args:
        case: its name.
        patient: its patient.
        voxel: size of one voxel.
        whole: size of a whole slice, or of the volume.
        sizes: by class id above 0, the size in the volume, ``[1]``, or in each slice that has the class, ``[n]``. A
            class that is not there has no entry.
    """

    case: str
    patient: str
    voxel: float
    whole: float
    sizes: Mapping[int, NDArray[np.float64]]


def measure_grid(item: Mapping[str, Any], key: str, per: Per, slice_axis: SliceAxis = "widest") -> CaseSizes:
    """The sizes of a case's voxels and of the whole, without those of classes.

    Args:
        item: of a data list, with absolute paths.
        key: of the file to read.
        per: ``"slice"`` or ``"volume"``.
        slice_axis: where slices lie.

    Raises:
        DataError: when the file cannot be read or is not 3D, or its voxels have no volume.
    """
    where = Place(str(item["case"]), key)
    return _measured(item, where, load_volume(item[key], where), per, slice_axis)[0]


def measure_sizes(
    item: Mapping[str, Any],
    key: str = "label",
    per: Per = "volume",
    allowed: Collection[int] | None = None,
    unannotated: int | None = None,
    slice_axis: SliceAxis = "widest",
) -> CaseSizes:
    """The sizes of the classes in an annotation.

    Args:
        item, key, per, slice_axis: see :py:func:`measure_grid`.
        allowed: the ids that may be there; None allows any from 0.
        unannotated: the id of voxels that were not annotated; it has no size.

    Raises:
        DataError: those of :py:func:`measure_grid`, and when a value is not such an id.
    """
    where = Place(str(item["case"]), key)
    volume = load_volume(item[key], where)
    problems = label_findings(volume, where, allowed, unannotated)
    if problems:
        raise DataError(str(problems[0]))
    of_grid, axis = _measured(item, where, volume, per, slice_axis)
    ids = np.moveaxis(whole_ids(volume[0].numpy())[0], axis, 0)
    sizes: dict[int, NDArray[np.float64]] = {}
    for class_id in np.unique(ids).tolist():
        if class_id not in (0, unannotated):
            counts = (ids == class_id).sum(axis=(1, 2))
            counts = counts if per == "slice" else counts.sum(keepdims=True)
            sizes[class_id] = counts[counts > 0] * of_grid.voxel
    return replace(of_grid, sizes=sizes)


def _measured(
    item: Mapping[str, Any], where: Place, volume: MetaTensor, per: Per, slice_axis: SliceAxis
) -> tuple[CaseSizes, int]:
    """The sizes of a volume's voxels and of the whole, and the voxel axis of its slices."""
    case = str(item["case"])
    grid = Grid.of(volume.shape[1:], volume.affine)
    if grid is None:
        found = f"shape {tuple(volume.shape[1:])} and an affine of determinant {volume.affine.det().item():g}"
        expected = "a 3D volume with voxels of a positive size"
        raise DataError(str(where.error("singular-affine", found, expected)))
    axis = slice_axis_of(grid.spacing, grid.affine, slice_axis)
    voxel, whole = (size(per, UNIT_OF[per], axis) for size in (grid.voxel_size, grid.image_size))
    return CaseSizes(case, str(item.get("patient", case)), voxel, whole, {}), axis


def common_size_bounds(
    labels: Sequence[torch.Tensor],
    num_classes: int,
    lower_factor: float = 0.9,
    upper_factor: float = 1.1,
    per: Per = "slice",
    unit: Unit = "voxels",
) -> list[list[float]]:
    """Common bounds from one fully annotated patient (Kervadec et al. 2019, section 4), or from a few volumes.

    Args:
        labels: class ids, each ``[1, H, W, D]`` with slices along the last axis; a ``MetaTensor`` unless the unit is
            ``"voxels"``.
        num_classes: with the background.
        lower_factor: times the smallest size of a slice (or volume) that has the class.
        upper_factor: times the largest one.
        per: ``"slice"`` or ``"volume"``.
        unit: of the bounds: ``"voxels"``, ``"mm2"`` per slice, ``"mL"`` per volume.

    Returns:
        ``[num_classes][2]``; ``[0, inf]`` for the background.

    Raises:
        ValueError: when an option is unknown, or no slice (or volume) has a class.
    """
    check_option("per", per, Per)
    unit = read_unit(unit, per)
    sizes = torch.cat([_item_sizes(label, num_classes, per, unit) for label in labels])
    bounds = [[0.0, math.inf]]
    for class_id in range(1, num_classes):
        present = sizes[:, class_id][sizes[:, class_id] > 0]
        if len(present) == 0:
            raise ValueError(f"class {class_id} is in no {per}: common bounds cannot be measured from it.")
        bounds.append([lower_factor * float(present.min()), upper_factor * float(present.max())])
    return bounds


def _item_sizes(label: torch.Tensor, num_classes: int, per: Per, unit: Unit) -> torch.Tensor:
    """Sizes of the classes of every slice of a volume, or of the volume, ``[number of items, num_classes]``."""
    ids = torch.as_tensor(label).as_subclass(torch.Tensor)
    items = ids.unbind(-1) if per == "slice" else (ids,)
    voxel = 1.0
    if unit != "voxels":
        grid = Grid.of(ids.shape[1:], label.affine) if isinstance(label, MetaTensor) else None
        if grid is None:
            raise TypeError(f"labels must be MetaTensors [1, H, W, D] with an affine for the unit {unit}.")
        voxel = grid.voxel_size(per, unit, axis=2)
    return torch.stack([class_sizes(item, num_classes) for item in items]) * voxel


def measure_common_bounds(
    data: Sequence[dict[str, Any]],
    transform: Callable[[Any], Any],
    num_classes: int,
    name: str | None = None,
    label_key: str = "label",
    lower_factor: float = 0.9,
    upper_factor: float = 1.1,
    num_cases: int | None = None,
    per: Per = "slice",
    unit: Unit = "voxels",
) -> list[list[float]]:
    """Common bounds of a few training cases, as the network sees them; see :py:func:`common_size_bounds`.

    Args:
        data: the training cases. Only those chosen are read.
        transform: what prepares a case for training.
        num_classes, lower_factor, upper_factor, per, unit: see :py:func:`common_size_bounds`.
        name: of a case or a patient, all of whose cases are taken.
        label_key: key of the full annotation.
        num_cases: without a name, the number of cases, the first ones; None for those of the first patient.

    Returns:
        ``[num_classes][2]``.

    Raises:
        ValueError: those of :py:func:`common_size_bounds`; when no case or patient has that name, or ``num_cases`` lies
            outside 1 .. number of cases.
    """
    if name is None and num_cases is not None:
        if not 1 <= num_cases <= len(data):
            raise ValueError(f"common bounds: num_cases must lie in 1..{len(data)}, got {num_cases}.")
        chosen = list(data[:num_cases])
    else:
        name = data[0]["patient"] if name is None else name
        chosen = [item for item in data if name in (item["case"], item.get("patient"))]
    if not chosen:
        raise ValueError(f"common bounds: no training case or patient is named {name!r}.")
    labels = [transform(item)[label_key] for item in chosen]
    bounds = common_size_bounds(labels, num_classes, lower_factor, upper_factor, per, unit)
    logger.info("common bounds measured from %s: %s %s a %s", [item["case"] for item in chosen], bounds, unit, per)
    return bounds
