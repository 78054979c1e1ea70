"""Which classes a constraint holds for."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["check_classes"]


def check_classes(classes: Sequence[int], num_classes: int | None = None) -> list[int]:
    """Check the classes that somebody wants to constrain.

    Args:
        classes: their ids.
        num_classes: of the network, including the background; None where it is not known yet.

    Returns:
        The ids, in the order given.

    Raises:
        ValueError: when there is none, one is repeated, negative, or not below ``num_classes``.
    """
    found = list(classes)
    end = math.inf if num_classes is None else num_classes
    if not found or len(set(found)) != len(found) or not all(0 <= class_id < end for class_id in found):
        allowed = ">= 0" if num_classes is None else f"in 0..{num_classes - 1}"
        raise ValueError(f"classes must be distinct class ids {allowed}, at least one, found {found}.")
    return found
