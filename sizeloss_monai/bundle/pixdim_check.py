"""A check of the size of pixels that scans are resampled to."""

from __future__ import annotations

import math
from typing import Any

from sizeloss_monai.bundle.config_check import ConfigError

__all__ = ["check_pixdim"]


def check_pixdim(pixdim: Any) -> None:
    """Raise where the size of a voxel is not three numbers. For a config's ``initialize``.

    Args:
        pixdim: in mm; one that is negative keeps the scan's own.

    Raises:
        ConfigError: when it is anything else.
    """
    numbers = list(pixdim) if isinstance(pixdim, (list, tuple)) else []
    if len(numbers) != 3 or not all(isinstance(x, (int, float)) and math.isfinite(x) and x != 0 for x in numbers):
        found = list(pixdim) if isinstance(pixdim, tuple) else pixdim
        raise ConfigError(
            f"pixdim: found {found!r}, expected three numbers in mm, such as [1.5, 1.5, -1.0], of which the last, "
            "-1.0, keeps the spacing between slices."
        )
