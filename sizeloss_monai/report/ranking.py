"""The cases that a reader should see first."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sizeloss_monai.report.run_files import CaseResult

__all__ = ["choose_cases", "rank_cases", "violation_share"]


def violation_share(result: CaseResult) -> float:
    """The largest violation among a case's classes, as a share of the violated bound; 0 within all bounds."""
    shares = [0.0]
    for row in result.violated:
        violation, bound = row.violation_ml or 0.0, row.upper_ml if (row.violation_ml or 0.0) > 0 else row.lower_ml
        shares.append(abs(violation) / bound if bound else math.inf)
    return max(shares)


def _doubt(result: CaseResult) -> tuple[int, float]:
    """How implausible a mask is: pieces beyond one for each class, then the gap of soft and hard size."""
    pieces = sum(max(row.components - 1, 0) for row in result.rows)
    gaps = [abs(row.soft_ml - row.hard_ml) / max(row.soft_ml, row.hard_ml, 1e-9) for row in result.rows]
    return pieces, max(gaps, default=0.0)


def _worst_first(results: Sequence[CaseResult]) -> list[CaseResult]:
    """By mean Dice, lowest first; then cases without Dice, the most doubtful first."""
    scored = [result for result in results if result.mean_dice is not None]
    others = [result for result in results if result.mean_dice is None]
    return sorted(scored, key=lambda result: result.mean_dice or 0.0) + sorted(others, key=_doubt, reverse=True)


def rank_cases(results: Sequence[CaseResult]) -> list[CaseResult]:
    """Violations first, by their share of the bound; then the other cases, the worst first.

    Cases with a full annotation are ordered by mean Dice. Cases without follow, those with more connected components
    first, and among equals those with a larger difference of soft and hard size.
    """
    return sorted(_worst_first(results), key=violation_share, reverse=True)  # keeps the order of equals


def choose_cases(
    results: Sequence[CaseResult], max_violations: int = 6, max_unannotated: int = 3
) -> dict[str, list[str]]:
    """The cases to draw, and the reasons.

    Args:
        results: all cases.
        max_violations: largest number of violations.
        max_unannotated: largest number of cases without a full annotation, where others have one.

    Returns:
        By name, in the order of :py:func:`rank_cases`, ``"out of bounds"``, ``"worst"``, ``"median"``, ``"best"`` (of
        the cases with a full annotation, if any) and ``"no full annotation"`` (the most doubtful ones).
    """
    scored = [result for result in results if result.mean_dice is not None]
    by_quality = _worst_first(scored or results)
    reasons: dict[str, list[str]] = {}
    for result in [result for result in rank_cases(results) if result.violated][:max_violations]:
        reasons.setdefault(result.case, []).append("out of bounds")
    if by_quality:
        places = {"worst": 0, "median": len(by_quality) // 2, "best": len(by_quality) - 1}
        for reason, place in places.items():
            reasons.setdefault(by_quality[place].case, []).append(reason)
    if scored:
        for result in _worst_first([result for result in results if result.mean_dice is None])[:max_unannotated]:
            reasons.setdefault(result.case, []).append("no full annotation")
    return {result.case: reasons[result.case] for result in rank_cases(results) if result.case in reasons}
