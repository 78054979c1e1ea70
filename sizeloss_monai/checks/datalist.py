"""The whole check of a data list, and its summary."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from monai.config import PathLike

from sizeloss_monai.checks.across import (
    coverage_findings,
    duplicate_findings,
    outlier_findings,
    without_consequences,
)
from sizeloss_monai.checks.cases import ANNOTATIONS, CaseFacts, for_every_case, gather_facts
from sizeloss_monai.checks.entries import key_findings, supervision_findings, tag_findings
from sizeloss_monai.checks.size_bounds import bounds_findings
from sizeloss_monai.checks.slice_axis import choose_slice_axis
from sizeloss_monai.data.slice_axis import SliceAxis
from sizeloss_monai.datalist.classes import Classes, ClassMap, read_classes
from sizeloss_monai.datalist.entries import MARKS, annotation_mark
from sizeloss_monai.datalist.lists import SECTIONS, parse_datalist, section_findings
from sizeloss_monai.errors import DataError, Finding, counted

__all__ = ["CheckReport", "check_datalist", "check_used_data", "summarise"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Args:
        findings: those of the list first, then case by case in the list's order; errors before warnings.
        summary: see :py:func:`summarise`; and ``slice_axis``, where slices lie (``taken``) and why (``reason``).
    """

    findings: tuple[Finding, ...]
    summary: Mapping[str, Any]

    @property
    def num_errors(self) -> int:
        """The number of errors."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def num_warnings(self) -> int:
        """The number of warnings."""
        return len(self.findings) - self.num_errors

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON has it: ``errors``, ``warnings`` (how many), ``findings``, ``summary``."""
        return {
            "errors": self.num_errors,
            "warnings": self.num_warnings,
            "findings": [asdict(finding) for finding in self.findings],
            "summary": dict(self.summary),
        }


def check_datalist(
    path: PathLike,
    base_dir: PathLike | None = None,
    num_workers: int = 0,
    progress: bool = False,
    label_ids: Sequence[int] | None = None,
    slice_axis: Any = "auto",
) -> CheckReport:
    """Read every file of a data list once, and say what is wrong with each case and with all of them together.

    It writes nothing. A training asks the same functions, see :py:func:`check_used_data`.

    Args:
        path: the data list (JSON).
        base_dir: the folder that its paths are relative to; the folder of the file by default.
        num_workers: number of threads that read; 0 reads in the calling one.
        progress: whether to show a progress bar, on stderr.
        label_ids: the ids that a training expects of label files; those that the list names by default.
        slice_axis: see :py:func:`choose_slice_axis`.

    Raises:
        DataError: when the file cannot be read or is not a data list, or `slice_axis` is unknown.
    """
    datalist, findings = parse_datalist(path, base_dir)
    modality = datalist.get("modality")
    classes, of_classes = read_classes(datalist, label_ids)
    slices = choose_slice_axis(datalist["training"], slice_axis, datalist, classes.unannotated, num_workers)
    cases, of_list = _findings_of(
        datalist,
        classes,
        [(section, item, ANNOTATIONS) for section in SECTIONS for item in datalist[section]],
        needed=("training", "validation"),
        slice_axis=slices.taken,
        num_channels=len(modality) if isinstance(modality, Mapping) and modality else 1,
        num_workers=num_workers,
        progress=progress,
    )
    found = _ranked([*findings, *of_classes, *slices.doubts, *of_list], cases)
    summary = summarise(cases, classes, datalist) | {"slice_axis": {"taken": slices.taken, "reason": slices.reason}}
    return CheckReport(tuple(found), summary)


def check_used_data(
    datalist: Mapping[str, Any],
    classes: ClassMap,
    sections: Sequence[str] = ("training", "validation"),
    keys: Sequence[str] = ("label",),
    unannotated: int | None = None,
    by_mark: bool = False,
    use_masks: bool = False,
    mask_sections: Sequence[str] = (),
    slice_axis: SliceAxis | None = "widest",
    num_workers: int = 0,
) -> None:
    """Refuse what :py:func:`check_datalist` calls an error, of what a training uses; log its warnings.

    It reads the files that the training reads, once, before any work starts, and asks the functions that
    :py:func:`check_datalist` asks. The ids of `classes` stand for those that the list names. An image must have one
    channel, and a case the files.

    Example, in a bundle's ``initialize``::

        _target_: sizeloss_monai.checks.check_used_data
        datalist: "@datalist"
        classes: "@classes"

    Args:
        datalist: of :py:func:`~sizeloss_monai.datalist.open_datalist`.
        classes: the class of each id of the label files.
        sections: those that training uses. Each must have cases.
        keys: the annotations that training uses. Each case must have them.
        unannotated: the id of unannotated voxels in weak labels; the list's by default.
        by_mark: whether training uses the annotations of each case's mark instead of `keys`, see
            :py:func:`~sizeloss_monai.datalist.annotated_items`.
        use_masks: with `by_mark`, whether a case without a mark is ``full`` if it has a mask.
        mask_sections: with `by_mark`, the sections in which every mask is used.
        slice_axis: where slices lie; None for whole volumes, where ``"widest"`` counts.
        num_workers: number of threads that read; 0 reads in the calling one.

    Raises:
        DataError: with one line per problem: ``case 'a', key 'label': found ..., expected ...``.
    """

    def used(section: str, item: Mapping[str, Any]) -> tuple[str, ...]:
        mark = annotation_mark(datalist, item, use_masks)
        uses = {*(MARKS[mark].uses if mark in MARKS else ()), *(["label"] if section in mask_sections else [])}
        return tuple(key for key in ANNOTATIONS if key in uses)

    listed, findings = read_classes(datalist, classes.label_ids, unannotated)
    cases, of_list = _findings_of(
        datalist,
        listed,
        [(name, item, used(name, item) if by_mark else keys) for name in sections for item in datalist[name]],
        needed=sections,
        slice_axis="widest" if slice_axis is None else slice_axis,
        background_ids=classes.ids_of.get(0, []),
        require_label=not by_mark,
        num_workers=num_workers,
    )
    errors = []
    for finding in _ranked([*findings, *of_list], cases):
        if finding.severity == "error":
            errors.append(str(finding))
        else:
            logger.warning(finding)
    if errors:
        raise DataError("\n".join([f"{counted(len(errors), 'problem')} with the data:", *errors]))


