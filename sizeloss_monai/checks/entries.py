"""What may be wrong with an entry of a data list."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sizeloss_monai.checks.cases import ANNOTATIONS, CaseFacts
from sizeloss_monai.datalist.classes import Classes
from sizeloss_monai.datalist.entries import MARKS
from sizeloss_monai.datalist.layouts import SECTIONS
from sizeloss_monai.errors import Finding, Place, listed
from sizeloss_monai.sizes.bounds import Tag, read_tags

__all__ = ["key_findings", "supervision_findings", "tag_findings"]

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


def supervision_findings(section: str, item: Mapping[str, Any], datalist: Mapping[str, Any]) -> list[Finding]:
    """How the mark of a case contradicts what the case has.

    Args:
        section: of the data list that the case is in.
        item: the case.
        datalist: the list; its size bounds are every case's.

    Returns:
        Findings on a mark that is unknown, lacks what it needs (a warning where some bundles make it of a full
        annotation) or leaves something unused; and on a training case without a mark that has nothing to learn from.
    """
    where = Place(str(item["case"]), "supervision")
    own = {key for key in ("label", "weak_label", "tags", "size_bounds") if item.get(key)}
    has = own | ({"size_bounds"} if datalist.get("size_bounds") else set())
    mark = item.get("supervision")
    if mark is None:
        if section == "training" and not has:
            expected = "one of label, weak_label, tags and size_bounds, or 'supervision': 'none'"
            return [where.warning("no-supervision", "nothing to learn from", expected)]
        return []
    if not isinstance(mark, str) or mark not in MARKS:
        return [where.error("supervision-mark", repr(mark), f"one of {listed(sorted(MARKS))}")]
    needs, uses, simulated = MARKS[mark]
    if needs and needs not in has:
        if simulated and "label" in has:
            expected = (
                f"{needs} for cardiac_scribble_segmentation, which refuses the case otherwise; the other bundles make "
                "it of the label"
            )
            return [where.warning("supervision-simulated", f"'{mark}', but no {needs}", expected)]
        wanted = f"{needs} or label" if simulated and needs != "label" else needs
        return [where.error("supervision-conflict", f"'{mark}', but no {wanted}", f"{wanted}, or another mark")]
    unused = [key for key in ("weak_label", "tags", "size_bounds") if key in own and key not in uses and mark != "full"]
    if unused:
        found = f"'{mark}', which leaves {' and '.join(unused)} unused"
        return [where.warning("supervision-conflict", found, "a mark that uses them, or a case without them")]
    return []


def tag_findings(facts: CaseFacts, classes: Classes) -> list[Finding]:
    """What is wrong with the tags of a case.

    A tag that is false rules out voxels of its class in every slice, a list of slices in the other slices, in both
    kinds of annotation. A tag that is true, or a list of slices, asks a full annotation for voxels, not a weak one.

    Args:
        facts: of the case.
        classes: of the data list.

    Returns:
        Findings on the form of the tags, on classes and slices that do not exist, on contradictions, and on tags of the
        background, which training does not use.
    """
    where = Place(facts.case, "tags")
    tags, findings = read_tags(facts.item, where)
    for class_id, tag in tags.items():
        unknown = classes.unknown(class_id, where)
        findings += unknown
        if class_id == classes.background:
            expected = "tags of targets only: these are not used"
            findings.append(where.warning("tag-unused", f"a tag for {classes.shown(class_id)}", expected))
        if unknown or facts.grid is None:
            continue
        beyond = [] if isinstance(tag, bool) else [i for i in sorted(set(tag)) if i >= facts.num_slices]
        if beyond:
            expected = f"slices 0 to {facts.num_slices - 1}"
            found = f"{_slices(beyond)} for {classes.shown(class_id)}"
            findings.append(where.error("tag-slice", found, expected))
            continue
        for key in ANNOTATIONS:
            count = facts.count(key, class_id)
            if count is not None:
                findings += _contradictions(tag, count, key, where, classes.shown(class_id))
    return findings


def _contradictions(tag: Tag, count: NDArray[np.int64], key: str, where: Place, name: str) -> list[Finding]:
    """How a tag contradicts the number of voxels of its class in each slice of an annotation."""
    if tag is True:
        if key == "label" and not count.any():
            return [
                where.error("tag-conflict", f"true for {name}, but no voxel of it in '{key}'", "false, or voxels of it")
            ]
        return []
    if not tag:
        if count.any():
            found = f"{'false' if tag is False else 'no slice'} for {name}, but {count.sum()} voxels of it in '{key}'"
            return [where.error("tag-conflict", found, "true, or no such voxel")]
        return []
    findings = []
    tagged = set(tag)
    outside = [int(i) for i in np.flatnonzero(count) if i not in tagged]
    if outside:
        found = f"{_slices(sorted(tagged))} for {name}, but voxels of it in {_slices(outside)} of '{key}'"
        findings.append(where.error("tag-conflict", found, "all slices that hold the class"))
    empty = [i for i in sorted(tagged) if not count[i]]
    if key == "label" and empty:
        found = f"{_slices(sorted(tagged))} for {name}, but no voxel of it in {_slices(empty)} of '{key}'"
        findings.append(where.error("tag-conflict", found, "only slices that hold the class"))
    return findings


def _slices(indices: list[int]) -> str:
    """Indices of slices for a message."""
    return f"slice{'s' if len(indices) > 1 else ''} {listed([str(index) for index in indices])}"
