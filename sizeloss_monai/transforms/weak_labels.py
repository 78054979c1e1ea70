"""Weak labels from full ones (eroded seeds, random discs) and from scribbles."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import Transform
from monai.utils import ImageMetaKey, TransformBackends, convert_to_dst_type, convert_to_numpy
from scipy import ndimage

from sizeloss_monai.data.label_ids import DEFAULT_IGNORE_INDEX
from sizeloss_monai.errors import check_option
from sizeloss_monai.options import Per
from sizeloss_monai.transforms.geometry import DerivedKeyd

__all__ = ["disc_seed", "eroded_seed", "seed_generator"]
__all__ += ["LabelToDiscSeed", "LabelToDiscSeedD", "LabelToDiscSeedDict", "LabelToDiscSeedd"]
__all__ += ["LabelToErodedSeed", "LabelToErodedSeedD", "LabelToErodedSeedDict", "LabelToErodedSeedd"]
__all__ += ["ScribbleToWeakLabel", "ScribbleToWeakLabelD", "ScribbleToWeakLabelDict", "ScribbleToWeakLabeld"]

EROSIONS = (10, 7, 6, 5, 4, 3, 2)


def _depth(mask: np.ndarray) -> np.ndarray:
    """Euclidean distance in pixels to the nearest pixel outside the mask; all outside the image is outside the mask."""
    return ndimage.distance_transform_edt(np.pad(mask, 1))[(slice(1, -1),) * mask.ndim]


def eroded_seed(mask: np.ndarray, sizes: Sequence[int] = EROSIONS) -> np.ndarray:
    """Erode by the first square element that leaves something (Kervadec et al. 2019, section 4).

    Args:
        mask: boolean, shape ``[*spatial]``.
        sizes: edge lengths of the elements in pixels, tried in order.

    Returns:
        A subset of ``mask``, empty only where ``mask`` is: the innermost pixel where every element removes all of it.
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
        The disc, a subset of ``mask``, empty only where ``mask`` is.
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
    """A random generator that depends on its arguments alone: the experiment's seed, a case, and slice and class."""
    return np.random.default_rng([seed, zlib.crc32(case.encode()), *indices])


def _seed_classes(
    label: NdarrayOrTensor, ignore_index: int, make_seed: Callable[[np.ndarray, int, int], np.ndarray], per: Per
) -> Any:
    """Apply ``make_seed(mask, index, class id)`` to every class of each slice (last axis), or of the volume."""
    ids = convert_to_numpy(label)
    if ids.ndim not in (3, 4) or ids.shape[0] != 1:
        raise ValueError(f"label must have shape [1, H, W] or [1, H, W, D], got {list(ids.shape)}.")
    _check_ids(np.unique(ids), "label")
    weak = np.full(ids.shape, ignore_index, dtype=np.uint8)
    items = [(ids[0], weak[0])]  # views: writing into a part writes into `weak`
    if per == "slice" and ids.ndim == 4:
        items = [(ids[0, ..., index], weak[0, ..., index]) for index in range(ids.shape[-1])]
    for index, (item, weak_item) in enumerate(items):
        for class_id in np.unique(item):
            if class_id != 0:
                weak_item[make_seed(item == class_id, index, int(class_id))] = class_id
    return _like(weak, label)


def _check_ids(found: np.ndarray, name: str) -> None:
    """Refuse ids that uint8 would silently turn into another class."""
    if not np.isin(found, np.arange(256)).all():
        raise ValueError(f"{name} must hold whole ids from 0 to 255, got {found.tolist()}.")


def _like(weak: np.ndarray, label: NdarrayOrTensor) -> Any:
    """``weak`` as uint8 in the container of ``label``, with its affine and applied operations."""
    out, *_ = convert_to_dst_type(weak, label, dtype=torch.uint8 if isinstance(label, torch.Tensor) else np.uint8)
    if isinstance(label, MetaTensor):
        out = MetaTensor(out).copy_meta_from(label)
    return out