def _findings_of(
    datalist: Mapping[str, Any],
    classes: Classes,
    items: Sequence[tuple[str, Mapping[str, Any], Sequence[str]]],
    needed: Sequence[str],
    slice_axis: SliceAxis,
    num_channels: int = 1,
    background_ids: Collection[int] | None = None,
    require_label: bool = False,
    num_workers: int = 0,
    progress: bool = False,
) -> tuple[list[CaseFacts], list[Finding]]:
    """Read cases, and say what is wrong with each and with all together: the one place that decides it.

    Args:
        datalist: the data list, with absolute paths.
        classes: the ids that annotations may have.
        items: section, entry, and keys of the annotations to read of each case.
        needed: the sections that must have cases.
        slice_axis, num_channels, require_label: see :py:func:`~sizeloss_monai.checks.cases.gather_facts`.
        background_ids: see :py:func:`~sizeloss_monai.checks.size_bounds.bounds_findings`.
        num_workers, progress: see :py:func:`~sizeloss_monai.checks.cases.for_every_case`.
    """

    def gather(entry: tuple[str, Mapping[str, Any], Sequence[str]]) -> CaseFacts:
        section, item, keys = entry
        return gather_facts(section, item, classes, num_channels, keys, require_label, slice_axis)

    findings = key_findings(datalist)
    cases = for_every_case(gather, items, num_workers, progress)
    for case in cases:
        findings += case.findings
        findings += supervision_findings(case.section, case.item, datalist)
        findings += tag_findings(case, classes)
    findings += bounds_findings(datalist, cases, classes, background_ids)
    findings += section_findings(datalist, needed)
    findings += duplicate_findings(cases)
    findings += outlier_findings(cases)
    findings += coverage_findings(cases, classes)
    return cases, without_consequences(findings)


def _ranked(findings: Sequence[Finding], cases: Sequence[CaseFacts]) -> list[Finding]:
    """Findings on the list first, then case by case in the list's order; errors before warnings."""
    order = {name: index for index, name in enumerate(dict.fromkeys(case.case for case in cases))}

    def rank(finding: Finding) -> tuple[int, bool]:
        return -1 if finding.case is None else order.get(finding.case, -1), finding.severity == "warning"

    return sorted(findings, key=rank)


def summarise(cases: Sequence[CaseFacts], classes: Classes, datalist: Mapping[str, Any]) -> dict[str, Any]:
    """Count cases, slices and annotated voxels.

    Args:
        cases: what is known of all cases. A case whose files could not be read counts as a case only.
        classes: of the data list.
        datalist: the data list; its bounds are every case's.

    Returns:
        ``splits``: by section, the numbers of ``patients``, ``cases`` and ``slices``, and of cases by
        :py:data:`~sizeloss_monai.datalist.entries.Mark`. ``annotations``: for every section, key of an annotation and
        class, in how many ``cases`` and ``slices`` (``annotated_slices``) it is annotated, of how many that have such a
        file (``of_cases``, ``of_slices``), and as which fraction of their voxels (``annotated_fraction``). A row with
        the ``class`` None is for annotated voxels of any class.
    """
    splits, annotations = {}, []
    for section in SECTIONS:
        of_section = [case for case in cases if case.section == section]
        marks = Counter(str(annotation_mark(datalist, case.item)) for case in of_section)
        splits[section] = {
            "patients": len({case.item["patient"] for case in of_section}),
            "cases": len(of_section),
            "slices": sum(case.num_slices for case in of_section),
            **{str(mark): marks[mark] for mark in MARKS},
        }
        for key in ANNOTATIONS:
            of_key = [case for case in of_section if key in case.counts]
            if not of_key:
                continue
            ignored = {classes.unannotated} if key == "weak_label" else set()
            found = {class_id for case in of_key for class_id in case.counts[key]}
            ids = sorted({*found, *classes.names} - ignored)
            annotations += [
                {"split": section, "key": key, "class": class_id, "name": name, **_row(of_key, key, ids_of_row)}
                for class_id, name, ids_of_row in [
                    *((class_id, classes.names.get(class_id, ""), [class_id]) for class_id in ids),
                    (None, "any class", ids),
                ]
            ]
    return {"splits": splits, "annotations": annotations}


def _row(cases: Sequence[CaseFacts], key: str, ids: Sequence[int]) -> dict[str, Any]:
    """How much of some cases is annotated with one of these ids."""
    num_slices = sum(case.num_slices for case in cases)
    num_voxels = sum(int(np.prod(case.grid.shape)) for case in cases if case.grid is not None)
    counts = [sum(case.counts[key].get(class_id, 0) for class_id in ids) + np.zeros(1, np.int64) for case in cases]
    return {
        "cases": sum(bool(count.any()) for count in counts),
        "of_cases": len(cases),
        "annotated_slices": sum(int(np.count_nonzero(count)) for count in counts),
        "of_slices": num_slices,
        "annotated_fraction": sum(int(count.sum()) for count in counts) / num_voxels,
    }
