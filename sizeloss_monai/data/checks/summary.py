"""What a data list holds: cases, slices, and how much of them is annotated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sizeloss_monai.data.annotated_items import NEEDED, annotation_mark
from sizeloss_monai.data.checks.classes import Classes
from sizeloss_monai.data.checks.facts import ANNOTATIONS, CaseFacts
from sizeloss_monai.data.datalists import SECTIONS

__all__ = ["summarise"]


def summarise(cases: Sequence[CaseFacts], classes: Classes, datalist: Mapping[str, Any]) -> dict[str, Any]:
    """Count cases, slices and annotated voxels.

    Args:
        cases: what is known of all cases. Files that could not be read count as cases only.
        classes: of the data list.
        datalist: the data list, whose bounds are every case's.

    Returns:
        ``splits``: by section, the numbers of ``patients``, ``cases`` and ``slices``, and of cases by how they are
        annotated (:py:func:`sizeloss_monai.data.annotated_items`); and ``annotations``: for every
        section, key of an annotation and class, in how many ``cases`` and ``slices`` (``annotated_slices``) it is
        annotated, of how many that have such a file (``of_cases``, ``of_slices``), and as which fraction of their
        voxels (``annotated_fraction``). A row whose ``class`` is None is for annotated voxels of any class.
    """
    splits, annotations = {}, []
    for section in SECTIONS:
        of_section = [case for case in cases if case.section == section]
        marks = Counter(str(annotation_mark(datalist, case.item)) for case in of_section)
        splits[section] = {
            "patients": len({case.item["patient"] for case in of_section}),
            "cases": len(of_section),
            "slices": sum(case.num_slices for case in of_section),
            **{mark: marks[mark] for mark in NEEDED},
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
