"""Sizes of annotated cases, and the bounds that follow from them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import Any

import numpy as np
from monai.data import MetaTensor
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sizeloss_monai.data.grid import Grid
from sizeloss_monai.data.label_ids import whole_ids
from sizeloss_monai.data.slice_axis import SliceAxis, slice_axis_of
from sizeloss_monai.data.volumes import label_findings, read_volume
from sizeloss_monai.errors import DataError, Finding, Place
from sizeloss_monai.transforms.size_bounds import common_size_bounds

__all__ = [
    "CaseSizes",
    "METHODS",
    "count_outside",
    "leave_one_out",
    "measure_common_bounds",
    "measure_grid",
    "measure_sizes",
    "round_outward",
    "size_interval",
]

METHODS = ("range", "quantile", "lognormal")
"""How bounds may be made from sizes; see :py:func:`size_interval`."""

MIN_SIZES = {"range": 1, "quantile": 1, "lognormal": 2}
"""The number of sizes that each method needs."""


TOLERANCE = 1e-9
"""Relative difference of two sizes that counts as none: what floating-point numbers make of products of spacings."""


def size_interval(
    sizes: ArrayLike, method: str = "lognormal", coverage: float = 0.95, margin: float = 1.0
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
    log-normal; with 2 or 3 it is then very wide. Slices of one volume, or phases of one patient, are not independent:
    it then covers less, as :py:func:`leave_one_out` or other cases tell.

    Args:
        sizes: of one class, all positive, ``[n]``.
        method: one of :py:data:`METHODS`.
        coverage: of ``"quantile"`` and ``"lognormal"``, between 0 and 1.
        margin: what to divide the lower bound and multiply the upper bound by, at least 1.

    Returns:
        Lower and upper bound in the unit of the sizes.

    Raises:
        ValueError: when an argument is out of range or there are too few sizes: none, or fewer than two for
            ``"lognormal"``.
    """
    values = np.asarray(sizes, dtype=np.float64).ravel()
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, found {method!r}.")
    if not 0 < coverage < 1:
        raise ValueError(f"coverage must lie between 0 and 1, found {coverage:g}.")
    if not 1 <= margin < float("inf"):
        raise ValueError(f"margin must be at least 1, found {margin:g}.")
    if len(values) < MIN_SIZES[method]:
        raise ValueError(f"method {method!r} needs at least {MIN_SIZES[method]} sizes, found {len(values)}.")
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
    """How many sizes are below the lower or above the upper bound, by more than a billionth of it.

    Args:
        sizes: of one class, ``[n]``.
        bounds: lower and upper bound in the same unit.

    Returns:
        A number from 0 to `n`.
    """
    values = np.asarray(sizes, dtype=np.float64)
    return int(((values < bounds[0] * (1 - TOLERANCE)) | (values > bounds[1] * (1 + TOLERANCE))).sum())


def leave_one_out(
    groups: Sequence[ArrayLike], method: str = "lognormal", coverage: float = 0.95, margin: float = 1.0
) -> tuple[int, int]:
    """How many sizes fall outside the bounds that the other groups give.

    Args:
        groups: sizes of one class, those of one patient together, since they are alike: ``[n_i]`` each.
        method: see :py:func:`size_interval`.
        coverage: likewise.
        margin: likewise.

    Returns:
        The number of sizes outside, and the number tested: none where the others are too few to give bounds.
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
    """Round bounds for a file without excluding anything that they allow, up to the tolerance of `count_outside`.

    Args:
        bounds: lower and upper bound, the latter may be infinite.
        digits: significant decimal digits, at least 1.

    Returns:
        The lower bound rounded down, the upper one up.
    """
    # 1.1 * 16.8 is a little more than 18.48, and should not become 18.49
    exact = Context(prec=12)
    lower, upper = (exact.create_decimal_from_float(bound) for bound in bounds)
    down, up = Context(prec=digits, rounding=ROUND_FLOOR), Context(prec=digits, rounding=ROUND_CEILING)
    return float(down.plus(lower)), float(up.plus(upper))


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


logger = logging.getLogger(__name__)


def measure_common_bounds(
    data: Sequence[dict[str, Any]],
    transform: Callable[[Any], Any],
    num_classes: int,
    name: str | None = None,
    label_key: str = "label",
    lower_factor: float = 0.9,
    upper_factor: float = 1.1,
    num_cases: int | None = None,
    slice_wise: bool = True,
    unit: str = "voxels",
) -> list[list[float]]:
    """Common bounds measured from one named case, all cases of one named patient, or the first few cases, as the
    network sees them.

    Args:
        data: the training cases; of these only the named ones are read.
        transform: what prepares a case for training, so that bounds are in voxels of what the network sees.
        num_classes: including the background.
        name: of a case or a patient; None for the first ones, as ``num_cases`` says.
        label_key: key of the full annotation.
        lower_factor: times the smallest size of a positive slice (or volume).
        upper_factor: times the largest one.
        num_cases: where there is no name, the number of cases, the first ones; None for the first patient's.
        slice_wise: whether the bounds are those of slices, otherwise of whole volumes, whose sizes need several cases.
        unit: ``"voxels"``, or ``"mm"`` for mm² a slice (or mL a volume).

    Returns:
        ``[num_classes][2]`` bounds in that unit a slice (or volume).

    Raises:
        ValueError: when no case or patient has that name, ``num_cases`` is not among 1 and the number of cases, or a
            class is in none of the slices (or volumes).
    """
    if name is None and num_cases is not None:
        if not 1 <= num_cases <= len(data):
            raise ValueError(f"common bounds: num_cases must lie in 1..{len(data)}, found {num_cases}.")
        chosen = list(data[:num_cases])
    else:
        name = data[0]["patient"] if name is None else name
        chosen = [item for item in data if name in (item["case"], item.get("patient"))]
    if not chosen:
        raise ValueError(f"common bounds: no training case or patient is named {name!r}.")
    labels = [transform(item)[label_key] for item in chosen]
    bounds = common_size_bounds(labels, num_classes, lower_factor, upper_factor, slice_wise, unit)
    scope = "slice" if slice_wise else "volume"
    logger.info("common bounds measured from %s: %s %s a %s", [item["case"] for item in chosen], bounds, unit, scope)
    return bounds
