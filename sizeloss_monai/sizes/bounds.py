"""Size bounds and tags as a data list says them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from sizeloss_monai.errors import DataError, Finding, Place

__all__ = [
    "SizeBounds",
    "case_bounds",
    "case_tags",
    "check_bounds",
    "read_common_bounds",
    "read_own_bounds",
    "read_tags",
    "union_bounds",
]

UNITS = {"slice": ("mm2", "voxels"), "volume": ("mL", "voxels")}
"""The units that bounds per slice and per volume may have."""


@dataclass(frozen=True)
class SizeBounds:
    """Bounds on the sizes of a case's classes.

    Args:
        per: what they hold for, ``"slice"`` (each slice that has the class) or ``"volume"``.
        unit: ``"mm2"`` of a slice, ``"mL"`` of a volume, or ``"voxels"`` of the file.
        bounds: by id of the label files, lower and upper bound; the latter may be infinite.
        source: where they come from.
    """

    per: str
    unit: str
    bounds: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    source: str = ""


def case_bounds(datalist: Mapping[str, Any], item: Mapping[str, Any]) -> SizeBounds | None:
    """The size bounds of a case: its own, and the list's for all other classes.

    Args:
        datalist: the data list.
        item: one of its cases.

    Returns:
        The bounds, or None where neither has any.

    Raises:
        DataError: when they are not of the form above, or a bound is negative, NaN, or above its upper one.
    """
    where = Place(item["case"], "size_bounds")
    if datalist.get("size_bounds") is None and item.get("size_bounds") is None:
        return None
    common, findings = read_common_bounds(datalist, where)
    own, own_findings = read_own_bounds(item, where)
    if common is None or findings or own_findings:
        raise _error(findings + own_findings)
    return SizeBounds(common.per, common.unit, {**common.bounds, **own}, common.source)


def case_tags(item: Mapping[str, Any]) -> dict[int, bool | tuple[int, ...]]:
    """The tags of a case.

    Args:
        item: a case of a data list.

    Returns:
        By id of the label files: whether the class is there, or the slices that hold it.

    Raises:
        DataError: when they are of another form.
    """
    tags, findings = read_tags(item, Place(item["case"], "tags"))
    if findings:
        raise _error(findings)
    return tags


def union_bounds(
    bounds: SizeBounds, tags: Mapping[int, bool | tuple[int, ...]], ids: Sequence[int]
) -> tuple[float, float]:
    """The bounds of a class that one id of the label files or several stand for.

    Of a volume both are sums. Of a slice only the upper one is: a slice that has one of the ids need not have the
    others, so the lower bound is the least of theirs. Ids that are known to be absent do not count.

    Args:
        bounds: of the case; of an id without bounds ``(0, inf)``.
        tags: of the case.
        ids: at least one.

    Returns:
        Lower and upper bound. Where all ids are absent, those of the ids nevertheless.
    """
    there = [label_id for label_id in ids if tags.get(label_id) not in (False, ())] or ids
    lower, upper = zip(*(bounds.bounds.get(label_id, (0.0, math.inf)) for label_id in there), strict=True)
    return (min(lower) if bounds.per == "slice" else sum(lower), sum(upper))


def read_common_bounds(datalist: Mapping[str, Any], where: Place) -> tuple[SizeBounds | None, list[Finding]]:
    """The bounds of the data list, and what is wrong with them.

    Args:
        datalist: the data list.
        where: what to call the place of the findings.

    Returns:
        The bounds that can be used, None where the unit is not known; and the findings.
    """
    common = datalist.get("size_bounds")
    if not isinstance(common, Mapping) or common.get("unit") not in UNITS.get(str(common.get("per")), ()):
        expected = (
            "an object whose 'per' and 'unit' are slice and mm2, volume and mL, or either and voxels, such as "
            '{"per": "volume", "unit": "mL", "bounds": {"1": [8, 30]}}'
        )
        return None, [where.error("bounds-form", f"{common!r} for the data list", expected)]
    bounds, findings = _read_bounds(common.get("bounds", {}), where)
    return SizeBounds(common["per"], common["unit"], bounds, str(common.get("source", ""))), findings


def read_own_bounds(item: Mapping[str, Any], where: Place) -> tuple[dict[int, tuple[float, float]], list[Finding]]:
    """The bounds of a case alone, and what is wrong with them.

    Args:
        item: a case of a data list.
        where: what to call the place of the findings.

    Returns:
        Lower and upper bound by id of the label files, as far as they can be used; and the findings.
    """
    return _read_bounds(item.get("size_bounds") or {}, where)


def read_tags(item: Mapping[str, Any], where: Place) -> tuple[dict[int, bool | tuple[int, ...]], list[Finding]]:
    """The tags of a case, and what is wrong with them.

    Args:
        item: a case of a data list.
        where: what to call the place of the findings.

    Returns:
        The tags of :py:func:`case_tags`, as far as they can be used; and the findings.
    """
    given = {} if item.get("tags") is None else item["tags"]
    if not isinstance(given, Mapping):
        return {}, [where.error("tags-form", f"{given!r}", "an object with a class id for each tag")]
    tags: dict[int, bool | tuple[int, ...]] = {}
    findings = []
    for name, tag in given.items():
        if not str(name).isdecimal():
            findings.append(_no_class(name, where))
        elif isinstance(tag, bool):
            tags[int(name)] = tag
        elif isinstance(tag, list) and all(type(index) is int and index >= 0 for index in tag):
            tags[int(name)] = tuple(tag)
        else:
            findings.append(
                where.error("tags-form", f"{tag!r} for class {name}", "true, false, or a list of slices from 0")
            )
    return tags, findings


def _read_bounds(given: Any, where: Place) -> tuple[dict[int, tuple[float, float]], list[Finding]]:
    """Bounds by class id, ``null`` being an upper bound of infinity; and what is wrong with others."""
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
            lower, upper = (float("inf") if bound is None else float(bound) for bound in pair)
        except (TypeError, ValueError):
            findings.append(where.error("bounds-form", f"{pair!r} for class {name}", "[lower, upper]"))
            continue
        if not 0 <= lower <= upper or math.isinf(lower):
            found = f"[{lower:g}, {upper:g}] for class {name}"
            findings.append(where.error("bounds-order", found, "0 <= lower <= upper"))
            continue
        bounds[int(name)] = (lower, upper)
    return bounds, findings


def _no_class(name: Any, where: Place) -> Finding:
    """The finding that a key of a JSON object is no id."""
    return where.error("class-id", f"the class {name!r}", "an id of the label files")


def _error(findings: Sequence[Finding]) -> DataError:
    """An error that holds the findings, a line each."""
    return DataError("\n".join(map(str, findings)))


def check_bounds(bounds: ArrayLike | torch.Tensor, num_classes: int | None = None, name: str = "size_bounds") -> None:
    """Check bounds of sizes.

    Args:
        bounds: lower and upper bound of every class, ``[C, 2]`` in any unit; an upper bound may be infinite.
        num_classes: `C`, or ``None`` for any number.
        name: what to call the bounds in the message.

    Raises:
        DataError: if the shape is wrong, a bound is NaN or negative, a lower bound is infinite or greater than its
            upper bound.
    """
    problems = _problems(bounds, num_classes)
    if problems:
        raise DataError("; ".join(f"{name}: {problem}" for problem in problems))


def _problems(bounds: Any, num_classes: int | None) -> list[str]:
    """What is wrong with bounds."""
    try:
        array = np.asarray(bounds.detach().cpu() if isinstance(bounds, torch.Tensor) else bounds, dtype=np.float64)
    except (TypeError, ValueError):
        return ["found no array of numbers, expected [C, 2]"]
    if array.ndim != 2 or array.shape[1] != 2 or num_classes not in (None, len(array)):
        return [f"found shape {list(array.shape)}, expected [{'C' if num_classes is None else num_classes}, 2]"]
    problems = []
    for index, (lower, upper) in enumerate(array.tolist()):
        found = f"found ({lower:g}, {upper:g}) for class {index}, expected "
        if np.isnan(lower) or np.isnan(upper):
            problems.append(found + "numbers")
        elif lower < 0 or upper < 0 or np.isinf(lower):
            problems.append(found + "0 <= lower < inf and upper >= 0")
        elif lower > upper:
            problems.append(found + "lower <= upper")
    return problems
