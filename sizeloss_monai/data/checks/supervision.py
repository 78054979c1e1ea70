"""The supervision mark of a case against what the case has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sizeloss_monai.data.findings import Finding, Place, listed

__all__ = ["supervision_findings"]

_NEEDS: dict[str, tuple[str, ...]] = {
    "full": ("label",),
    "weak": ("weak_label", "label"),
    "tags": ("tags", "label"),
    "bounds": ("size_bounds",),
    "none": (),
}
"""What a case must have one of, by its mark: the first of them for :py:func:`~sizeloss_monai.data.annotated_items`, any
for :py:func:`~sizeloss_monai.data.mark_supervision`, after which weak labels and tags are made of the mask."""

_UNUSED: dict[str, tuple[str, ...]] = {
    "tags": ("weak_label", "size_bounds"),
    "bounds": ("weak_label",),
    "none": ("weak_label", "tags", "size_bounds"),
}
"""What a person gave for nothing, by the mark; see :py:func:`sizeloss_monai.data.annotated_items`."""


def supervision_findings(section: str, item: Mapping[str, Any], datalist: Mapping[str, Any]) -> list[Finding]:
    """How the mark of a case contradicts what it has.

    Args:
        section: of the data list that the case is in.
        item: the case.
        datalist: the list, whose size bounds are every case's.

    Returns:
        Findings on a mark that is unknown, lacks what it needs (a warning where some bundles make it of a full
        annotation) or leaves something unused, and on a training case without a mark and without anything to learn
        from.
    """
    where = Place(str(item["case"]), "supervision")
    has = {key for key in ("label", "weak_label", "tags", "size_bounds") if item.get(key)}
    own = sorted(has)
    if datalist.get("size_bounds"):
        has.add("size_bounds")
    mark = item.get("supervision")
    if mark is None:
        if section == "training" and not has:
            expected = "one of label, weak_label, tags and size_bounds, or 'supervision': 'none'"
            return [where.warning("no-supervision", "nothing to learn from", expected)]
        return []
    if not isinstance(mark, str) or mark not in _NEEDS:
        return [where.error("supervision-mark", repr(mark), f"one of {listed(sorted(_NEEDS))}")]
    needs = _NEEDS[mark]
    if needs and not has & set(needs):
        wanted = " or ".join(needs)
        return [where.error("supervision-conflict", f"'{mark}', but no {wanted}", f"{wanted}, or another mark")]
    if needs and needs[0] not in has:
        expected = (
            f"{needs[0]} for cardiac_scribble_segmentation, which refuses the case otherwise; the other bundles make "
            "it of the label"
        )
        return [where.warning("supervision-simulated", f"'{mark}', but no {needs[0]}", expected)]
    unused = [key for key in _UNUSED.get(mark, ()) if key in own]
    if unused:
        found = f"'{mark}', which leaves {' and '.join(unused)} unused"
        return [where.warning("supervision-conflict", found, "a mark that uses them, or a case without them")]
    return []
