"""How a case may be annotated, and what training reads of it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sizeloss_monai.datalist.classes import ClassMap
from sizeloss_monai.errors import DataError, listed
from sizeloss_monai.options import UNIT_OF, Per, Unit
from sizeloss_monai.sizes.bounds import SizeBounds, Tag, case_bounds, case_tags, is_absent, union_bounds

__all__ = ["MARKS", "Annotation", "Mark", "annotated_items", "annotation_mark", "mark_supervision", "random_key"]

Mark = Literal["full", "weak", "tags", "bounds", "none"]
"""How a case is annotated: every voxel, some of them, whether a class is there, how large it is, or not at all."""


class _Use(NamedTuple):
    """What a mark means.

    Args:
        needs: the key that a case must have; None for none.
        uses: the keys that training reads.
        simulated: whether a bundle may make the annotation of the full mask; see :py:func:`mark_supervision`.
    """

    needs: str | None
    uses: tuple[str, ...]
    simulated: bool


MARKS: dict[Mark, _Use] = {
    "full": _Use("label", ("label",), True),
    "weak": _Use("weak_label", ("weak_label", "tags", "size_bounds"), True),
    "tags": _Use("tags", ("tags",), True),
    "bounds": _Use("size_bounds", ("tags", "size_bounds"), False),
    "none": _Use(None, (), False),
}
"""How a case may be annotated (its key ``supervision``)."""


@dataclass(frozen=True)
class Annotation:
    """What is known of a case beside annotated voxels, by class of the network.

    Args:
        per: what the bounds hold for, ``"slice"`` or ``"volume"``.
        unit: ``"mm2"``, ``"mL"`` or ``"voxels"`` (of the file).
        bounds: lower and upper bound of every class, ``[num_classes][2]``; ``(0, inf)`` without bounds.
        tags: by class, whether it is in the case, or the slices that hold it. A class has no entry where that is not
            known.
        complete: whether every voxel is annotated.
    """

    per: Per
    unit: Unit
    bounds: tuple[tuple[float, float], ...]
    tags: Mapping[int, Tag]
    complete: bool = False


def annotated_items(
    datalist: Mapping[str, Any],
    items: Sequence[Mapping[str, Any]],
    classes: ClassMap,
    per: Per = "volume",
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

    A case without a mark (``supervision``) is ``weak`` if it has a weak label, else ``full`` if it has a mask,
    ``bounds`` if there are size bounds, ``tags`` if it has any, and ``none`` otherwise. So a mask beside a weak
    label is not used, unless ``use_masks`` says so.

    Args:
        datalist: the data list, with absolute paths.
        items: the cases of a section.
        classes: the class of each id of the label files.
        per: what the training's bounds hold for. The data list's must hold for the same.
        use_masks: whether a case without a mark is ``full`` if it has a mask.
        keep_masks: whether items keep ``label``, their mask, to compare predictions with; never for training.

    Returns:
        Items with ``image``, ``weak_label`` (a file, where there is one to use), ``annotation``
        (:class:`Annotation`), ``supervision``, ``case`` and ``patient``.

    Raises:
        DataError: when a mark is unknown or needs what the case lacks, bounds or tags have another form (see
            :func:`~sizeloss_monai.sizes.case_bounds`) or an unknown id, or bounds hold per something else.
    """
    ids = classes.ids_of
    results = []
    for item in items:
        where = f"case '{item['case']}', key"
        bounds, tags = case_bounds(datalist, item), case_tags(item)
        for key, known in (("size_bounds", bounds.bounds if bounds else {}), ("tags", tags)):
            if unknown := sorted(set(known) - set(classes.label_ids)):
                raise DataError(f"{where} '{key}': found ids {unknown}, expected {sorted(classes.label_ids)}.")
        if bounds is not None and bounds.per != per:
            raise DataError(
                f"{where} 'size_bounds': found bounds per {bounds.per}, expected per {per}, as this training's loss "
                "takes them."
            )
        mark = annotation_mark(datalist, item, use_masks)
        if mark not in MARKS:
            raise DataError(f"{where} 'supervision': found {mark!r}, expected {', '.join(MARKS)}.")
        needs, uses, _ = MARKS[mark]
        if needs and not (bounds if needs == "size_bounds" else item.get(needs)):
            raise DataError(f"{where} '{needs}': found none, expected some, as it is '{mark}'.")
        if bounds is None or "size_bounds" not in uses:
            bounds = SizeBounds(per, UNIT_OF[per])
        if "tags" not in uses:
            tags = {}
        keys = ("image", "case", "patient", *(["label"] if keep_masks else []))
        kept = {key: item[key] for key in keys if key in item}
        for key in {"label", "weak_label"} & set(uses):
            kept["weak_label"] = item[key]
        annotation = Annotation(
            per,
            bounds.unit,
            tuple(
                union_bounds(bounds, tags, ids[class_id]) if class_id and class_id in ids else (0.0, math.inf)
                for class_id in range(classes.num_classes)
            ),
            _class_tags(tags, ids),
            complete=mark == "full",
        )
        results.append({**kept, "supervision": mark, "annotation": annotation})
    return results


