"""Weak labels made from full ones: eroded seeds, random discs, scribbles."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import ImageMetaKey, TransformBackends, convert_to_dst_type, convert_to_numpy, ensure_tuple
from scipy import ndimage

from sizeloss_monai.data.label_ids import DEFAULT_IGNORE_INDEX

__all__ = [
    "LabelToDiscSeed",
    "LabelToDiscSeedD",
    "LabelToDiscSeedDict",
    "LabelToDiscSeedd",
    "LabelToErodedSeed",
    "LabelToErodedSeedD",
    "LabelToErodedSeedDict",
    "LabelToErodedSeedd",
    "ScribbleToWeakLabel",
    "ScribbleToWeakLabelD",
    "ScribbleToWeakLabelDict",
    "ScribbleToWeakLabeld",
    "disc_seed",
    "eroded_seed",
    "seed_generator",
]


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


def _seed_classes(
    label: NdarrayOrTensor,
    ignore_index: int,
    make_seed: Callable[[np.ndarray, int, int], np.ndarray],
    slice_wise: bool = True,
) -> Any:
    """Apply ``make_seed(mask, index, class id)`` to every class of every slice along the last axis of 3D, or of all."""
    ids = convert_to_numpy(label)
    if ids.ndim not in (3, 4) or ids.shape[0] != 1:
        raise ValueError(f"label must have shape [1, H, W] or [1, H, W, D], found {list(ids.shape)}.")
    _check_ids(np.unique(ids), "label")
    weak = np.full(ids.shape, ignore_index, dtype=np.uint8)
    # views, so that what is written into a part is written into `weak`
    items = [(ids[0], weak[0])]
    if slice_wise and ids.ndim == 4:
        items = [(ids[0, ..., index], weak[0, ..., index]) for index in range(ids.shape[-1])]
    for index, (item, weak_item) in enumerate(items):
        for class_id in np.unique(item):
            if class_id != 0:
                weak_item[make_seed(item == class_id, index, int(class_id))] = class_id
    return _like(weak, label)


def _check_ids(found: np.ndarray, name: str) -> None:
    """Refuse what uint8 would silently turn into another class."""
    if not np.isin(found, np.arange(256)).all():
        raise ValueError(f"{name} must hold whole ids from 0 to 255, found {found.tolist()}.")


def _like(weak: np.ndarray, label: NdarrayOrTensor) -> Any:
    """Return ``weak`` as uint8 in the container of ``label``, its affine and applied operations kept."""
    out, *_ = convert_to_dst_type(weak, label, dtype=torch.uint8 if isinstance(label, torch.Tensor) else np.uint8)
    if isinstance(label, MetaTensor):
        out = MetaTensor(out).copy_meta_from(label)
    return out


class LabelToErodedSeed(Transform):
    """Weak label by erosion of every foreground class (Kervadec et al. 2019, section 4), slice by slice.

    The target is eroded by a square of 10 x 10 pixels; where that leaves nothing by 7 x 7, then by ever smaller
    ones, and where even the smallest leaves nothing its innermost pixel is kept. Background stays unannotated.

    Example:
        >>> label = torch.zeros(1, 20, 20, dtype=torch.uint8)
        >>> label[:, 3:17, 3:17] = 1
        >>> weak_label = LabelToErodedSeed()(label)
        >>> (weak_label == 1).sum().item()  # 14 - 9 pixels along each edge
        25
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, sizes: Sequence[int] = (10, 7, 6, 5, 4, 3, 2), ignore_index: int = DEFAULT_IGNORE_INDEX) -> None:
        """
        Args:
            sizes: edge lengths of the square elements in pixels, strictly decreasing.
            ignore_index: value of unannotated pixels.

        Raises:
            ValueError: when ``sizes`` is empty, not strictly decreasing or has an edge below 1.
        """
        if not sizes or min(sizes) < 1 or list(sizes) != sorted(set(sizes), reverse=True):
            raise ValueError(f"sizes must be strictly decreasing edge lengths >= 1, found {list(sizes)}.")
        self.sizes = tuple(sizes)
        self.ignore_index = ignore_index

    def __call__(self, label: NdarrayOrTensor) -> Any:
        """
        Args:
            label: class ids, shape ``[1, H, W]`` or ``[1, H, W, D]`` with slices along the last axis.

        Returns:
            Weak label, uint8, of the same shape and container.

        Raises:
            ValueError: when ``label`` is not of such a shape, or an id does not fit into uint8.
        """
        return _seed_classes(label, self.ignore_index, lambda mask, *_: eroded_seed(mask, self.sizes))


