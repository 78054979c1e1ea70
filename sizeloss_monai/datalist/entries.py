"""How a case may be annotated, and what training reads of it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sizeloss_monai.datalist.classes import ClassMap
from sizeloss_monai.errors import DataError, listed
from sizeloss_monai.sizes.bounds import SizeBounds, case_bounds, case_tags, union_bounds

__all__ = ["Annotation", "SUPERVISION", "annotated_items", "annotation_mark", "mark_supervision", "random_key"]

NEEDED = {"full": "label", "weak": "weak_label", "tags": "tags", "bounds": "size_bounds", "none": None}
"""How a case may be annotated: every voxel, some of them, whether a class is there, how large it is, not at all; and
what it must have to be."""

Tag = bool | tuple[int, ...]


@dataclass(frozen=True)
class Annotation:
    """What is known of a case beside annotated voxels, by class of the network.

    Args:
        per: what the bounds hold for, ``"slice"`` or ``"volume"``.
        unit: ``"mm2"``, ``"mL"`` or ``"voxels"`` (of the file).
        bounds: lower and upper bound of every class, ``[num_classes][2]``; ``(0, inf)`` where there is none.
        tags: by class, whether it is in the case, or the slices that hold it; classes of which that is unknown are not
            in it.
        complete: whether every voxel is annotated.
    """

    per: str
    unit: str
    bounds: tuple[tuple[float, float], ...]
    tags: Mapping[int, Tag]
    complete: bool = False


def annotated_items(
    datalist: Mapping[str, Any],
    items: Sequence[Mapping[str, Any]],
    classes: ClassMap,
    per: str = "volume",
    use_masks: bool = False,
    keep_masks: bool = False,
) -> list[dict[str, Any]]:
    """Items with the annotation that each case's mark allows, and no other.

    ==========  =====================================================================
    mark        used of the case
    ==========  =====================================================================
    ``full``    its mask (``label``), every voxel of it
    ``weak``    its scribbles or points (``weak_label``), tags, and size bounds
    ``tags``    tags
    ``bounds``  tags and size bounds
    ``none``    the image alone
    ==========  =====================================================================

    A case without a mark (``supervision``) is ``weak`` where it has a weak label, else ``full`` where it has a mask,
    ``bounds`` where there are size bounds, ``tags`` where it has any, and ``none`` otherwise. So a mask beside a weak
    label is not used, unless ``use_masks`` says so.

    Args:
        datalist: the data list, with absolute paths.
        items: the cases of a section.
        classes: the class of each id of the label files.
        per: what the training's bounds hold for, ``"slice"`` or ``"volume"``; the data list's must be the same.
        use_masks: whether a case without a mark is ``full`` where it has a mask.
        keep_masks: whether items keep ``label``, their mask, to compare predictions with; never for training.

    Returns:
        Items with ``image``, ``weak_label`` (a file, where there is one to use), ``annotation``
        (:class:`Annotation`), ``supervision``, ``case`` and ``patient``.

    Raises:
        DataError: when a mark is unknown or asks for what the case does not have, bounds or tags are not as
            :func:`~sizeloss_monai.sizes.case_bounds` expects or of an unknown id, or bounds are per something else.
    """
    ids = classes.ids_of
    results = []
    for item in items:
        bounds, tags = case_bounds(datalist, item), case_tags(item)
        _check_ids(item, bounds, tags, classes.label_ids)
        if bounds is not None and bounds.per != per:
            raise DataError(
                f"case '{item['case']}', key 'size_bounds': found bounds per {bounds.per}, expected per {per}, as this "
                "training's loss takes them."
            )
        mark = annotation_mark(datalist, item, use_masks)
        if mark not in NEEDED:
            raise DataError(f"case '{item['case']}', key 'supervision': found {mark!r}, expected {', '.join(NEEDED)}.")
        needed = NEEDED[mark]
        if needed and not (bounds if needed == "size_bounds" else item.get(needed)):
            raise DataError(f"case '{item['case']}', key '{needed}': found none, expected some, as it is '{mark}'.")
        file_key = needed if mark in ("full", "weak") else None
        if mark not in ("weak", "bounds") or bounds is None:
            bounds = SizeBounds(per, "mL" if per == "volume" else "mm2")
        if mark in ("full", "none"):
            tags = {}
        keys = ("image", "case", "patient", *(["label"] if keep_masks else []))
        kept = {key: item[key] for key in keys if key in item}
        if file_key:
            kept["weak_label"] = item[file_key]
        annotation = Annotation(
            per,
            bounds.unit,
            tuple(_class_bounds(bounds, tags, ids, class_id) for class_id in range(classes.num_classes)),
            _class_tags(tags, ids),
            complete=mark == "full",
        )
        results.append({**kept, "supervision": mark, "annotation": annotation})
    return results


def annotation_mark(datalist: Mapping[str, Any], item: Mapping[str, Any], use_masks: bool = False) -> str:
    """How a case is annotated: as it says, or as :py:func:`annotated_items` takes one that does not.

    Args:
        datalist: the data list.
        item: one of its cases.
        use_masks: whether a case without a mark is ``full`` where it has a mask.

    Returns:
        The mark; what a case says is returned as it is.
    """
    if item.get("supervision"):
        return item["supervision"]
    if use_masks and item.get("label"):
        return "full"
    if item.get("weak_label"):
        return "weak"
    if item.get("label"):
        return "full"
    if datalist.get("size_bounds") is not None or item.get("size_bounds") is not None:
        return "bounds"
    return "tags" if item.get("tags") else "none"


def _check_ids(
    item: Mapping[str, Any], bounds: SizeBounds | None, tags: Mapping[int, Tag], label_ids: Sequence[int]
) -> None:
    """Raise an error for bounds or tags of an id that label files do not have."""
    for key, found in (("size_bounds", bounds.bounds if bounds else {}), ("tags", tags)):
        unknown = sorted(set(found) - set(label_ids))
        if unknown:
            raise DataError(f"case '{item['case']}', key '{key}': found ids {unknown}, expected {sorted(label_ids)}.")


def _class_bounds(
    bounds: SizeBounds, tags: Mapping[int, Tag], ids: Mapping[int, Sequence[int]], class_id: int
) -> tuple[float, float]:
    """The bounds of a class of the network; ``(0, inf)`` of the background and of one without ids."""
    return union_bounds(bounds, tags, ids[class_id]) if class_id and class_id in ids else (0.0, math.inf)


def _class_tags(tags: Mapping[int, Tag], ids: Mapping[int, Sequence[int]]) -> dict[int, Tag]:
    """The tags of the classes: a class is absent where all its ids are, and present where one of them is."""
    result: dict[int, Tag] = {}
    for class_id in sorted(ids.keys() - {0}):
        of_ids = [tags.get(label_id) for label_id in ids[class_id]]
        if all(tag is not None and tag is not True for tag in of_ids):
            slices = {index for tag in of_ids if isinstance(tag, tuple) for index in tag}
            result[class_id] = tuple(sorted(slices)) if slices else False
        elif any(tag not in (None, False, ()) for tag in of_ids):
            result[class_id] = True
    return result


SUPERVISION = ("full", "weak", "tags")
"""How a case may be annotated: every voxel, some of them, or only whether the target is there."""


def mark_supervision(
    items: Sequence[dict[str, Any]], num_full: int = 0, seed: int = 0, only_full: bool = False
) -> list[dict[str, Any]]:
    """Mark the cases of a data list as ``full``, ``weak`` or ``tags`` under ``supervision``.

    Cases that the list marks keep their mark, others are ``weak``. Of the weak ones ``num_full`` are replaced by fully
    annotated ones (the paper's hybrid training), patient by patient: only of the last patient drawn may a part of the
    scans be taken.

    Args:
        items: cases with ``case`` and ``patient``.
        num_full: number of cases that become ``full`` beside those the list marks so.
        seed: of the order in which patients are drawn; a smaller ``num_full`` gives a subset of a larger one's cases.
        only_full: whether to leave out all that is not ``full``.

    Returns:
        New items, in the order given.

    Raises:
        DataError: when a mark is none of these, there are not as many weak cases, or ``only_full`` leaves none.
    """
    marked = [{**item, "supervision": item.get("supervision", "weak")} for item in items]
    unknown = [f"{item['case']} ({item['supervision']!r})" for item in marked if item["supervision"] not in SUPERVISION]
    if unknown:
        raise DataError(f"supervision must be one of {', '.join(SUPERVISION)}, found other marks: {listed(unknown)}.")
    weak = [item for item in marked if item["supervision"] == "weak"]
    if not 0 <= num_full <= len(weak):
        raise DataError(f"num_full must be between 0 and the number of weak cases, {len(weak)}, found {num_full}.")
    # all scans of a patient come together
    weak.sort(key=lambda item: (random_key("full", seed, item["patient"]), item["case"]))
    for item in weak[:num_full]:
        item["supervision"] = "full"
    chosen = [item for item in marked if item["supervision"] == "full" or not only_full]
    if not chosen:
        raise DataError("only_full leaves no case: none is marked 'full' and num_full is 0.")
    return chosen


def random_key(*parts: object) -> str:
    """A key to sort by for a random order that depends on the names drawn from alone, on every platform.

    Args:
        parts: what the key depends on, such as the seed and the name of what is drawn; their texts count.

    Returns:
        64 hexadecimal digits, the SHA-256 of the parts.
    """
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()
