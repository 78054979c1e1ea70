"""Common size bounds from one annotated patient of a data list."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from sizeloss_monai.transforms import common_size_bounds

__all__ = ["measure_common_bounds"]

logger = logging.getLogger(__name__)


def measure_common_bounds(
    data: Sequence[dict[str, Any]],
    transform: Callable[[Any], Any],
    num_classes: int,
    name: str | None = None,
    label_key: str = "label",
    lower_factor: float = 0.9,
    upper_factor: float = 1.1,
) -> list[list[float]]:
    """Common bounds measured from one named case, or all cases of one named patient, as the network sees them.

    Args:
        data: the training cases; of these only the named ones are read.
        transform: what prepares a case for training, so that bounds are in voxels of what the network sees.
        num_classes: including the background.
        name: of a case or a patient; None for the patient of the first case.
        label_key: key of the full annotation.
        lower_factor: times the smallest size of a positive slice.
        upper_factor: times the largest one.

    Returns:
        ``[num_classes][2]`` bounds in voxels a slice.

    Raises:
        ValueError: when no case or patient has that name, or a class is in none of its slices.
    """
    if name is None:
        name = data[0]["patient"]
    chosen = [item for item in data if name in (item["case"], item.get("patient"))]
    if not chosen:
        raise ValueError(f"common bounds: no training case or patient is named {name!r}.")
    labels = [transform(item)[label_key] for item in chosen]
    bounds = common_size_bounds(labels, num_classes, lower_factor, upper_factor)
    logger.info("common bounds measured from %s: %s voxels a slice", name, bounds)
    return bounds
