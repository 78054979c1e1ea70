"""Size bounds and tags as a data list states them, and the one check of bounds."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike

from sizeloss_monai.errors import DataError, Finding, Place
from sizeloss_monai.options import UNIT_OF, Per, Unit

__all__ = [
    "SizeBounds",
    "Tag",
    "bounds_problem",
    "case_bounds",
    "case_tags",
    "check_bounds",
    "is_absent",
    "read_common_bounds",
    "read_own_bounds",
    "read_tags",
    "read_unit",
    "union_bounds",
]

logger = logging.getLogger(__name__)

Tag = bool | tuple[int, ...]
"""Whether a class is in a case, or the slices that hold it."""


def is_absent(tag: Tag | None) -> bool:
    """Whether a tag says that its class is not in the case."""
    return tag in (False, ())


@dataclass(frozen=True)
class SizeBounds:
    """Bounds on the sizes of a case's classes.

    Args:
        per: ``"slice"`` for each slice that has the class, or ``"volume"``.
        unit: ``"mm2"`` of a slice, ``"mL"`` of a volume, or ``"voxels"`` of the file.
        bounds: by id of the label files, lower and upper bound. The upper one may be infinite.
        source: their origin, in words.
    """

    per: Per
    unit: Unit
    bounds: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    source: str = ""


def read_unit(unit: str, per: Per) -> Unit:
    """Check the unit of bounds; the old spelling ``mm`` is read with a warning.

    Raises:
        ValueError: when the unit is unknown, or is not one per slice (``mm2``) or per volume (``mL``).
    """
    allowed = ("voxels", UNIT_OF[per])
    if unit == "mm":
        logger.warning("unit: found the old spelling 'mm', '%s' is taken; write that", UNIT_OF[per])
        return UNIT_OF[per]
    if unit not in allowed:
        raise ValueError(f"unit must be one of {allowed} per {per}, got {unit!r}.")
    return unit  # type: ignore[return-value]


def bounds_problem(lower: float, upper: float) -> str:
    """What a pair of bounds must be and is not; empty where ``0 <= lower <= upper`` and ``lower`` is finite."""
    if not 0 <= lower <= upper:  # a NaN fails, too
        return "0 <= lower <= upper"
    return "0 <= lower < inf" if math.isinf(lower) else ""


def check_bounds(bounds: ArrayLike | torch.Tensor, num_classes: int | None = None, name: str = "size_bounds") -> None:
    """Raise unless every pair of bounds is in order.

    Args:
        bounds: lower and upper bound of every class, ``[C, 2]``, in any unit. An upper bound may be infinite.
        num_classes: `C`; None for any number.
        name: what messages call the bounds.

    Raises:
        DataError: when the shape is wrong, or a pair is not as :py:func:`bounds_problem` wants it.
    """
    expected = f"expected [{'C' if num_classes is None else num_classes}, 2]"
    try:
        array = np.asarray(bounds.detach().cpu() if isinstance(bounds, torch.Tensor) else bounds, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{name}: found no array of numbers, {expected}") from None
    if array.ndim != 2 or array.shape[1] != 2 or num_classes not in (None, len(array)):
        raise DataError(f"{name}: found shape {list(array.shape)}, {expected}")
    problems = [
        f"{name}: found ({lower:g}, {upper:g}) for class {index}, expected {problem}"
        for index, (lower, upper) in enumerate(array.tolist())
        if (problem := bounds_problem(lower, upper))
    ]
    if problems:
        raise DataError("; ".join(problems))


def case_bounds(datalist: Mapping[str, Any], item: Mapping[str, Any]) -> SizeBounds | None:
    """The size bounds of a case: its own, and the list's for all other classes.

    Args:
        datalist: the data list.
        item: one of its cases.

    Returns:
        The bounds; None where neither has any.

    Raises:
        DataError: when they have another form, or a pair is not as :py:func:`bounds_problem` wants it.
    """
    where = Place(item["case"], "size_bounds")
    if datalist.get("size_bounds") is None and item.get("size_bounds") is None:
        return None
    common, findings = read_common_bounds(datalist, where)
    own, own_findings = read_own_bounds(item, where)
    if common is None or findings or own_findings:
        raise _error(findings + own_findings)
    return SizeBounds(common.per, common.unit, {**common.bounds, **own}, common.source)


def case_tags(item: Mapping[str, Any]) -> dict[int, Tag]:
    """The tags of a case, by id of the label files.

    Raises:
        DataError: when they have another form.
    """
    tags, findings = read_tags(item, Place(item["case"], "tags"))
    if findings:
        raise _error(findings)
    return tags


def union_bounds(bounds: SizeBounds, tags: Mapping[int, Tag], ids: Sequence[int]) -> tuple[float, float]:
    """The bounds of a class that consists of one or several ids of the label files.

    The upper bounds add up. The lower ones add up per volume; per slice the smallest counts, since a slice with one of
    the ids need not have the others. Ids that the tags say are absent do not count, unless all are absent.

    Args:
        bounds: of the case. An id without bounds has ``(0, inf)``.
        tags: of the case.
        ids: at least one.

    Returns:
        Lower and upper bound.
    """
    there = [label_id for label_id in ids if not is_absent(tags.get(label_id))] or ids
    lower, upper = zip(*(bounds.bounds.get(label_id, (0.0, math.inf)) for label_id in there), strict=True)
    return (min(lower) if bounds.per == "slice" else sum(lower), sum(upper))


def read_common_bounds(datalist: Mapping[str, Any], where: Place) -> tuple[SizeBounds | None, list[Finding]]:
    """The bounds of the data list that can be used, None without a known unit; and what is wrong, at `where`."""
    common = datalist.get("size_bounds")
    per: Any = common.get("per") if isinstance(common, Mapping) else None
    unit: Any = common.get("unit") if isinstance(common, Mapping) else None
    if not isinstance(common, Mapping) or per not in get_args(Per) or unit not in (UNIT_OF[per], "voxels"):
        expected = (
            "an object whose 'per' and 'unit' are slice and mm2, volume and mL, or either and voxels, such as "
            '{"per": "volume", "unit": "mL", "bounds": {"1": [8, 30]}}'
        )
        return None, [where.error("bounds-form", f"{common!r} for the data list", expected)]
    bounds, findings = _read_bounds(common.get("bounds", {}), where)
    return SizeBounds(per, unit, bounds, str(common.get("source", ""))), findings


def read_own_bounds(item: Mapping[str, Any], where: Place) -> tuple[dict[int, tuple[float, float]], list[Finding]]:
    """A case's own bounds that can be used, by id of the label files; and what is wrong, at `where`."""
    return _read_bounds(item.get("size_bounds") or {}, where)