class LabelToErodedSeed(Transform):
    """Weak label by erosion of every foreground class (Kervadec et al. 2019, section 4), slice by slice.

    A square of 10 x 10 pixels erodes the target; where that leaves nothing, 7 x 7, then ever smaller squares. Where
    even the smallest one leaves nothing, the innermost pixel stays. Background stays unannotated.

    Args:
        sizes: edge lengths of the squares in pixels, strictly decreasing.
        ignore_index: value of unannotated pixels.

    Raises:
        ValueError: when ``sizes`` is empty, not strictly decreasing, or has an edge below 1.

    Example:
        >>> label = torch.zeros(1, 20, 20, dtype=torch.uint8)
        >>> label[:, 3:17, 3:17] = 1
        >>> weak_label = LabelToErodedSeed()(label)
        >>> (weak_label == 1).sum().item()  # 14 - 9 pixels along each edge
        25
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, sizes: Sequence[int] = EROSIONS, ignore_index: int = DEFAULT_IGNORE_INDEX) -> None:
        if not sizes or min(sizes) < 1 or list(sizes) != sorted(set(sizes), reverse=True):
            raise ValueError(f"sizes must be strictly decreasing edge lengths >= 1, got {list(sizes)}.")
        self.sizes = tuple(sizes)
        self.ignore_index = ignore_index

    def __call__(self, label: NdarrayOrTensor) -> Any:
        """
        Args:
            label: class ids, shape ``[1, H, W]`` or ``[1, H, W, D]`` with slices along the last axis.

        Returns:
            Weak label, uint8, same shape and container.

        Raises:
            ValueError: when ``label`` has another shape, or an id does not fit into uint8.
        """
        return _seed_classes(label, self.ignore_index, lambda mask, *_: eroded_seed(mask, self.sizes), "slice")


class LabelToDiscSeed(Transform):
    """Weak label by a random disc inside every foreground class (Kervadec et al. 2019, section 4).

    The centre is uniform in the target, the radius the largest that stays inside it, at most ``max_radius``. Seed,
    name of the case, slice and class decide the disc: every epoch, worker and run draws the same.

    Args:
        max_radius: in pixels, >= 0.
        seed: of the experiment, >= 0.
        ignore_index: value of unannotated pixels.
        per: ``"slice"`` for a disc per class and slice, ``"volume"`` for one ball per class, whose radius is in voxels
            whatever their spacing.

    Raises:
        ValueError: when ``max_radius`` or ``seed`` is negative, or ``per`` is unknown.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self, max_radius: int = 4, seed: int = 0, ignore_index: int = DEFAULT_IGNORE_INDEX, per: Per = "slice"
    ) -> None:
        if max_radius < 0 or seed < 0:
            raise ValueError(f"max_radius and seed must be >= 0, got {max_radius} and {seed}.")
        check_option("per", per, Per)
        self.max_radius = max_radius
        self.seed = seed
        self.ignore_index = ignore_index
        self.per = per

    def __call__(self, label: NdarrayOrTensor, case: str = "", first_slice: int = 0) -> Any:
        """As :class:`LabelToErodedSeed`.

        Args:
            label: class ids, shape ``[1, H, W]`` or ``[1, H, W, D]`` with slices along the last axis.
            case: name of the case.
            first_slice: index, within its volume, of the first (or only) slice of ``label``.
        """

        def make_seed(mask: np.ndarray, index: int, class_id: int) -> np.ndarray:
            return disc_seed(mask, self.max_radius, seed_generator(self.seed, case, first_slice + index, class_id))

        return _seed_classes(label, self.ignore_index, make_seed, self.per)


