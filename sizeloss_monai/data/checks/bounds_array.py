"""A check of bounds as an array, which configs give."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from sizeloss_monai.data.findings import DataError

__all__ = ["check_bounds"]


def check_bounds(bounds: ArrayLike | torch.Tensor, num_classes: int | None = None, name: str = "size_bounds") -> None:
    """Check bounds of sizes.

    Args:
        bounds: lower and upper bound of every class, ``[C, 2]`` in any unit; an upper bound may be infinite.
        num_classes: `C`, or ``None`` for any number.
        name: what to call the bounds in the message.

    Raises:
        DataError: if the shape is wrong, a bound is NaN or negative, a lower bound is infinite or greater than its
            upper bound.
    """
    problems = _problems(bounds, num_classes)
    if problems:
        raise DataError("; ".join(f"{name}: {problem}" for problem in problems))


def _problems(bounds: Any, num_classes: int | None) -> list[str]:
    """What is wrong with bounds."""
    try:
        array = np.asarray(bounds.detach().cpu() if isinstance(bounds, torch.Tensor) else bounds, dtype=np.float64)
    except (TypeError, ValueError):
        return ["found no array of numbers, expected [C, 2]"]
    if array.ndim != 2 or array.shape[1] != 2 or num_classes not in (None, len(array)):
        return [f"found shape {list(array.shape)}, expected [{'C' if num_classes is None else num_classes}, 2]"]
    problems = []
    for index, (lower, upper) in enumerate(array.tolist()):
        found = f"found ({lower:g}, {upper:g}) for class {index}, expected "
        if np.isnan(lower) or np.isnan(upper):
            problems.append(found + "numbers")
        elif lower < 0 or upper < 0 or np.isinf(lower):
            problems.append(found + "0 <= lower < inf and upper >= 0")
        elif lower > upper:
            problems.append(found + "lower <= upper")
    return problems