class LabelToDiscSeed(Transform):
    """Weak label by a random disc inside every foreground class (Kervadec et al. 2019, section 4), slice by slice.

    The centre is uniform in the target, the radius the largest that stays inside it, at most ``max_radius``. The
    disc depends on ``seed``, the case's name, the slice and the class only: the same in every epoch, worker and run.
    In 3D a single ball a class can take the place of a disc in every slice.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        max_radius: int = 4,
        seed: int = 0,
        ignore_index: int = DEFAULT_IGNORE_INDEX,
        slice_wise: bool = True,
    ) -> None:
        """
        Args:
            max_radius: in pixels, >= 0.
            seed: of the experiment, >= 0.
            ignore_index: value of unannotated pixels.
            slice_wise: whether a volume gets a disc a class in every slice, otherwise one ball a class in all of it;
                the ball's radius is in voxels, whatever their spacing.

        Raises:
            ValueError: when ``max_radius`` or ``seed`` is negative.
        """
        if max_radius < 0 or seed < 0:
            raise ValueError(f"max_radius and seed must be >= 0, found {max_radius} and {seed}.")
        self.max_radius = max_radius
        self.seed = seed
        self.ignore_index = ignore_index
        self.slice_wise = slice_wise

    def __call__(self, label: NdarrayOrTensor, case: str = "", first_slice: int = 0) -> Any:
        """
        Args:
            label: class ids, shape ``[1, H, W]`` or ``[1, H, W, D]`` with slices along the last axis.
            case: name of the case.
            first_slice: index, within its volume, of the first (or only) slice of ``label``.

        Returns:
            Weak label, uint8, of the same shape and container.

        Raises:
            ValueError: when ``label`` is not of such a shape, or an id does not fit into uint8.
        """

        def make_seed(mask: np.ndarray, index: int, class_id: int) -> np.ndarray:
            return disc_seed(mask, self.max_radius, seed_generator(self.seed, case, first_slice + index, class_id))

        return _seed_classes(label, self.ignore_index, make_seed, self.slice_wise)


class ScribbleToWeakLabel(Transform):
    """Weak label from scribbles drawn by a person, whose own id for unannotated pixels becomes ``ignore_index``."""

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]

    def __init__(self, unannotated: int, ignore_index: int = DEFAULT_IGNORE_INDEX) -> None:
        """
        Args:
            unannotated: value of unannotated pixels in the scribbles (ACDC scribbles: 4).
            ignore_index: value of unannotated pixels in the weak label.
        """
        self.unannotated = unannotated
        self.ignore_index = ignore_index

    def __call__(self, scribble: NdarrayOrTensor) -> Any:
        """
        Args:
            scribble: class ids and ``unannotated``, any shape.

        Returns:
            Weak label, uint8, of the same shape and container.

        Raises:
            ValueError: when a class already has the id ``ignore_index``, or an id does not fit into uint8.
        """
        ids = convert_to_numpy(scribble)
        found = np.setdiff1d(ids, [self.unannotated])  # which may be -1
        if self.ignore_index in found:
            raise ValueError(f"scribbles use the id {self.ignore_index}, which stands for unannotated here.")
        _check_ids(found, "scribbles")
        return _like(np.where(ids == self.unannotated, self.ignore_index, ids).astype(np.uint8), scribble)


class _WeakLabeld(MapTransform):
    """Write the weak label made from ``keys`` under ``output_keys``."""

    backend = LabelToErodedSeed.backend

    def __init__(self, keys: KeysCollection, output_keys: KeysCollection, converter: Callable[..., Any]) -> None:
        super().__init__(keys)
        self.output_keys = ensure_tuple(output_keys)
        if len(self.output_keys) != len(self.keys):
            raise ValueError(f"as many output_keys as keys are needed, found {self.output_keys} and {self.keys}.")
        self.converter = converter

    def _convert(self, label: Any, data: Mapping[Hashable, Any]) -> Any:
        return self.converter(label)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key, output_key in zip(self.keys, self.output_keys, strict=True):
            out[output_key] = self._convert(out[key], out)
        return out


class LabelToErodedSeedd(_WeakLabeld):
    """Dictionary-based version of :class:`LabelToErodedSeed`."""

    def __init__(
        self,
        keys: KeysCollection = "label",
        output_keys: KeysCollection = "weak_label",
        sizes: Sequence[int] = (10, 7, 6, 5, 4, 3, 2),
        ignore_index: int = DEFAULT_IGNORE_INDEX,
    ) -> None:
        """
        Args:
            keys: full annotations.
            output_keys: where the weak labels go.
            sizes: see :class:`LabelToErodedSeed`.
            ignore_index: value of unannotated pixels.
        """
        super().__init__(keys, output_keys, LabelToErodedSeed(sizes, ignore_index))


class LabelToDiscSeedd(_WeakLabeld):
    """Dictionary-based version of :class:`LabelToDiscSeed`; the case's name is read from ``case_key``."""

    def __init__(
        self,
        keys: KeysCollection = "label",
        output_keys: KeysCollection = "weak_label",
        max_radius: int = 4,
        seed: int = 0,
        ignore_index: int = DEFAULT_IGNORE_INDEX,
        case_key: str = "case",
        slice_key: str = "slice",
        slice_wise: bool = True,
    ) -> None:
        """
        Args:
            keys: full annotations.
            output_keys: where the weak labels go.
            max_radius: in pixels.
            seed: of the experiment.
            ignore_index: value of unannotated pixels.
            case_key: key of the case's name. Where it is absent, as in cases that MONAI Label hands over, the name of
                the label's file stands for it; one of them must be there, or every case would get the same discs.
            slice_key: key of the index of the (first) slice; 0 where the key is absent, as in whole volumes.
            slice_wise: see :class:`LabelToDiscSeed`.
        """
        super().__init__(keys, output_keys, LabelToDiscSeed(max_radius, seed, ignore_index, slice_wise))
        self.case_key = case_key
        self.slice_key = slice_key

    def _convert(self, label: Any, data: Mapping[Hashable, Any]) -> Any:
        file = getattr(label, "meta", {}).get(ImageMetaKey.FILENAME_OR_OBJ)
        case = Path(file).name if self.case_key not in data and file else data[self.case_key]
        return self.converter(label, case=case, first_slice=int(data.get(self.slice_key, 0)))


class ScribbleToWeakLabeld(_WeakLabeld):
    """Dictionary-based version of :class:`ScribbleToWeakLabel`."""

    def __init__(
        self,
        keys: KeysCollection,
        unannotated: int,
        output_keys: KeysCollection = "weak_label",
        ignore_index: int = DEFAULT_IGNORE_INDEX,
    ) -> None:
        """
        Args:
            keys: scribbles.
            unannotated: value of unannotated pixels in the scribbles.
            output_keys: where the weak labels go.
            ignore_index: value of unannotated pixels in the weak label.
        """
        super().__init__(keys, output_keys, ScribbleToWeakLabel(unannotated, ignore_index))


LabelToErodedSeedD = LabelToErodedSeedDict = LabelToErodedSeedd
LabelToDiscSeedD = LabelToDiscSeedDict = LabelToDiscSeedd
ScribbleToWeakLabelD = ScribbleToWeakLabelDict = ScribbleToWeakLabeld
