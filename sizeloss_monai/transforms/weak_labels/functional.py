"""Seeds inside a mask: what an annotator who marks a few pixels of a target would draw."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

__all__ = ["disc_seed", "eroded_seed", "seed_generator"]


def _depth(mask: np.ndarray) -> np.ndarray:
    """Euclidean distance in pixels to the nearest pixel outside the mask; outside the image is outside the mask."""
    return ndimage.distance_transform_edt(np.pad(mask, 1))[(slice(1, -1),) * mask.ndim]


def eroded_seed(mask: np.ndarray, sizes: Sequence[int] = (10, 7, 6, 5, 4, 3, 2)) -> np.ndarray:
    """Erode by the first square element that leaves something (Kervadec et al. 2019, section 4).

    Args:
        mask: boolean, shape ``[*spatial]``.
        sizes: edge lengths of the elements in pixels, tried in order.

    Returns:
        A subset of ``mask``: not empty unless ``mask`` is. Where every element removes all of it, the innermost pixel.
    """
    for size in sizes:
        eroded = ndimage.binary_erosion(mask, np.ones((size,) * mask.ndim, dtype=bool))
        if eroded.any():
            return eroded
    seed = np.zeros_like(mask)
    if mask.any():
        seed[np.unravel_index(np.argmax(_depth(mask)), mask.shape)] = True
    return seed


def disc_seed(mask: np.ndarray, max_radius: int, generator: np.random.Generator) -> np.ndarray:
    """A random disc inside the mask: its centre uniform in the mask, its radius the largest that fits.

    Args:
        mask: boolean, shape ``[*spatial]``.
        max_radius: largest radius in pixels; radii are whole numbers, 0 is the centre alone.
        generator: source of randomness.

    Returns:
        The disc, a subset of ``mask``: not empty unless ``mask`` is.
    """
    seed = np.zeros_like(mask)
    inside = np.argwhere(mask)
    if len(inside) == 0:
        return seed
    centre = inside[generator.integers(len(inside))]
    # the nearest pixel outside lies at `depth`: every whole radius below it fits
    radius = min(max_radius, int(np.ceil(_depth(mask)[tuple(centre)])) - 1)
    grid = np.ogrid[tuple(slice(0, n) for n in mask.shape)]
    squared_distance = sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True))
    return np.asarray(squared_distance <= radius**2)


def seed_generator(seed: int, case: str, *indices: int) -> np.random.Generator:
    """Random generator that depends on nothing but its arguments: no order, worker or process.

    Args:
        seed: of the experiment.
        case: name of the case.
        indices: further parts of the identity, such as slice and class.
    """
    return np.random.default_rng([seed, zlib.crc32(case.encode()), *indices])
