"""Annotations of a case as targets of the losses."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from itertools import product
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform

from sizeloss_monai.data.label_ids import DEFAULT_IGNORE_INDEX
from sizeloss_monai.errors import check_option
from sizeloss_monai.options import Per
from sizeloss_monai.transforms.geometry import VoxelSize

__all__ = ["AnnotatedCornersD", "AnnotatedCornersDict", "AnnotatedCornersd"]
__all__ += ["AnnotatedInsideD", "AnnotatedInsideDict", "AnnotatedInsided"]
__all__ += ["AnnotationToTargetsD", "AnnotationToTargetsDict", "AnnotationToTargetsd"]
__all__ += ["SupervisionToTargetsD", "SupervisionToTargetsDict", "SupervisionToTargetsd"]


class AnnotationToTargetsd(Transform):
    """Complete the weak label, and turn size bounds and tags into bounds of every slice.

    An item without a weak label gets one without annotated voxels. Bounds ``(a, b)`` per slice become mm², bounds per
    volume mL:

    =======================  =========================  =================================================
    the class in the slice   bounds per slice           bounds per volume
    =======================  =========================  =================================================
    known to be present      ``(max(a, 1 voxel), b)``   the share ``(a / m, b / m)``; m is the number of
                                                        slices not known to lack the class
    unknown                  ``(0, b)``                 the same share
    known to be absent       ``(0, 0)``                 ``(0, 0)``
    =======================  =========================  =================================================

    The shares of all slices add up to the volume's bounds, as
    :class:`~sizeloss_monai.constraints.VolumeSizeConstraintLoss` takes them. A volume known to hold the class has a
    lower bound of at least one voxel. A class is known to be present where a slice has voxels annotated as it, or a tag
    lists the slice. It is known to be absent where the tag is false or does not list the slice.

    Apply it before anything that changes the number of slices or the voxels' size; bounds in voxels count those of the
    file. A case whose every voxel is annotated (``complete``) gets ``(0, inf)``; what its mask leaves unpainted becomes
    background.

    Args:
        image_key: of the scan, ``MetaTensor`` ``[C, H, W, D]``, slices along the last axis.
        weak_label_key: of the weak label, class ids and ``ignore_index``, ``[1, H, W, D]``; may be absent.
        annotation_key: of the :class:`~sizeloss_monai.datalist.Annotation`, which the transform takes out of the item.
        bounds_key: where the bounds go, float32.
        ignore_index: value of unannotated voxels.
        scribbles_complete: whether every class of an annotated slice has a mark in it, so that a class without a mark
            is absent, unless a tag lists the slice.
        per: ``"slice"`` for bounds of every slice, ``[num_classes, 2, D]``; ``"volume"`` for one pair per class,
            ``[num_classes, 2]``, for networks that see whole volumes.
    """

    def __init__(
        self,
        image_key: str = "image",
        weak_label_key: str = "weak_label",
        annotation_key: str = "annotation",
        bounds_key: str = "size_bounds",
        ignore_index: int = DEFAULT_IGNORE_INDEX,
        scribbles_complete: bool = False,
        per: Per = "slice",
    ) -> None:
        check_option("per", per, Per)
        self.image_key = image_key
        self.weak_label_key = weak_label_key
        self.annotation_key = annotation_key
        self.bounds_key = bounds_key
        self.ignore_index = ignore_index
        self.scribbles_complete = scribbles_complete
        self.per = per

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: a loaded item of :func:`~sizeloss_monai.datalist.annotated_items`.

        Returns:
            A copy with weak label and bounds.

        Raises:
            ValueError: when a tag lists a slice beyond the volume, or says that a class is present while
                ``scribbles_complete`` excludes it from every slice.
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
        for class_id in range(1, 1 if annotation.complete else len(bounds)):
            tag = annotation.tags.get(class_id)
            present = (weak_label == class_id).flatten(0, 2).any(dim=0)
            if isinstance(tag, tuple):
                present = present | _listed(tag, num_slices, str(out.get("case")))
            absent = self._absent(tag, weak_label, present)
            if tag is True and bool(absent.all()):
                raise ValueError(
                    f"case '{out.get('case')}', key 'tags': found true for class {class_id}, but every slice is "
                    "annotated without it; expected it in some slice, or scribbles_complete False."
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
        out[self.bounds_key] = result if self.per == "slice" else result.sum(dim=-1)
        return out

    def _absent(self, tag: Any, weak_label: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """Which slices are known to lack a class, ``[D]``; never those where it is ``present``."""
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


class SupervisionToTargetsd(Transform):
    """Change weak label and size bounds as an item's mark says, so that one loss serves differently annotated cases.

    ==========  ===========================  =====================================================================
    mark        weak label                   size bounds
    ==========  ===========================  =====================================================================
    ``full``    the full annotation          ``(0, inf)``
    ``weak``    unchanged                    unchanged
    ``tags``    no annotated voxels          ``(1, |Omega|)`` of a present class, ``(0, 0)`` of an absent one
    ==========  ===========================  =====================================================================

    Apply it last, to items with weak label and bounds. Train with a cross-entropy with ``per_item=True``; otherwise the
    fully annotated items of a batch outweigh the others.

    Args:
        supervision_key: of the mark; an item without it is ``weak``.
        label_key: of the full annotation, class ids, shape ``[1, *spatial]``; only ``full`` needs it.
        weak_label_key: of the weak label, same shape.
        bounds_key: of the size bounds, shape ``[C, 2]``.
        voxel_size_key: of the size of a voxel in the bounds' unit, a scalar; an item without it has bounds in voxels.
        ignore_index: value of unannotated voxels.
    """

    def __init__(
        self,
        supervision_key: str = "supervision",
        label_key: str = "label",
        weak_label_key: str = "weak_label",
        bounds_key: str = "size_bounds",
        voxel_size_key: str = "voxel_size",
        ignore_index: int = DEFAULT_IGNORE_INDEX,
    ) -> None:
        self.supervision_key = supervision_key
        self.label_key = label_key
        self.weak_label_key = weak_label_key
        self.bounds_key = bounds_key
        self.voxel_size_key = voxel_size_key
        self.ignore_index = ignore_index

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A copy of the item with its targets changed; raises ValueError when the mark is unknown."""
        out = dict(data)
        mark = out.get(self.supervision_key, "weak")
        bounds = out[self.bounds_key]
        if mark == "full":
            out[self.weak_label_key] = out[self.label_key].clone()
            out[self.bounds_key] = torch.tensor([0.0, math.inf]).to(bounds).expand_as(bounds).clone()
        elif mark == "tags":
            weak_label = out[self.weak_label_key]
            out[self.weak_label_key] = torch.full_like(weak_label, self.ignore_index)
            tags = torch.tensor([1.0, weak_label[0].numel()]).to(bounds).repeat(len(bounds), 1)
            tags = tags * out.get(self.voxel_size_key, 1.0)
            tags[bounds[:, 1] == 0] = 0.0
            tags[0] = bounds[0]
            out[self.bounds_key] = tags
        elif mark != "weak":
            raise ValueError(f"{self.supervision_key} must be full, weak or tags, got {mark!r}.")
        return out


