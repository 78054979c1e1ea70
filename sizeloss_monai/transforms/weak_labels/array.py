"""Array transforms from full annotations or scribbles to weak labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_numpy

from sizeloss_monai.transforms.weak_labels.functional import disc_seed, eroded_seed, seed_generator

__all__ = ["LabelToDiscSeed", "LabelToErodedSeed", "ScribbleToWeakLabel"]

DEFAULT_IGNORE_INDEX = 255


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
