"""Size bounds from the sizes in a few annotated cases, and how often other cases fall outside them.

Everything here works on arrays of sizes of one class in any one unit, best mL or mm2: voxels differ from scan to scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

__all__ = ["METHODS", "count_outside", "leave_one_out", "round_outward", "size_interval"]

METHODS = ("range", "quantile", "lognormal")
"""How bounds may be made from sizes; see :py:func:`size_interval`."""

MIN_SIZES = {"range": 1, "quantile": 1, "lognormal": 2}
"""The number of sizes that each method needs."""


TOLERANCE = 1e-9
"""Relative difference of two sizes that counts as none: what floating-point numbers make of products of spacings."""


def size_interval(
    sizes: ArrayLike, method: str = "lognormal", coverage: float = 0.95, margin: float = 1.0
) -> tuple[float, float]:
    r"""Bounds from sizes.

    ===============  ===================================================================================
    ``"range"``      :math:`(0.9 \min, 1.1 \max)`, the common bounds of Kervadec et al. 2019, section 4
    ``"quantile"``   the sample quantiles at :math:`(1 \mp \text{coverage}) / 2`, within the range seen
    ``"lognormal"``  the prediction interval of one more size, :math:`\exp(m \pm t_{n-1} s \sqrt{1 + 1/n})`,
                     with `m` and `s` the mean and the standard deviation of the `n` log sizes and `t` the
                     quantile of Student's distribution at :math:`(1 + \text{coverage}) / 2`
    ===============  ===================================================================================

    Quantiles of few sizes cover less than asked: one more size lies outside even the range of `n` with probability
    :math:`2 / (n + 1)`. The prediction interval covers what is asked for any `n`, if sizes are independent and
    log-normal; with 2 or 3 it is then very wide. Slices of one volume, or phases of one patient, are not independent:
    it then covers less, as :py:func:`leave_one_out` or other cases tell.

    Args:
        sizes: of one class, all positive, ``[n]``.
        method: one of :py:data:`METHODS`.
        coverage: of ``"quantile"`` and ``"lognormal"``, between 0 and 1.
        margin: what to divide the lower bound and multiply the upper bound by, at least 1.

    Returns:
        Lower and upper bound in the unit of the sizes.

    Raises:
        ValueError: when an argument is out of range or there are too few sizes: none, or fewer than two for
            ``"lognormal"``.
    """
    values = np.asarray(sizes, dtype=np.float64).ravel()
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, found {method!r}.")
    if not 0 < coverage < 1:
        raise ValueError(f"coverage must lie between 0 and 1, found {coverage:g}.")
    if not 1 <= margin < float("inf"):
        raise ValueError(f"margin must be at least 1, found {margin:g}.")
    if len(values) < MIN_SIZES[method]:
        raise ValueError(f"method {method!r} needs at least {MIN_SIZES[method]} sizes, found {len(values)}.")
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError("sizes must be positive and finite.")
    if method == "range":
        lower, upper = 0.9 * values.min(), 1.1 * values.max()
    elif method == "quantile":
        lower, upper = np.quantile(values, [(1 - coverage) / 2, (1 + coverage) / 2])
    else:
        logs = np.log(values)
        half = stats.t.ppf((1 + coverage) / 2, len(logs) - 1) * logs.std(ddof=1) * np.sqrt(1 + 1 / len(logs))
        with np.errstate(over="ignore"):  # two very different sizes: no upper bound
            lower, upper = np.exp([logs.mean() - half, logs.mean() + half])
    return float(lower / margin), float(upper * margin)


def count_outside(sizes: ArrayLike, bounds: tuple[float, float]) -> int:
    """How many sizes are below the lower or above the upper bound, by more than a billionth of it.

    Args:
        sizes: of one class, ``[n]``.
        bounds: lower and upper bound in the same unit.

    Returns:
        A number from 0 to `n`.
    """
    values = np.asarray(sizes, dtype=np.float64)
    return int(((values < bounds[0] * (1 - TOLERANCE)) | (values > bounds[1] * (1 + TOLERANCE))).sum())


def leave_one_out(
    groups: Sequence[ArrayLike], method: str = "lognormal", coverage: float = 0.95, margin: float = 1.0
) -> tuple[int, int]:
    """How many sizes fall outside the bounds that the other groups give.

    Args:
        groups: sizes of one class, those of one patient together, since they are alike: ``[n_i]`` each.
        method: see :py:func:`size_interval`.
        coverage: likewise.
        margin: likewise.

    Returns:
        The number of sizes outside, and the number tested: none where the others are too few to give bounds.
    """
    arrays = [np.asarray(group, dtype=np.float64).ravel() for group in groups]
    outside = tested = 0
    for index, left_out in enumerate(arrays):
        others = np.concatenate([np.empty(0), *arrays[:index], *arrays[index + 1 :]])
        if len(others) >= MIN_SIZES[method]:
            outside += count_outside(left_out, size_interval(others, method, coverage, margin))
            tested += len(left_out)
    return outside, tested


def round_outward(bounds: tuple[float, float], digits: int = 4) -> tuple[float, float]:
    """Round bounds for a file without excluding anything that they allow, up to the tolerance of `count_outside`.

    Args:
        bounds: lower and upper bound, the latter may be infinite.
        digits: significant decimal digits, at least 1.

    Returns:
        The lower bound rounded down, the upper one up.
    """
    # 1.1 * 16.8 is a little more than 18.48, and should not become 18.49
    exact = Context(prec=12)
    lower, upper = (exact.create_decimal_from_float(bound) for bound in bounds)
    down, up = Context(prec=digits, rounding=ROUND_FLOOR), Context(prec=digits, rounding=ROUND_CEILING)
    return float(down.plus(lower)), float(up.plus(upper))
