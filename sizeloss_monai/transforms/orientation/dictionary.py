"""Dictionary twin of the orientation transform."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import InvertibleTransform, MapTransform

from sizeloss_monai.data.slice_axis import SliceAxis
from sizeloss_monai.transforms.orientation.array import ThroughPlaneLast

__all__ = ["ThroughPlaneLastD", "ThroughPlaneLastDict", "ThroughPlaneLastd"]


class ThroughPlaneLastd(MapTransform, InvertibleTransform):
    """Dictionary-based version of :class:`ThroughPlaneLast`."""

    backend = ThroughPlaneLast.backend

    def __init__(
        self, keys: KeysCollection, slice_axis: SliceAxis = "widest", allow_missing_keys: bool = False
    ) -> None:
        """
        Args:
            keys: volumes.
            slice_axis: as for :class:`ThroughPlaneLast`.
            allow_missing_keys: whether a key may be absent.
        """
        super().__init__(keys, allow_missing_keys)
        self.converter = ThroughPlaneLast(slice_axis)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: an item with the volumes.

        Returns:
            A copy with the volumes permuted.
        """
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.converter(out[key])
        return out

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: a result of this transform.
        """
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.converter.inverse(out[key])
        return out


ThroughPlaneLastD = ThroughPlaneLastDict = ThroughPlaneLastd