CORNERS_KEY = "annotated_corners"


class AnnotatedCornersd(MapTransform):
    """Note the corners of the annotated foreground's box, in world coordinates, for :class:`AnnotatedInsided`.

    Args:
        keys: one key, of the weak label, ``[1, H, W, D]``; a ``MetaTensor`` where it has annotated foreground.
        output_key: where the corners go, float64 ``[8, 3]`` in mm, ``[0, 3]`` without annotated foreground.
        ignore_index: value of unannotated voxels.
    """

    def __init__(
        self,
        keys: KeysCollection = "weak_label",
        output_key: str = CORNERS_KEY,
        ignore_index: int = DEFAULT_IGNORE_INDEX,
    ) -> None:
        super().__init__(keys)
        self.output_key = output_key
        self.ignore_index = ignore_index

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A copy of the item with the corners."""
        label = data[self.keys[0]]
        voxels = torch.nonzero(torch.as_tensor((label[0] != 0) & (label[0] != self.ignore_index))).double()
        corners = torch.zeros(0, 3, dtype=torch.float64)
        if len(voxels):
            ends = torch.stack([voxels.amin(dim=0), voxels.amax(dim=0)])
            corners = torch.stack([ends[list(choice), range(3)] for choice in product((0, 1), repeat=3)])
            corners = _transformed(corners, label.affine)
        return {**data, self.output_key: corners}


class AnnotatedInsided(MapTransform):
    """Refuse an image whose crop has cut off annotated voxels: bounds in mm² or mL would not hold for the rest.

    Args:
        keys: one key, of the image, ``MetaTensor`` ``[C, H, W, D]``.
        corners_key: of the corners that :class:`AnnotatedCornersd` noted; the transform takes them out of the item.
    """

    def __init__(self, keys: KeysCollection = "image", corners_key: str = CORNERS_KEY) -> None:
        super().__init__(keys)
        self.corners_key = corners_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A copy of the item without the corners; raises ValueError when annotated voxels lie outside the image."""
        out = dict(data)
        image, corners = out[self.keys[0]], out.pop(self.corners_key)
        if len(corners):
            indices = _transformed(corners, torch.linalg.inv(image.affine.double()))
            shape = torch.tensor(image.shape[1:])
            # a voxel extends half a voxel beyond its centre
            if (indices < -0.5 - 1e-3).any() or (indices > shape - 0.5 + 1e-3).any():
                low, high = indices.amin(dim=0).round().int().tolist(), indices.amax(dim=0).round().int().tolist()
                raise ValueError(
                    f"case '{out.get('case')}', key '{self.keys[0]}': found annotated voxels from {low} to {high} in "
                    f"an image of {shape.tolist()} voxels, expected all inside: a crop cuts the target, so its size "
                    "bounds do not hold; use a larger crop."
                )
        return out


def _transformed(points: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """Points ``[N, 3]`` under an affine ``[4, 4]``."""
    matrix = torch.as_tensor(affine).as_subclass(torch.Tensor).double()
    return points @ matrix[:3, :3].T + matrix[:3, 3]


AnnotationToTargetsD = AnnotationToTargetsDict = AnnotationToTargetsd
SupervisionToTargetsD = SupervisionToTargetsDict = SupervisionToTargetsd
AnnotatedCornersD = AnnotatedCornersDict = AnnotatedCornersd
AnnotatedInsideD = AnnotatedInsideDict = AnnotatedInsided
