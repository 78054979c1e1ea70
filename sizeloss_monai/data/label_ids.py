"""The ids that the values of a label file stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DEFAULT_IGNORE_INDEX", "LARGEST_ID", "ROUNDING", "whole_ids"]

DEFAULT_IGNORE_INDEX = 255
"""What weak labels of the network's classes hold where a voxel is not annotated."""

ROUNDING = 1e-3
"""How far a value of a label file may lie from a whole number, whose id it then is: the noise of a file that holds
floating numbers, or a slope and an intercept. An interpolated label lies further off, and is refused."""

LARGEST_ID = 2**24
"""Label files are read as float32, which holds every whole number up to this one."""


def whole_ids(values: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The ids that the values of a label file stand for.

    Args:
        values: any shape.

    Returns:
        The nearest ids, and which values are ids: within :py:data:`ROUNDING` of a whole number, no larger than
        :py:data:`LARGEST_ID`, and not NaN. The id of another value is 0. Both of the shape of ``values``.
    """
    values = values.astype(np.float64)
    nearest = np.rint(values)
    # a NaN and an infinity fail both comparisons
    with np.errstate(invalid="ignore"):
        whole = (np.abs(values - nearest) <= ROUNDING) & (np.abs(nearest) <= LARGEST_ID)
    return np.where(whole, nearest, 0).astype(np.int64), whole
