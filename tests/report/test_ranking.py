from __future__ import annotations

import math
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from hypothesis import given
from hypothesis import strategies as st

from sizeloss_monai.report.ranking import choose_cases, rank_cases, violation_share
from sizeloss_monai.report.run_files import CaseResult
from sizeloss_monai.sizes.table import SizeRow


def result(
    case: str,
    dice: float | None = None,
    hard: float = 10.0,
    bounds: tuple[float, float] | None = (5.0, 20.0),
    components: int = 1,
    soft: float | None = None,
) -> CaseResult:
    lower, upper = bounds or (None, None)
    row = SizeRow(case, 1, "organ", hard if soft is None else soft, hard, None, lower, upper, components, "")
    return CaseResult(case, (row,), {} if dice is None else {1: dice}, Path("i"), None, Path("m"))


@pytest.mark.parametrize(
    ("hard", "bounds", "share"),
    [(10, (5, 20), 0), (25, (5, 20), 0.25), (4, (5, 20), 0.2), (1, (0, 0), math.inf), (7, None, 0)],
)
def test_violation_is_a_share_of_its_bound(hard: float, bounds: tuple[float, float] | None, share: float) -> None:
    assert violation_share(result("a", hard=hard, bounds=bounds)) == pytest.approx(share)


def test_order() -> None:
    ranked = rank_cases(
        [
            result("good", 0.9),
            result("pieces", components=3),
            result("too large", 0.95, hard=25),
            result("bad", 0.1),
            result("plain"),
            result("not sure", soft=15),
            result("much too small", hard=1),
        ]
    )
    expected = ["much too small", "too large", "bad", "good", "pieces", "not sure", "plain"]
    assert [ranked_result.case for ranked_result in ranked] == expected


def test_best_median_and_worst_are_of_annotated_cases() -> None:
    results = [result(str(i), i / 10) for i in range(5)] + [result("blind", components=9), result("plain")]
    annotated = {"0": ["worst"], "2": ["median"], "4": ["best"]}
    assert choose_cases(results, max_unannotated=0) == annotated
    assert choose_cases(results, max_unannotated=1) == {**annotated, "blind": ["no full annotation"]}
    assert list(choose_cases(results)) == [*annotated, "blind", "plain"]
    assert choose_cases([result("only", hard=50)]) == {"only": ["out of bounds", "worst", "median", "best"]}
    assert choose_cases([]) == {}


@given(
    st.lists(
        st.tuples(st.one_of(st.none(), st.floats(0, 1)), st.floats(0, 40), st.integers(0, 4)), min_size=1, max_size=15
    ),
    st.integers(0, 4),
)
def test_every_case_is_ranked_once(drawn: list[tuple[float | None, float, int]], limit: int) -> None:
    results = [result(str(i), dice, hard, components=pieces) for i, (dice, hard, pieces) in enumerate(drawn)]
    ranked = rank_cases(results)
    assert sorted(r.case for r in ranked) == sorted(r.case for r in results)
    shares = [violation_share(r) for r in ranked]
    assert shares == sorted(shares, reverse=True)
    chosen = choose_cases(results, max_violations=limit)
    assert list(chosen) == [r.case for r in ranked if r.case in chosen]
    reasons = [reason for given_reasons in chosen.values() for reason in given_reasons]
    assert all(reasons.count(reason) == 1 for reason in ("worst", "median", "best"))
    assert reasons.count("out of bounds") == min(limit, sum(bool(r.violated) for r in results))
