from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sizeloss_monai.sizes.from_cases import MIN_SIZES, count_outside, leave_one_out, round_outward, size_interval

SIZES = st.lists(st.floats(1e-3, 1e4), min_size=2, max_size=12)


def test_range() -> None:
    assert size_interval([30, 10, 20], "range") == pytest.approx((9, 33))
    assert size_interval([5], "range") == pytest.approx((4.5, 5.5))


def test_quantiles() -> None:
    assert size_interval(range(1, 102), "quantile", coverage=0.9) == pytest.approx((6, 96))
    assert size_interval([5], "quantile") == (5, 5)


def test_lognormal_by_hand() -> None:
    # logs 1 and 3: mean 2, standard deviation sqrt(2), and t of one degree of freedom is tan(pi (p - 1/2))
    half = math.tan(math.pi * (0.975 - 0.5)) * math.sqrt(2) * math.sqrt(1.5)
    assert size_interval([math.e, math.e**3], "lognormal") == pytest.approx((math.exp(2 - half), math.exp(2 + half)))


@given(SIZES, st.floats(0.5, 0.99))
def test_lognormal_is_the_interval_of_students_t(sizes: list[float], coverage: float) -> None:
    logs = np.log(sizes)
    scale = np.std(logs, ddof=1) * math.sqrt(1 + 1 / len(logs))
    lower, upper = size_interval(sizes, "lognormal", coverage)
    if scale > 1e-6 and math.isfinite(upper) and lower > 0:
        expected = stats.t.interval(coverage, len(logs) - 1, loc=logs.mean(), scale=scale)
        assert np.log([lower, upper]) == pytest.approx(np.array(expected), rel=1e-6, abs=1e-6)


@given(SIZES, st.sampled_from(sorted(MIN_SIZES)), st.floats(1e-2, 1e2))
def test_bounds_have_the_unit_of_the_sizes(sizes: list[float], method: str, factor: float) -> None:
    lower, upper = size_interval(sizes, method)
    scaled = size_interval(np.multiply(sizes, factor), method)
    if math.isfinite(upper) and lower > 1e-200 and max(upper, scaled[1]) < 1e200:
        # two log sizes may differ by rounding, and t of one degree of freedom is 12.7
        assert scaled == pytest.approx((lower * factor, upper * factor), rel=1e-6)


@given(SIZES, st.sampled_from(sorted(MIN_SIZES)), st.floats(1, 5))
def test_margin(sizes: list[float], method: str, margin: float) -> None:
    lower, upper = size_interval(sizes, method)
    assert size_interval(sizes, method, margin=margin) == pytest.approx((lower / margin, upper * margin))


@pytest.mark.parametrize("num_sizes", [2, 3, 5, 10, 40])
def test_lognormal_covers_what_is_asked(num_sizes: int) -> None:
    rng = np.random.default_rng(0)
    draws = rng.lognormal(mean=4.6, sigma=0.4, size=(4000, num_sizes + 1))
    inside = [count_outside(row[-1:], size_interval(row[:-1], "lognormal", 0.9)) == 0 for row in draws]
    # 4 standard errors of a share of 0.9
    assert np.mean(inside) == pytest.approx(0.9, abs=4 * math.sqrt(0.9 * 0.1 / 4000))


@pytest.mark.parametrize("num_sizes", [1, 3, 9])
def test_quantiles_cannot_cover_more_than_the_range_of_few(num_sizes: int) -> None:
    rng = np.random.default_rng(1)
    draws = rng.lognormal(size=(4000, num_sizes + 1))
    inside = [count_outside(row[-1:], size_interval(row[:-1], "quantile", 0.999999)) == 0 for row in draws]
    expected = (num_sizes - 1) / (num_sizes + 1)
    assert np.mean(inside) == pytest.approx(expected, abs=4 * math.sqrt(0.25 / 4000))


def test_two_very_different_sizes_have_no_upper_bound() -> None:
    assert size_interval([1e-3, 1e30], "lognormal", 0.99) == (0, math.inf)


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ([], {"method": "range"}, "at least 1 sizes, got 0"),
        ([3], {"method": "lognormal"}, "at least 2 sizes, got 1"),
        ([3, 0], {}, "positive and finite"),
        ([3, math.nan], {}, "positive and finite"),
        ([3, 4], {"method": "normal"}, "'range', 'quantile', 'lognormal'.*, got 'normal'"),
        ([3, 4], {"coverage": 1.0}, "coverage must lie between 0 and 1, got 1"),
        ([3, 4], {"coverage": math.nan}, "coverage"),
        ([3, 4], {"margin": 0.5}, "margin must be at least 1, got 0.5"),
        ([3, 4], {"margin": math.nan}, "margin"),
    ],
)
def test_bad_input(sizes: list[float], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        size_interval(sizes, **options)


def test_count_outside_includes_the_bounds() -> None:
    assert count_outside([1, 2, 3, 4], (2, 3)) == 2
    assert count_outside([18.48], (1, 1.1 * 16.8)) == count_outside([1.1 * 16.8], (1, 18.48)) == 0
    assert count_outside([], (2, 3)) == 0


def test_leave_one_out() -> None:
    # without 10: (18, 33); without 20: (9, 33); without 30: (9, 22)
    assert leave_one_out([[10], [20], [30]], "range") == (2, 3)
    assert leave_one_out([[10], [20], [30]], "range", margin=2) == (0, 3)


def test_leave_one_out_leaves_out_all_of_a_patient() -> None:
    assert leave_one_out([[10, 100], [11, 99], [10, 50]], "range") == (0, 6)
    assert leave_one_out([[10, 11], [100, 101]], "range") == (4, 4)


def test_leave_one_out_of_too_few() -> None:
    assert leave_one_out([[10, 20]], "range") == (0, 0)
    assert leave_one_out([[10], [20]], "lognormal") == (0, 0)
    assert leave_one_out([[10, 12], [11]], "lognormal") == (0, 1), "only the second leaves two"


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.integers(1, 8))
def test_rounding_is_outward_and_small(first: float, second: float, digits: int) -> None:
    lower, upper = sorted((first, second))
    down, up = round_outward((lower, upper), digits)
    assert count_outside([lower, upper], (down, up)) == 0
    assert lower - down <= lower * 10 ** (1 - digits) * (1 + 1e-9)
    assert up - upper <= upper * 10 ** (1 - digits) * (1 + 1e-9)


def test_rounding() -> None:
    assert round_outward((35.20999, 290.01)) == (35.2, 290.1)
    assert round_outward((0.9 * 4.8, 1.1 * 16.8)) == (4.32, 18.48), "the product is 18.480000000000004"
    assert round_outward((0, math.inf)) == (0, math.inf)
