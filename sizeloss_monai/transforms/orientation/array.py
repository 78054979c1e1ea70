"""Array transform that brings a volume's slices to its last axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nibabel as nib
import torch
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, Orientation
from monai.utils import TraceKeys, TransformBackends

__all__ = ["ThroughPlaneLast", "through_plane_axis"]

# of an affine to RAS, nibabel's and here Orientation's: left to itself the latter goes by the volume's `space`
LABELS = (("L", "R"), ("P", "A"), ("I", "S"))


def through_plane_axis(spacing: Sequence[float]) -> int:
    """The axis that slices are stacked along: that of the widest spacing.

    Args:
        spacing: of the voxels along each axis, mm.

    Returns:
        Index of the axis; the last one where no axis is wider than that by more than 1 %, which may be rounding.
    """
    widest = max(spacing)
    return list(spacing).index(widest) if widest > 1.01 * spacing[-1] else len(spacing) - 1


class ThroughPlaneLast(InvertibleTransform):
    """Permute a volume so that the axis with the widest voxel spacing comes last, and nothing else.

    A network that works slice by slice needs the slices along a known axis; files store them along any. Axes are
    only permuted, never flipped or resampled, so that the inverse restores the input's grid exactly. Where no
    axis is wider than the last one (isotropic volumes) the volume stays as it is.

    Example:
        >>> scan = MetaTensor(torch.zeros(1, 6, 32, 32), affine=torch.diag(torch.tensor([10.0, 1.5, 1.5, 1.0])))
        >>> tuple(ThroughPlaneLast()(scan).shape)
        (1, 32, 32, 6)
    """

    backend = [TransformBackends.TORCH]

    def __call__(self, img: torch.Tensor) -> Any:
        """
        Args:
            img: ``MetaTensor`` of shape ``[C, H, W, D]``.

        Raises:
            TypeError: when ``img`` has no affine.
        """
        if not isinstance(img, MetaTensor):
            raise TypeError(
                f"img must be a MetaTensor, found {type(img).__name__}: without an affine no axis is wider."
            )
        out: Any = Orientation(axcodes=self._axcodes(img), labels=LABELS)(img)
        # the codes differ from scan to scan: whichever Orientation inverts this must not ask for its own record
        out.applied_operations[-1][TraceKeys.ID] = TraceKeys.NONE
        return out

    def inverse(self, img: MetaTensor) -> Any:
        """
        Args:
            img: a result of this transform, or an array of the same geometry that carries its record.
        """
        return Orientation(axcodes="RAS", labels=LABELS).inverse(img)

    @staticmethod
    def _axcodes(img: MetaTensor) -> str:
        """The volume's own axis codes, the widest axis moved to the end."""
        spacing = torch.as_tensor(img.pixdim).tolist()
        order = list(range(len(spacing)))
        order.append(order.pop(through_plane_axis(spacing)))
        codes = nib.orientations.aff2axcodes(img.affine.numpy())
        return "".join(codes[axis] for axis in order)
