"""The ids that the values of a label file stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["DEFAULT_IGNORE_INDEX", "LARGEST_ID", "ROUNDING", "class_sizes", "whole_ids"]

DEFAULT_IGNORE_INDEX = 255
"""What weak labels of the network's classes hold where a voxel is not annotated."""

ROUNDING = 1e-3
"""How far the value of an id may lie from a whole number: files with floating numbers, or a slope and an intercept,
have such noise. An interpolated label lies further off, and is refused."""

LARGEST_ID = 2**24
"""Label files are read as float32, which holds every whole number up to this one."""


def whole_ids(values: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The ids that the values of a label file stand for.

    Args:
        values: any shape.

    Returns:
        The nearest ids, 0 for a value without an id; and which values have one: those within :py:data:`ROUNDING` of a
        whole number up to :py:data:`LARGEST_ID`. Both have the shape of ``values``.
    """
    values = values.astype(np.float64)
    nearest = np.rint(values)
    # a NaN and an infinity fail both comparisons
    with np.errstate(invalid="ignore"):
        whole = (np.abs(values - nearest) <= ROUNDING) & (np.abs(nearest) <= LARGEST_ID)
    return np.where(whole, nearest, 0).astype(np.int64), whole


def class_sizes(label: torch.Tensor, num_classes: int) -> torch.Tensor:
    """The number of voxels of every class.

    Args:
        label: class ids, any shape.
        num_classes: with the background.

    Returns:
        ``[num_classes]``, float32, exact up to 2**24 voxels.

    Raises:
        ValueError: when an id lies outside ``0 .. num_classes - 1``.
    """
    ids = label.flatten().long()
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= num_classes):
        raise ValueError(f"label ids must lie in 0..{num_classes - 1}, got {torch.unique(ids).tolist()}.")
    return torch.bincount(ids, minlength=num_classes).float()
