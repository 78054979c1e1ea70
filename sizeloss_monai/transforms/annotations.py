"""What a person annotated, as targets of the losses."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from itertools import product
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform

from sizeloss_monai.data.label_ids import DEFAULT_IGNORE_INDEX
from sizeloss_monai.transforms.voxel_size import VoxelSize

__all__ = [
    "AnnotatedCornersD",
    "AnnotatedCornersDict",
    "AnnotatedCornersd",
    "AnnotatedInsideD",
    "AnnotatedInsideDict",
    "AnnotatedInsided",
    "AnnotationToTargetsD",
    "AnnotationToTargetsDict",
    "AnnotationToTargetsd",
]


class AnnotationToTargetsd(Transform):
    """Make the weak label complete and turn size bounds and tags into bounds of every slice.

    An item without a weak label gets one in which nothing is annotated. A bound is (lower, upper) in mm² for bounds per
    slice, in mL for bounds per volume:

    ===========================  ==============================  ==============================================
    a slice of which it is       bounds per slice ``(a, b)``     bounds per volume ``(a, b)``
    ===========================  ==============================  ==============================================
    known that the class         ``(max(a, 1 voxel), b)``        its share ``(a / m, b / m)``, m being the
    is in it                                                     number of slices not known to lack the class
    unknown                      ``(0, b)``                      the same share
    known that it is not         ``(0, 0)``                      ``(0, 0)``
    ===========================  ==============================  ==============================================

    The shares of all slices add up to the volume's bounds, which is how
    :class:`~sizeloss_monai.constraints.VolumeSizeConstraintLoss` takes them. The lower bound of a volume that is known
    to hold the class is one voxel at least. A slice is known to hold a class where it has voxels annotated as that
    class, or a tag lists it; known to lack it where the tag is false or does not list it. With ``slice_wise`` false
    the item keeps one pair a class, for networks that see whole volumes.

    Apply it before anything that changes the number of slices or the voxels' size; bounds in voxels are those of the
    file. A case of which every voxel is annotated (``complete``) needs no bounds, ``(0, inf)``; what its mask leaves
    unpainted is background.
    """

    def __init__(
        self,
        image_key: str = "image",
        weak_label_key: str = "weak_label",
        annotation_key: str = "annotation",
        bounds_key: str = "size_bounds",
        ignore_index: int = DEFAULT_IGNORE_INDEX,
        scribbles_complete: bool = False,
        slice_wise: bool = True,
    ) -> None:
        """
        Args:
            image_key: of the scan, ``MetaTensor`` ``[C, H, W, D]``, slices along the last axis.
            weak_label_key: of the weak label, class ids and ``ignore_index``, ``[1, H, W, D]``; may be absent.
            annotation_key: of the :class:`~sizeloss_monai.datalist.Annotation`; taken out of the item.
            bounds_key: where the bounds go.
            ignore_index: value of unannotated voxels.
            scribbles_complete: whether whoever annotated a voxel of a slice has marked every class that is in the
                slice, so that a class without a mark is not in it, unless a tag lists the slice.
            slice_wise: whether there are bounds for each slice.
        """
        self.image_key = image_key
        self.weak_label_key = weak_label_key
        self.annotation_key = annotation_key
        self.bounds_key = bounds_key
        self.ignore_index = ignore_index
        self.scribbles_complete = scribbles_complete
        self.slice_wise = slice_wise

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: an item as :func:`~sizeloss_monai.datalist.annotated_items` makes it, loaded.

        Returns:
            A copy with weak label and bounds, float32, ``[num_classes, 2, D]`` (``[num_classes, 2]`` where not
            ``slice_wise``).

        Raises:
            ValueError: when a tag lists a slice that the volume does not have, or says that a class is there while
                ``scribbles_complete`` rules it out in every slice.
        """
        out = dict(data)
        image, annotation = out[self.image_key], out.pop(self.annotation_key)
        if self.weak_label_key not in out:
            out[self.weak_label_key] = torch.full_like(image[:1], self.ignore_index, dtype=torch.uint8)
        if annotation.complete:
            weak_label = out[self.weak_label_key]
            out[self.weak_label_key] = torch.where(weak_label == self.ignore_index, 0, weak_label)
        weak_label = torch.as_tensor(out[self.weak_label_key])
        voxel = float(VoxelSize(annotation.per)(image))
        bounds = torch.tensor(annotation.bounds, dtype=torch.float32)
        if annotation.unit == "voxels":
            bounds = bounds * voxel
        num_slices = weak_label.shape[-1]
        result = torch.zeros(len(bounds), 2, num_slices)
        result[:, 1] = math.inf
        for class_id in range(1, len(bounds)):
            if annotation.complete:
                break
            tag = annotation.tags.get(class_id)
            present = (weak_label == class_id).flatten(0, 2).any(dim=0)
            if isinstance(tag, tuple):
                present = present | _listed(tag, num_slices, str(out.get("case")))
            absent = self._absent(tag, weak_label, present)
            if tag is True and bool(absent.all()):
                raise ValueError(
                    f"case '{out.get('case')}', key 'tags': found true for class {class_id}, but every slice is "
                    "annotated and none with it, expected it in some slice, or scribbles_complete False."
                )
            lower, upper = bounds[class_id].tolist()
            known = tag is True or bool(present.any())
            if annotation.per == "volume":
                share = max(int((~absent).sum()), 1)
                lower = max(lower, voxel if known else 0.0)
                result[class_id, 0], result[class_id, 1] = lower / share, upper / share
            else:
                result[class_id, 0] = torch.where(present, max(lower, voxel), 0.0)
                result[class_id, 1] = upper
            result[class_id, :, absent] = 0.0
        out[self.bounds_key] = result if self.slice_wise else result.sum(dim=-1)
        return out

    def _absent(self, tag: Any, weak_label: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """Which slices are known to lack a class, ``[D]``; of those known to hold it, ``present``, none."""
        absent = torch.full_like(present, tag is False or isinstance(tag, tuple))
        if self.scribbles_complete:
            absent = absent | (weak_label != self.ignore_index).flatten(0, 2).any(dim=0)
        return absent & ~present


def _listed(tag: tuple[int, ...], num_slices: int, case: str) -> torch.Tensor:
    """Which slices a tag lists, ``[D]``."""
    if max(tag, default=-1) >= num_slices:
        raise ValueError(f"case '{case}', key 'tags': found slice {max(tag)}, expected below {num_slices}.")
    listed = torch.zeros(num_slices, dtype=torch.bool)
    listed[list(tag)] = True
    return listed


AnnotationToTargetsD = AnnotationToTargetsDict = AnnotationToTargetsd


CORNERS_KEY = "annotated_corners"


class AnnotatedCornersd(MapTransform):
    """Note where the annotated voxels of the foreground are: the corners of their box, in world coordinates.

    :class:`AnnotatedInsided`, after a crop, refuses one that cuts the target.
    """

    def __init__(
        self,
        keys: KeysCollection = "weak_label",
        output_key: str = CORNERS_KEY,
        ignore_index: int = DEFAULT_IGNORE_INDEX,
    ) -> None:
        """
        Args:
            keys: one key, of the weak label, ``[1, H, W, D]``; a ``MetaTensor``, unless nothing is annotated in it.
            output_key: where the corners go, float64 ``[8, 3]`` in mm, ``[0, 3]`` where no foreground is annotated.
            ignore_index: value of unannotated voxels.
        """
        super().__init__(keys)
        self.output_key = output_key
        self.ignore_index = ignore_index

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: an item.

        Returns:
            A copy with the corners.
        """
        out = dict(data)
        label = out[self.keys[0]]
        voxels = torch.nonzero(torch.as_tensor((label[0] != 0) & (label[0] != self.ignore_index))).double()
        corners = torch.zeros(0, 3, dtype=torch.float64)
        if len(voxels):
            ends = torch.stack([voxels.amin(dim=0), voxels.amax(dim=0)])
            corners = torch.stack([ends[list(choice), range(3)] for choice in product((0, 1), repeat=3)])
            corners = _transformed(corners, label.affine)
        out[self.output_key] = corners
        return out


class AnnotatedInsided(MapTransform):
    """Refuse an image that a crop has cut the annotated target from; takes out what :class:`AnnotatedCornersd` noted.

    Bounds in mm² or mL would not hold for what is left.
    """

    def __init__(self, keys: KeysCollection = "image", corners_key: str = CORNERS_KEY) -> None:
        """
        Args:
            keys: one key, of the image, ``MetaTensor`` ``[C, H, W, D]``.
            corners_key: of the corners.
        """
        super().__init__(keys)
        self.corners_key = corners_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: an item.

        Returns:
            A copy without the corners.

        Raises:
            ValueError: when annotated voxels are outside the image.
        """
        out = dict(data)
        image, corners = out[self.keys[0]], out.pop(self.corners_key)
        if len(corners):
            indices = _transformed(corners, torch.linalg.inv(image.affine.double()))
            shape = torch.tensor(image.shape[1:])
            # a voxel reaches half a voxel beyond its centre
            if (indices < -0.5 - 1e-3).any() or (indices > shape - 0.5 + 1e-3).any():
                low, high = indices.amin(dim=0).round().int().tolist(), indices.amax(dim=0).round().int().tolist()
                raise ValueError(
                    f"case '{out.get('case')}', key '{self.keys[0]}': found annotated voxels from {low} to {high} in "
                    f"an image of {shape.tolist()} voxels, expected all inside: a crop cuts the target, so that its "
                    "size bounds do not hold; use a larger one."
                )
        return out


def _transformed(points: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """Points ``[N, 3]`` under an affine ``[4, 4]``."""
    matrix = torch.as_tensor(affine).as_subclass(torch.Tensor).double()
    return points @ matrix[:3, :3].T + matrix[:3, 3]


AnnotatedCornersD = AnnotatedCornersDict = AnnotatedCornersd
AnnotatedInsideD = AnnotatedInsideDict = AnnotatedInsided
