"""Which cases of a data list are annotated how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sizeloss_monai.data.draws import random_key
from sizeloss_monai.data.findings import DataError, listed

__all__ = ["SUPERVISION", "mark_supervision"]

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
