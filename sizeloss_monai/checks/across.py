"""Findings on several cases together: leaks between splits, outliers, and missing annotations."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.utils import ensure_tuple

from sizeloss_monai.checks.cases import ANNOTATIONS, CaseFacts
from sizeloss_monai.datalist.classes import Classes
from sizeloss_monai.datalist.lists import SECTIONS, cases_by_section
from sizeloss_monai.errors import Finding, Place

__all__ = ["coverage_findings", "duplicate_findings", "outlier_findings", "without_consequences"]

_MIN_CASES = 3  # fewer have no median to be far from
_SPREAD = 5.0  # standard deviations
_MAX_SPACING_RATIO = 2.0
_MAX_RANGE_RATIO = 10.0


def duplicate_findings(cases: Sequence[CaseFacts]) -> list[Finding]:
    """Files and scans that are there twice: an error between two splits, a warning within one."""
    findings = []
    for key in ("image", *ANNOTATIONS):
        for _, group in _grouped(cases, lambda case, key=key: ensure_tuple(case.item.get(key, ()))):  # type: ignore[misc]
            findings += _repeated(group, key, "duplicate-file", "the same file")
    for _, group in _grouped(cases, lambda case: [case.digest] if case.digest else []):
        of_file: dict[str, CaseFacts] = {}
        for case in group:
            of_file.setdefault(str(case.item["image"]), case)  # of one file it has been said
        findings += _repeated(list(of_file.values()), "image", "duplicate-image", "the same voxels")
    return findings


def outlier_findings(cases: Sequence[CaseFacts]) -> list[Finding]:
    """Warnings on images with a spacing, or a range of intensities, far from that of the others.

    Far is further from the median than both a factor (2 for the spacing in plane and between slices, 10 for the
    range) and five standard deviations of the logarithm, which the median absolute deviation estimates.
    """
    findings: dict[str, Finding] = {}
    grids = [(case, case.grid) for case in cases if case.grid is not None]
    for name, values in (
        ("in plane", [math.sqrt(grid.pixel_mm2(case.slice_axis)) for case, grid in grids]),
        ("between slices", [grid.spacing[case.slice_axis] for case, grid in grids]),
    ):
        for index, median in _outliers(values, _MAX_SPACING_RATIO):
            case, grid = grids[index]
            found = f"a spacing of {' x '.join(f'{size:.4g}' for size in grid.spacing)} mm"
            expected = f"about {median:.4g} mm {name}, the median of all cases"
            findings.setdefault(case.case, Place(case.case, "image").warning("spacing-outlier", found, expected))
    ranges = [(case, case.intensity_range) for case in cases if case.intensity_range is not None]
    return list(findings.values()) + [
        Place(ranges[index][0].case, "image").warning(
            "intensity-outlier",
            f"intensities over a range of {ranges[index][1]:.4g} (1st to 99th percentile)",
            f"about {median:.4g}, the median of all cases",
        )
        for index, median in _outliers([value for _, value in ranges], _MAX_RANGE_RATIO)
    ]


def coverage_findings(cases: Sequence[CaseFacts], classes: Classes) -> list[Finding]:
    """Missing annotations: no unannotated voxel, no annotated one, no background or no class in training cases."""
    weak = [case for case in cases if "weak_label" in case.counts]
    findings = _unannotated_findings(weak, classes)
    for case in weak:
        if case.section == "training" and not set(case.counts["weak_label"]) - {classes.unannotated}:
            found = f"no annotated voxel, all are {classes.unannotated}"
            findings.append(Place(case.case, "weak_label").warning("nothing-annotated", found, "some, or no such key"))

    annotated: Counter[int] = Counter()  # by id, the number of training cases
    taught = [case for case in cases if case.section == "training" and case.counts]
    for case in taught:
        key = "weak_label" if "weak_label" in case.counts and case.item.get("supervision") != "full" else "label"
        annotated.update(case.counts.get(key, {}).keys())
    num_weak = sum("weak_label" in case.counts for case in taught)
    if classes.background is not None and num_weak and not annotated[classes.background]:
        found = f"no voxel annotated as {classes.shown(classes.background)} in any of {num_weak} training cases"
        expected = "some: otherwise size bounds alone keep a network from calling every voxel a target"
        findings.append(Place(None, "weak_label").warning("no-background", found, expected))
    for class_id in classes.names if taught else ():
        if class_id not in (classes.background, classes.unannotated) and not annotated[class_id]:
            found = f"no voxel of {classes.shown(class_id)} in any annotation of {len(taught)} training cases"
            findings.append(Place(None, "labels").warning("class-never-annotated", found, "some in at least one case"))
    return findings


def without_consequences(findings: Sequence[Finding]) -> list[Finding]:
    """Findings without those that follow from a wrong id of unannotated voxels."""
    if not any(finding.case is None and finding.code == "unannotated-absent" for finding in findings):
        return list(findings)
    follow = {"unknown-id", "bounds-below-annotated", "tag-conflict"}
    return [finding for finding in findings if not (finding.code in follow and finding.case is not None)]


def _unannotated_findings(weak: Sequence[CaseFacts], classes: Classes) -> list[Finding]:
    """Weak labels in which every voxel counts as annotated."""
    without = [case for case in weak if classes.unannotated not in case.counts["weak_label"]]
    if not without:
        return []
    if len(without) < len(weak):
        found = f"no voxel of id {classes.unannotated} (not annotated)"
        expected = "some; a full annotation belongs under 'label'"
        return [Place(case.case, "weak_label").warning("unannotated-absent", found, expected) for case in without]
    totals: Counter[int] = Counter()
    for case in weak:
        totals.update({class_id: int(count.sum()) for class_id, count in case.counts["weak_label"].items()})
    commonest = totals.most_common(1)[0][0] if totals else None
    most = "" if commonest is None else f", most of whose voxels are {commonest}"
    found = f"no voxel of id {classes.unannotated} (not annotated) in any 'weak_label'{most}"
    expected = "the id of unannotated voxels in the files"
    if commonest is not None and commonest not in classes.names:
        expected += f' (datalist ... --unannotated {commonest}, or "unannotated": {commonest} in the list)'
    return [Place(None, "unannotated").error("unannotated-absent", found, expected)]


def _grouped(
    cases: Sequence[CaseFacts], names: Callable[[CaseFacts], Iterable[Any]]
) -> list[tuple[Any, list[CaseFacts]]]:
    """The cases by what they have in common."""
    groups: dict[Any, list[CaseFacts]] = {}
    for case in cases:
        for name in names(case):
            groups.setdefault(name, []).append(case)
    return list(groups.items())


def _repeated(group: Sequence[CaseFacts], key: str, code: str, what: str) -> list[Finding]:
    """The finding that the cases of a group have something in common that each should have alone."""
    if len(group) < 2:
        return []
    where = Place(group[0].case, key)
    found = f"{what} in {_by_section(group)}"
    if len({case.section for case in group}) > 1:
        return [where.error(code, found, "each in one split only")]
    return [where.warning(code, found, "each in one case only")]


def _by_section(cases: Sequence[CaseFacts]) -> str:
    """Cases for a message: ``training (a, b) and validation (c)``."""
    names: Mapping[str, list[str]] = {section: [] for section in SECTIONS}
    for case in cases:
        names[case.section].append(case.case)
    return cases_by_section(names)


def _outliers(values: Sequence[float], max_ratio: float) -> list[tuple[int, float]]:
    """The indices of values far from the median, each with the median; see :py:func:`outlier_findings`."""
    if len(values) < _MIN_CASES:
        return []
    logs = np.log(np.asarray(values))
    median = np.median(logs)
    deviations = np.abs(logs - median)
    limit = max(math.log(max_ratio), _SPREAD * 1.4826 * float(np.median(deviations)))
    return [(int(index), float(np.exp(median))) for index in np.flatnonzero(deviations > limit + 1e-9)]
