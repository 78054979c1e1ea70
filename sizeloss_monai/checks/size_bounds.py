"""Size bounds of a data list against its images, tags and annotations."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sizeloss_monai.checks.cases import CaseFacts
from sizeloss_monai.data.grid import Grid
from sizeloss_monai.datalist.classes import Classes
from sizeloss_monai.errors import Finding, Place, listed
from sizeloss_monai.options import Per, Unit
from sizeloss_monai.sizes.bounds import SizeBounds, Tag, read_common_bounds, read_own_bounds, read_tags

__all__ = ["bounds_findings"]

_KEY = "size_bounds"
_LIST = Place(None, _KEY)
_ROUNDING = 1 + 1e-6
"""By how much a size may exceed its bound: both are sums of rounded numbers."""

_Problem = Literal["infeasible", "vacuous", "too-wide"]


def bounds_findings(
    datalist: Mapping[str, Any],
    cases: Sequence[CaseFacts],
    classes: Classes,
    background_ids: Collection[int] | None = None,
) -> list[Finding]:
    """What is wrong with size bounds.

    Errors are bounds of another form, a lower bound above the size of the image, an upper bound below the size of what
    is annotated, and a case's own bounds that contradict its tags or its full annotation. Warnings are bounds that rule
    nothing out, bounds of the background, upper bounds above the size of the image, and full annotations outside the
    list's bounds. A problem that the list's bounds have in the images of many cases is one finding.

    Args:
        datalist: the data list.
        cases: what is known of its cases.
        classes: of the data list.
        background_ids: the ids that a training makes background; by default the one with that name.
    """
    given = datalist.get(_KEY)
    common, findings = (None, []) if given is None else read_common_bounds(datalist, _LIST)
    if background_ids is None:
        background_ids = () if classes.background is None else (classes.background,)
    for class_id in common.bounds if common else ():
        findings += classes.unknown(class_id, _LIST) or _unused(class_id, classes, background_ids, _LIST)
    owns = []
    for case in cases:
        where = Place(case.case, _KEY)
        own, wrong = read_own_bounds(case.item, where)
        findings += wrong
        for class_id in own:
            findings += classes.unknown(class_id, where) or _unused(class_id, classes, background_ids, where)
        if own and given is None:
            expected = "'per' and 'unit' in the data list's 'size_bounds'"
            findings.append(where.error("bounds-form", "bounds without a unit", expected))
        owns.append(own)
    return findings if common is None else findings + _compared(common, cases, owns, classes)


def _unused(class_id: int, classes: Classes, background_ids: Collection[int], where: Place) -> list[Finding]:
    """The finding that the background has bounds, or none."""
    if class_id not in background_ids:
        return []
    made = "" if class_id == classes.background else ", which target_ids make background"
    expected = "bounds of targets only: these are not used"
    return [where.warning("bounds-unused", f"bounds for {classes.shown(class_id)}{made}", expected)]


@dataclass(frozen=True)
class _Bound:
    """The bounds of one class of a case."""

    lower: float
    upper: float
    per: Per
    unit: Unit
    name: str
    own: bool

    def __str__(self) -> str:
        upper = "null" if math.isinf(self.upper) else f"{self.upper:g}"
        return f"[{self.lower:g}, {upper}] {self.unit} for {self.name}"


def _compared(
    common: SizeBounds, cases: Sequence[CaseFacts], owns: Sequence[Mapping[int, tuple[float, float]]], classes: Classes
) -> list[Finding]:
    """How the bounds of each case contradict the rest of what is known of it."""
    findings = []
    beyond: dict[tuple[_Bound, _Problem], list[str]] = {}
    for case, own in zip(cases, owns, strict=True):
        where = Place(case.case, _KEY)
        tags, _ = read_tags(case.item, where)
        for class_id, (lower, upper) in {**common.bounds, **own}.items():
            tag = tags.get(class_id)
            bound = _Bound(lower, upper, common.per, common.unit, classes.shown(class_id), class_id in own)
            if bound.own:
                findings += _tag_findings(bound, tag, where)
            if case.grid is None or (tag is not None and not tag):  # of an absent class the tag says all
                continue
            whole = case.grid.image_size(bound.per, bound.unit, case.slice_axis)
            problem = _image_problem(bound, whole)
            if problem and bound.own:
                findings.append(_image_finding(bound, problem, f"({whole:.4g} {bound.unit})", where))
            elif problem:
                beyond.setdefault((bound, problem), []).append(case.case)
            findings += _annotation_findings(bound, class_id, case, case.grid, where)
    for (bound, problem), names in beyond.items():
        of = "every case" if len(names) == len(cases) else f"case {listed(names, 5)}"
        findings.append(_image_finding(bound, problem, f"of {of}", _LIST))
    return findings


def _tag_findings(bound: _Bound, tag: Tag | None, where: Place) -> list[Finding]:
    """How a case's own bounds contradict its tag: only an absent class has the size 0."""
    if tag is None:
        return []
    if not tag and bound.lower > 0:
        return [where.error("bounds-conflict", f"{bound}, which 'tags' say is absent", "a lower bound of 0")]
    if tag and bound.upper == 0:
        return [where.error("bounds-conflict", f"{bound}, which 'tags' say is there", "an upper bound above 0")]
    return []


