"""Which cases a reader should see first."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sizeloss_monai.report.run_files import CaseResult

__all__ = ["choose_cases", "rank_cases", "violation_share"]


def violation_share(result: CaseResult) -> float:
    """The largest violation among a case's classes, as a share of the bound it violates; 0 within all bounds.

    Args:
        result: of the case.
    """
    shares = [0.0]
    for row in result.violated:
        violation, bound = row.violation_ml or 0.0, row.upper_ml if (row.violation_ml or 0.0) > 0 else row.lower_ml
        shares.append(abs(violation) / bound if bound else math.inf)
    return max(shares)


def _doubt(result: CaseResult) -> tuple[int, float]:
    """How implausible a mask is without a truth: pieces beyond one a class, then soft against hard size."""
    pieces = sum(max(row.components - 1, 0) for row in result.rows)
    gaps = [abs(row.soft_ml - row.hard_ml) / max(row.soft_ml, row.hard_ml, 1e-9) for row in result.rows]
    return pieces, max(gaps, default=0.0)


def _worst_first(results: Sequence[CaseResult]) -> list[CaseResult]:
    """By mean Dice, lowest first; then those without, the most doubtful first."""
    scored = [result for result in results if result.mean_dice is not None]
    others = [result for result in results if result.mean_dice is None]
    return sorted(scored, key=lambda result: result.mean_dice or 0.0) + sorted(others, key=_doubt, reverse=True)


def rank_cases(results: Sequence[CaseResult]) -> list[CaseResult]:
    """Violations first, the largest share of its bound at the top; then from the worst case to the best.

    Cases are compared by mean Dice. Those without a full annotation follow: more connected components than classes are
    worse, and among equals a larger difference of soft and hard size.

    Args:
        results: of all cases.
    """
    return sorted(_worst_first(results), key=violation_share, reverse=True)  # keeps the order of equals


def choose_cases(
    results: Sequence[CaseResult], max_violations: int = 6, max_unannotated: int = 3
) -> dict[str, list[str]]:
    """The cases to draw, and why.

    Args:
        results: of all cases.
        max_violations: how many of the violations are drawn.
        max_unannotated: how many cases without a full annotation are drawn where others have one.

    Returns:
        By name, in the order of :py:func:`rank_cases`, any of ``"out of bounds"``, ``"worst"``, ``"median"``,
        ``"best"`` and ``"no full annotation"``. The three before the last are of the cases with a full annotation if
        there are any; the last are the most doubtful ones without.
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