def read_tags(item: Mapping[str, Any], where: Place) -> tuple[dict[int, Tag], list[Finding]]:
    """The tags of a case that can be used, by id of the label files; and what is wrong, at `where`."""
    given = {} if item.get("tags") is None else item["tags"]
    if not isinstance(given, Mapping):
        return {}, [where.error("tags-form", f"{given!r}", "an object with a class id for each tag")]
    tags: dict[int, Tag] = {}
    findings = []
    for name, tag in given.items():
        if not str(name).isdecimal():
            findings.append(_no_class(name, where))
        elif isinstance(tag, bool):
            tags[int(name)] = tag
        elif isinstance(tag, list) and all(type(index) is int and index >= 0 for index in tag):
            tags[int(name)] = tuple(tag)
        else:
            found = f"{tag!r} for class {name}"
            findings.append(where.error("tags-form", found, "true, false, or a list of slices from 0"))
    return tags, findings


def _read_bounds(given: Any, where: Place) -> tuple[dict[int, tuple[float, float]], list[Finding]]:
    """Bounds by class id, where ``null`` is an upper bound of infinity; and what is wrong with others."""
    if not isinstance(given, Mapping):
        return {}, [where.error("bounds-form", f"{given!r}", "an object such as {'1': [60, 2000]}")]
    bounds, findings = {}, []
    for name, pair in given.items():
        if not str(name).isdecimal():
            findings.append(_no_class(name, where))
            continue
        try:
            if not isinstance(pair, Sequence) or isinstance(pair, str):
                raise TypeError
            lower, upper = (math.inf if bound is None else float(bound) for bound in pair)
        except (TypeError, ValueError):
            findings.append(where.error("bounds-form", f"{pair!r} for class {name}", "[lower, upper]"))
            continue
        if problem := bounds_problem(lower, upper):
            findings.append(where.error("bounds-order", f"[{lower:g}, {upper:g}] for class {name}", problem))
        else:
            bounds[int(name)] = (lower, upper)
    return bounds, findings


def _no_class(name: Any, where: Place) -> Finding:
    """The finding that a key of a JSON object is not an id."""
    return where.error("class-id", f"the class {name!r}", "an id of the label files")


def _error(findings: Sequence[Finding]) -> DataError:
    """An error that holds the findings, a line each."""
    return DataError("\n".join(map(str, findings)))
