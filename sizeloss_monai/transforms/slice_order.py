"""Slices along the last axis."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import nibabel as nib
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, Orientation
from monai.utils import TraceKeys, TransformBackends

from sizeloss_monai.data.slice_axis import SliceAxis, parse_slice_axis, slice_axis_of

__all__ = ["ThroughPlaneLast", "ThroughPlaneLastD", "ThroughPlaneLastDict", "ThroughPlaneLastd"]

# of an affine to RAS, nibabel's and here Orientation's: left to itself the latter goes by the volume's `space`
LABELS = (("L", "R"), ("P", "A"), ("I", "S"))


class ThroughPlaneLast(InvertibleTransform):
    """Permute a volume so that the axis that its slices are stacked along comes last, and nothing else.

    A network that works slice by slice needs the slices along a known axis; files store them along any. Axes are
    only permuted, never flipped or resampled, so that the inverse restores the input's grid exactly. By default slices
    are stacked along the axis of the widest spacing; where no axis is wider than the last one (isotropic volumes) the
    volume stays as it is.

    Example:
        >>> scan = MetaTensor(torch.zeros(1, 6, 32, 32), affine=torch.diag(torch.tensor([10.0, 1.5, 1.5, 1.0])))
        >>> tuple(ThroughPlaneLast()(scan).shape)
        (1, 32, 32, 6)
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, slice_axis: SliceAxis = "widest") -> None:
        """
        Args:
            slice_axis: where slices lie; ``"auto"`` is ``"widest"``, as one volume alone has no strokes.

        Raises:
            ValueError: when `slice_axis` is unknown.
        """
        self.slice_axis = parse_slice_axis(slice_axis)

    def __call__(self, img: torch.Tensor) -> Any:
        """
        Args:
            img: ``MetaTensor`` of shape ``[C, H, W, D]``.

        Raises:
            TypeError: when ``img`` has no affine.
        """
        if not isinstance(img, MetaTensor):
            raise TypeError(
                f"img must be a MetaTensor, found {type(img).__name__}: without an affine its slices are not known."
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

    def _axcodes(self, img: MetaTensor) -> str:
        """The volume's own axis codes, that of the slices moved to the end."""
        spacing = torch.as_tensor(img.pixdim).tolist()
        order = list(range(len(spacing)))
        affine = img.affine.numpy()
        order.append(order.pop(slice_axis_of(spacing, affine, self.slice_axis)))
        codes = nib.orientations.aff2axcodes(affine)
        return "".join(codes[axis] for axis in order)


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
