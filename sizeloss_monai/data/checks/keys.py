"""Keys of a data list that look like misspelt ones: nothing reads them."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from sizeloss_monai.data.datalists import SECTIONS
from sizeloss_monai.data.findings import Finding, Place

__all__ = ["key_findings"]

_LIST_KEYS = {
    *("name", "description", "labels", "modality", "layout", "seed", "unannotated", "size_bounds", "slice_axis"),
    *SECTIONS,
}
_ITEM_KEYS = {
    *("image", "label", "weak_label", "size_bounds", "tags", "supervision"),
    *("case", "patient", "group"),
}
_BOUNDS_KEYS = {"per", "unit", "source", "bounds"}
_CUTOFF = 0.75
"""The least similarity, of :py:func:`difflib.get_close_matches`: ``tag`` is ``tags``, ``notes`` nothing."""


def key_findings(datalist: Mapping[str, Any]) -> list[Finding]:
    """Keys that are unknown but spelt much like a known one.

    A list may hold any other keys, such as the Decathlon's ``licence``.

    Args:
        datalist: the data list.

    Returns:
        Warnings, on the list, on its ``size_bounds``, and on each case.
    """
    findings = _misspelt(datalist, _LIST_KEYS, None)
    if isinstance(datalist.get("size_bounds"), Mapping):
        findings += _misspelt(datalist["size_bounds"], _BOUNDS_KEYS, None)
    for section in SECTIONS:
        for item in datalist[section]:
            findings += _misspelt(item, _ITEM_KEYS, str(item["case"]))
    return findings


def _misspelt(given: Mapping[str, Any], known: Collection[str], case: str | None) -> list[Finding]:
    """The findings on one object of the list, None being the list itself."""
    findings = []
    for key in given.keys() - known:
        close = difflib.get_close_matches(key.casefold(), known, n=1, cutoff=_CUTOFF)
        if close and close[0] not in given:
            where = Place(case, key)
            findings.append(where.warning("unknown-key", "a key that nothing reads", f"'{close[0]}', perhaps"))
    return findings
