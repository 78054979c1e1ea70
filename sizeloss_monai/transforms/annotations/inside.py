"""A guard: what was annotated must still be in the image after a crop."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import product
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

__all__ = [
    "AnnotatedCornersD",
    "AnnotatedCornersDict",
    "AnnotatedCornersd",
    "AnnotatedInsideD",
    "AnnotatedInsideDict",
    "AnnotatedInsided",
]

CORNERS_KEY = "annotated_corners"


class AnnotatedCornersd(MapTransform):
    """Note where the annotated voxels of the foreground are: the corners of their box, in world coordinates.

    :class:`AnnotatedInsided`, after a crop, refuses one that cuts the target.
    """

    def __init__(
        self, keys: KeysCollection = "weak_label", output_key: str = CORNERS_KEY, ignore_index: int = 255
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