class ScribbleToWeakLabel(Transform):
    """Weak label from a person's scribbles, whose id for unannotated pixels becomes ``ignore_index``.

    Args:
        unannotated: value of unannotated pixels in the scribbles (ACDC scribbles: 4).
        ignore_index: value of unannotated pixels in the weak label.
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]

    def __init__(self, unannotated: int, ignore_index: int = DEFAULT_IGNORE_INDEX) -> None:
        self.unannotated = unannotated
        self.ignore_index = ignore_index

    def __call__(self, scribble: NdarrayOrTensor) -> Any:
        """
        Args:
            scribble: class ids and ``unannotated``, any shape.

        Returns:
            Weak label, uint8, same shape and container.

        Raises:
            ValueError: when a class has the id ``ignore_index``, or an id does not fit into uint8.
        """
        ids = convert_to_numpy(scribble)
        found = np.setdiff1d(ids, [self.unannotated])  # which may be -1
        if self.ignore_index in found:
            raise ValueError(f"scribbles must not hold the id {self.ignore_index}, which means unannotated.")
        _check_ids(found, "scribbles")
        return _like(np.where(ids == self.unannotated, self.ignore_index, ids).astype(np.uint8), scribble)


class LabelToErodedSeedd(DerivedKeyd):
    """Dictionary form of :class:`LabelToErodedSeed`, which explains the other arguments.

    Args:
        keys: of the full annotations.
        output_keys: where the weak labels go.
    """

    backend = LabelToErodedSeed.backend

    def __init__(
        self,
        keys: KeysCollection = "label",
        output_keys: KeysCollection = "weak_label",
        sizes: Sequence[int] = EROSIONS,
        ignore_index: int = DEFAULT_IGNORE_INDEX,
    ) -> None:
        super().__init__(keys, output_keys, LabelToErodedSeed(sizes, ignore_index))


class LabelToDiscSeedd(DerivedKeyd):
    """Dictionary form of :class:`LabelToDiscSeed`, which explains the other arguments.

    Args:
        keys: of the full annotations.
        output_keys: where the weak labels go.
        case_key: of the case's name. In an item without it, such as MONAI Label hands over, the name of the label's
            file replaces it; an item with neither raises KeyError, or all cases would share their discs.
        slice_key: of the index of the (first) slice; an item without it, a whole volume, starts at 0.
    """

    backend = LabelToDiscSeed.backend

    def __init__(
        self,
        keys: KeysCollection = "label",
        output_keys: KeysCollection = "weak_label",
        max_radius: int = 4,
        seed: int = 0,
        ignore_index: int = DEFAULT_IGNORE_INDEX,
        case_key: str = "case",
        slice_key: str = "slice",
        per: Per = "slice",
    ) -> None:
        super().__init__(keys, output_keys, LabelToDiscSeed(max_radius, seed, ignore_index, per))
        self.case_key = case_key
        self.slice_key = slice_key

    def convert(self, value: Any, data: Mapping[Hashable, Any]) -> Any:
        """The weak label of ``value``."""
        file = getattr(value, "meta", {}).get(ImageMetaKey.FILENAME_OR_OBJ)
        case = Path(file).name if self.case_key not in data and file else data[self.case_key]
        return self.converter(value, case=case, first_slice=int(data.get(self.slice_key, 0)))


class ScribbleToWeakLabeld(DerivedKeyd):
    """Dictionary form of :class:`ScribbleToWeakLabel`, which explains the other arguments.

    Args:
        keys: of the scribbles.
        output_keys: where the weak labels go.
    """

    backend = ScribbleToWeakLabel.backend

    def __init__(
        self,
        keys: KeysCollection,
        unannotated: int,
        output_keys: KeysCollection = "weak_label",
        ignore_index: int = DEFAULT_IGNORE_INDEX,
    ) -> None:
        super().__init__(keys, output_keys, ScribbleToWeakLabel(unannotated, ignore_index))


LabelToErodedSeedD = LabelToErodedSeedDict = LabelToErodedSeedd
LabelToDiscSeedD = LabelToDiscSeedDict = LabelToDiscSeedd
ScribbleToWeakLabelD = ScribbleToWeakLabelDict = ScribbleToWeakLabeld
