"""Targets that follow how each case was annotated."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import Transform

from sizeloss_monai.data.label_ids import DEFAULT_IGNORE_INDEX

__all__ = ["SupervisionToTargetsD", "SupervisionToTargetsDict", "SupervisionToTargetsd"]


class SupervisionToTargetsd(Transform):
    """Change weak label and size bounds of an item as its mark says: one loss serves differently annotated cases.

    ==========  ===========================  =========================================================
    mark        weak label                   size bounds
    ==========  ===========================  =========================================================
    ``full``    the full annotation          none, ``(0, inf)``
    ``weak``    as it is                     as they are
    ``tags``    nothing annotated            ``(1, |Omega|)`` of a class that is present, ``(0, 0)`` of an absent one
    ==========  ===========================  =========================================================

    Apply it last, to what already has its weak label and its bounds. Use a cross-entropy with ``per_item=True``
    behind it: the mean over all annotated voxels of a batch would be that of its fully annotated items.
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
        """
        Args:
            supervision_key: of the mark; an item without it is ``weak``.
            label_key: of the full annotation, class ids, shape ``[1, *spatial]``; used by ``full`` alone.
            weak_label_key: of the weak label, of the same shape.
            bounds_key: of the size bounds, shape ``[C, 2]``.
            voxel_size_key: of the size of a voxel in their unit, a scalar; an item without it has bounds in voxels.
            ignore_index: value of unannotated voxels.
        """
        self.supervision_key = supervision_key
        self.label_key = label_key
        self.weak_label_key = weak_label_key
        self.bounds_key = bounds_key
        self.voxel_size_key = voxel_size_key
        self.ignore_index = ignore_index

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: an item.

        Returns:
            A copy with its targets changed.

        Raises:
            ValueError: when the mark is none of ``full``, ``weak``, ``tags``.
        """
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
            raise ValueError(f"{self.supervision_key} must be full, weak or tags, found {mark!r}.")
        return out


SupervisionToTargetsD = SupervisionToTargetsDict = SupervisionToTargetsd
