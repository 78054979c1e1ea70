"""Common size bounds from the annotated few of a data list."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from sizeloss_monai.transforms.bounds.array import common_size_bounds

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
    num_cases: int | None = None,
    slice_wise: bool = True,
    unit: str = "voxels",
) -> list[list[float]]:
    """Common bounds measured from one named case, all cases of one named patient, or the first few cases, as the
    network sees them.

    Args:
        data: the training cases; of these only the named ones are read.
        transform: what prepares a case for training, so that bounds are in voxels of what the network sees.
        num_classes: including the background.
        name: of a case or a patient; None for the first ones, as ``num_cases`` says.
        label_key: key of the full annotation.
        lower_factor: times the smallest size of a positive slice (or volume).
        upper_factor: times the largest one.
        num_cases: where there is no name, the number of cases, the first ones; None for the first patient's.
        slice_wise: whether the bounds are those of slices, otherwise of whole volumes, whose sizes need several cases.
        unit: ``"voxels"``, or ``"mm"`` for mm² a slice (or mL a volume).

    Returns:
        ``[num_classes][2]`` bounds in that unit a slice (or volume).

    Raises:
        ValueError: when no case or patient has that name, ``num_cases`` is not among 1 and the number of cases, or a
            class is in none of the slices (or volumes).
    """
    if name is None and num_cases is not None:
        if not 1 <= num_cases <= len(data):
            raise ValueError(f"common bounds: num_cases must lie in 1..{len(data)}, found {num_cases}.")
        chosen = list(data[:num_cases])
    else:
        name = data[0]["patient"] if name is None else name
        chosen = [item for item in data if name in (item["case"], item.get("patient"))]
    if not chosen:
        raise ValueError(f"common bounds: no training case or patient is named {name!r}.")
    labels = [transform(item)[label_key] for item in chosen]
    bounds = common_size_bounds(labels, num_classes, lower_factor, upper_factor, slice_wise, unit)
    scope = "slice" if slice_wise else "volume"
    logger.info("common bounds measured from %s: %s %s a %s", [item["case"] for item in chosen], bounds, unit, scope)
    return bounds