def _image_problem(bound: _Bound, whole: float) -> _Problem | None:
    """What is wrong with bounds in an image of that size."""
    if bound.lower > whole * _ROUNDING:
        return "infeasible"
    if bound.lower == 0 and bound.upper * _ROUNDING >= whole:
        return "vacuous"
    return "too-wide" if whole * _ROUNDING < bound.upper < math.inf else None


def _image_finding(bound: _Bound, problem: _Problem, of: str, where: Place) -> Finding:
    """The finding on a problem; `of` follows the word for the image."""
    image = f"the whole {'slice' if bound.per == 'slice' else 'image'} {of}"
    if problem == "infeasible":
        found = f"{bound}, whose lower bound is above {image}"
        return where.error("bounds-above-image", found, "a size that fits (is the unit right?)")
    if problem == "vacuous":
        return where.warning("bounds-vacuous", f"{bound}, which {image} cannot exceed", "a narrower interval")
    found = f"{bound}, whose upper bound is above {image}"
    return where.warning("bounds-above-image", found, "a size that fits, or null (is the unit right?)")


def _annotation_findings(bound: _Bound, class_id: int, case: CaseFacts, grid: Grid, where: Place) -> list[Finding]:
    """How bounds contradict what is annotated; a weak annotation is a lower limit of the size."""
    voxel_size = grid.voxel_size(bound.per, bound.unit, case.slice_axis)

    def sizes_in(key: str) -> NDArray[np.float64]:
        """Of every slice that has the class, or of the volume; empty without such an annotation."""
        count = case.count(key, class_id)
        if count is None:
            return np.zeros(0)
        sizes = count[count > 0] if bound.per == "slice" else count.sum(keepdims=True)
        return sizes.astype(np.float64) * voxel_size

    weak, full = sizes_in("weak_label"), sizes_in("label")
    of = "in a slice of" if bound.per == "slice" else "in"
    if weak.size and weak.max() > bound.upper * _ROUNDING:
        found = f"{bound}, less than the {weak.max():.4g} {bound.unit} annotated {of} 'weak_label'"
        return [where.error("bounds-below-annotated", found, "an upper bound of at least that (is the unit right?)")]
    outside = full[(full > bound.upper * _ROUNDING) | (full * _ROUNDING < bound.lower)]
    if not outside.size:
        return []
    number = f"{outside.size} of {full.size} slices, such as " if bound.per == "slice" else ""
    found = f"{bound}, but {number}{outside[0]:.4g} {bound.unit} in 'label'"
    expected = "bounds that hold the size of the full annotation"
    return [(where.error if bound.own else where.warning)("bounds-outside", found, expected)]