def annotation_mark(datalist: Mapping[str, Any], item: Mapping[str, Any], use_masks: bool = False) -> str:
    """How a case is annotated: its mark, whatever that is, or what :py:func:`annotated_items` says without one."""
    if item.get("supervision"):
        return item["supervision"]
    if item.get("label") and (use_masks or not item.get("weak_label")):
        return "full"
    if item.get("weak_label"):
        return "weak"
    if datalist.get("size_bounds") is not None or item.get("size_bounds") is not None:
        return "bounds"
    return "tags" if item.get("tags") else "none"


def _class_tags(tags: Mapping[int, Tag], ids: Mapping[int, Collection[int]]) -> dict[int, Tag]:
    """The tags of the classes: a class is absent if all its ids are, and present if one of them is."""
    result: dict[int, Tag] = {}
    for class_id in sorted(ids.keys() - {0}):
        of_ids = [tags.get(label_id) for label_id in ids[class_id]]
        if all(tag is not None and tag is not True for tag in of_ids):
            slices = {index for tag in of_ids if isinstance(tag, tuple) for index in tag}
            result[class_id] = tuple(sorted(slices)) if slices else False
        elif any(tag is not None and not is_absent(tag) for tag in of_ids):
            result[class_id] = True
    return result


def mark_supervision(
    items: Sequence[dict[str, Any]], num_full: int = 0, seed: int = 0, only_full: bool = False
) -> list[dict[str, Any]]:
    """Mark the cases of a data list as ``full``, ``weak`` or ``tags`` under ``supervision``.

    Cases keep their mark; those without one are ``weak``. Of the weak ones ``num_full`` become ``full`` (the paper's
    hybrid training), patient by patient: only the last patient drawn may have scans of both kinds.

    Args:
        items: cases with ``case`` and ``patient``.
        num_full: number of weak cases that become ``full``.
        seed: of the order in which patients are drawn. A smaller ``num_full`` gives a subset of a larger one's cases.
        only_full: whether to leave out all other cases.

    Returns:
        New items, in the order given.

    Raises:
        DataError: when a mark is none of these, there are fewer weak cases, or ``only_full`` leaves none.
    """
    allowed = [mark for mark, use in MARKS.items() if use.simulated]
    marked = [{**item, "supervision": item.get("supervision", "weak")} for item in items]
    unknown = [f"{item['case']} ({item['supervision']!r})" for item in marked if item["supervision"] not in allowed]
    if unknown:
        raise DataError(f"supervision must be one of {', '.join(allowed)}, got other marks: {listed(unknown)}.")
    weak = [item for item in marked if item["supervision"] == "weak"]
    if not 0 <= num_full <= len(weak):
        raise DataError(f"num_full must lie in 0..{len(weak)}, the number of weak cases, got {num_full}.")
    # all scans of a patient come together
    weak.sort(key=lambda item: (random_key("full", seed, item["patient"]), item["case"]))
    for item in weak[:num_full]:
        item["supervision"] = "full"
    chosen = [item for item in marked if item["supervision"] == "full" or not only_full]
    if not chosen:
        raise DataError("only_full leaves no case: none is marked 'full' and num_full is 0.")
    return chosen


def random_key(*parts: object) -> str:
    """A key to sort by for a random order: SHA-256 of the texts of the parts, such as a seed and a name.

    The order is the same on every platform, and does not change for other names that come or go.
    """
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()
