"""The connected components of a mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["component_sizes"]


def component_sizes(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Sizes of the connected components; voxels that share a corner are connected, as for MONAI's
    ``KeepLargestConnectedComponent``.

    Args:
        mask: of any shape.

    Returns:
        Voxels of each component; nothing for an empty mask.
    """
    labelled, _ = ndimage.label(mask, np.ones((3,) * mask.ndim))
    return np.bincount(labelled.ravel())[1:]
