"""Tags of a case against its annotations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sizeloss_monai.data.annotations import read_tags
from sizeloss_monai.data.checks.classes import Classes
from sizeloss_monai.data.checks.facts import ANNOTATIONS, CaseFacts
from sizeloss_monai.data.findings import Finding, Place, listed

__all__ = ["tag_findings"]


def tag_findings(facts: CaseFacts, classes: Classes) -> list[Finding]:
    """What is wrong with the tags of a case.

    A tag that is false, or a list of slices, rules out voxels of its class in all or in the other slices, of either
    kind of annotation. A tag that is true, or a list of slices, asks a full annotation for voxels; a weak one need
    not have any.

    Args:
        facts: of the case.
        classes: of the data list.

    Returns:
        Findings on the form of the tags, on classes and slices that do not exist, on contradictions, and on tags of the
        background, which nothing reads.
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


def _contradictions(
    tag: bool | tuple[int, ...], count: NDArray[np.int64], key: str, where: Place, name: str
) -> list[Finding]:
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
