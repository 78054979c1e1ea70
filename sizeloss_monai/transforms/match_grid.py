"""Dictionary transform that puts annotations on the grid of their scan."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import TransformBackends

from sizeloss_monai.data.volumes import grid_findings
from sizeloss_monai.errors import DataError, Place

__all__ = ["MatchGridD", "MatchGridDict", "MatchGridd"]


class MatchGridd(MapTransform):
    """Give annotations the affine of their scan, where their files lie on its grid.

    Programs choose differently between the placements that a NIfTI header may hold, and they round. An annotation that
    lies on the scan for one of them gets exactly the scan's affine. To be applied to volumes as they were read.
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, keys: KeysCollection, ref_key: str = "image", allow_missing_keys: bool = False) -> None:
        """
        Args:
            keys: of the annotations, ``MetaTensor`` of shape ``[1, x, y, z]``.
            ref_key: of the scan.
            allow_missing_keys: whether a key may be absent.
        """
        super().__init__(keys, allow_missing_keys)
        self.ref_key = ref_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: an item with the volumes.

        Raises:
            DataError: when an annotation has another shape, or lies elsewhere.
        """
        out = dict(data)
        for key in self.key_iterator(out):
            where = Place(str(out.get("case")), str(key))
            for finding in grid_findings(out[key], out[self.ref_key], where, self.ref_key):
                raise DataError(str(finding))
            out[key].affine = out[self.ref_key].affine.clone()
        return out


MatchGridD = MatchGridDict = MatchGridd
