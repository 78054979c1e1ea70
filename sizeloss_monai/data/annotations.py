"""What a data list says of its cases beside their files: size bounds, tags, and which id means "not annotated".

.. code-block:: json

    {"labels": {"0": "background", "1": "right ventricle", "2": "myocardium", "3": "left ventricle cavity"},
     "unannotated": 4,
     "size_bounds": {"per": "volume", "unit": "mL", "source": "...", "bounds": {"1": [40, 250], "3": [30, null]}},
     "training": [
        {"image": "a.nii.gz", "weak_label": "a_scribble.nii.gz", "tags": {"3": [2, 3, 4], "1": true}},
        {"image": "b.nii.gz", "label": "b_mask.nii.gz"},
        {"image": "c.nii.gz", "size_bounds": {"3": [90, 130]}, "tags": {"1": false}}]}

Classes go by the ids of the label files. A case's own ``size_bounds`` take the place of the list's, class by class, in
the list's unit. A tag says whether a class is in the case (``true``, ``false``), or in which slices, counted from 0
along the axis of widest spacing; it is then in no other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sizeloss_monai.data.checks import DataError

__all__ = ["SizeBounds", "case_bounds", "case_tags"]

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
    common, own = datalist.get("size_bounds"), item.get("size_bounds")
    if common is None and own is None:
        return None
    where = f"case '{item['case']}', key 'size_bounds'"
    if not isinstance(common, Mapping) or common.get("unit") not in UNITS.get(str(common.get("per")), ()):
        raise DataError(
            f"{where}: found {common!r} for the data list, expected an object whose 'per' and 'unit' are "
            "slice and mm2, volume and mL, or either and voxels."
        )
    bounds = {**_read_bounds(common.get("bounds", {}), where), **_read_bounds(own or {}, where)}
    return SizeBounds(common["per"], common["unit"], bounds, str(common.get("source", "")))


def case_tags(item: Mapping[str, Any]) -> dict[int, bool | tuple[int, ...]]:
    """The tags of a case.

    Args:
        item: a case of a data list.

    Returns:
        By id of the label files: whether the class is there, or the slices that hold it.

    Raises:
        DataError: when they are of another form.
    """
    tags: dict[int, bool | tuple[int, ...]] = {}
    given = item.get("tags", {})
    where = f"case '{item['case']}', key 'tags'"
    if not isinstance(given, Mapping):
        raise DataError(f"{where}: found {given!r}, expected an object with a class id for each tag.")
    for name, tag in given.items():
        if isinstance(tag, bool):
            tags[_class_id(name, where)] = tag
        elif isinstance(tag, list) and all(type(index) is int and index >= 0 for index in tag):
            tags[_class_id(name, where)] = tuple(tag)
        else:
            raise DataError(f"{where}: found {tag!r} for class {name}, expected true, false, or a list of slices.")
    return tags


def _read_bounds(given: Any, where: str) -> dict[int, tuple[float, float]]:
    """Bounds by class id; ``null`` is an upper bound of infinity."""
    if not isinstance(given, Mapping):
        raise DataError(f"{where}: found {given!r}, expected an object such as {{'1': [60, 2000]}}.")
    bounds = {}
    for name, pair in given.items():
        try:
            lower, upper = (float("inf") if bound is None else float(bound) for bound in pair)
        except (TypeError, ValueError):
            raise DataError(f"{where}: found {pair!r} for class {name}, expected [lower, upper].") from None
        if not 0 <= lower <= upper or math.isinf(lower):
            raise DataError(f"{where}: found [{lower:g}, {upper:g}] for class {name}, expected 0 <= lower <= upper.")
        bounds[_class_id(name, where)] = (lower, upper)
    return bounds


def _class_id(name: Any, where: str) -> int:
    """The id of a class that is a key of a JSON object."""
    if not str(name).isdecimal():
        raise DataError(f"{where}: found the class {name!r}, expected an id of the label files.")
    return int(name)
