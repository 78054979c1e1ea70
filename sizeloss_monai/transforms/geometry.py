"""Grids of volumes: slices along the last axis, annotations on the scan's grid, sizes and spacings of voxels."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import nibabel as nib
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, Orientation, Transform
from monai.utils import TraceKeys, TransformBackends, ensure_tuple

from sizeloss_monai.data.grid import MM3_PER_ML, pixel_area, voxel_spacing, voxel_volume
from sizeloss_monai.data.slice_axis import SliceAxis, parse_slice_axis, slice_axis_of
from sizeloss_monai.data.volumes import grid_findings
from sizeloss_monai.errors import DataError, Place, check_option
from sizeloss_monai.options import Per

__all__ = ["MatchGridD", "MatchGridDict", "MatchGridd"]
__all__ += ["ThroughPlaneLast", "ThroughPlaneLastD", "ThroughPlaneLastDict", "ThroughPlaneLastd"]
__all__ += ["VoxelSize", "VoxelSizeD", "VoxelSizeDict", "VoxelSized"]
__all__ += ["VoxelSpacing", "VoxelSpacingD", "VoxelSpacingDict", "VoxelSpacingd"]

LABELS = (("L", "R"), ("P", "A"), ("I", "S"))
"""Codes of an affine to RAS for ``Orientation``, which otherwise goes by the volume's ``space``."""


class DerivedKeyd(MapTransform):
    """Write what ``converter`` makes of each of ``keys`` under the output key in the same place."""

    backend = [TransformBackends.TORCH]

    def __init__(self, keys: KeysCollection, output_keys: KeysCollection, converter: Callable[..., Any]) -> None:
        super().__init__(keys)
        self.output_keys = ensure_tuple(output_keys)
        if len(self.output_keys) != len(self.keys):
            raise ValueError(f"output_keys must be as many as keys {self.keys}, got {self.output_keys}.")
        self.converter = converter

    def convert(self, value: Any, data: Mapping[Hashable, Any]) -> Any:
        """What goes under the output key; ``data`` is the item."""
        return self.converter(value)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A copy of the item with the output keys."""
        out = dict(data)
        for key, output_key in zip(self.keys, self.output_keys, strict=True):
            out[output_key] = self.convert(out[key], out)
        return out


class ThroughPlaneLast(InvertibleTransform):
    """Permute a volume so that the axis along which its slices are stacked comes last.

    A network that works slice by slice needs the slices along a known axis; files store them along any. The transform
    never flips or resamples, so the inverse restores the input's grid exactly. By default slices are stacked along
    the axis with the widest spacing. A volume without an axis wider than its last one (isotropic) stays as it is.

    Args:
        slice_axis: where slices lie; ``"auto"`` means ``"widest"``, as a single volume has no strokes to decide by.

    Raises:
        ValueError: when ``slice_axis`` is unknown.

    Example:
        >>> scan = MetaTensor(torch.zeros(1, 6, 32, 32), affine=torch.diag(torch.tensor([10.0, 1.5, 1.5, 1.0])))
        >>> tuple(ThroughPlaneLast()(scan).shape)
        (1, 32, 32, 6)
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, slice_axis: SliceAxis = "widest") -> None:
        self.slice_axis = parse_slice_axis(slice_axis)

    def __call__(self, img: torch.Tensor) -> Any:
        """
        Args:
            img: ``MetaTensor``, shape ``[C, H, W, D]``.

        Raises:
            TypeError: when ``img`` has no affine.
        """
        if not isinstance(img, MetaTensor):
            raise TypeError(f"img must be a MetaTensor, whose affine tells its slices, got {type(img).__name__}.")
        spacing, affine = torch.as_tensor(img.pixdim).tolist(), img.affine.numpy()
        order = list(range(len(spacing)))
        order.append(order.pop(slice_axis_of(spacing, affine, self.slice_axis)))
        codes = nib.orientations.aff2axcodes(affine)
        out: Any = Orientation(axcodes="".join(codes[axis] for axis in order), labels=LABELS)(img)
        # the codes differ from scan to scan: the Orientation that inverts this must not ask for its own record
        out.applied_operations[-1][TraceKeys.ID] = TraceKeys.NONE
        return out

    def inverse(self, img: MetaTensor) -> Any:
        """Undo the permutation of a result, or of an array with the same geometry and record."""
        return Orientation(axcodes="RAS", labels=LABELS).inverse(img)


class ThroughPlaneLastd(MapTransform, InvertibleTransform):
    """Dictionary form of :class:`ThroughPlaneLast`, whose ``slice_axis`` it takes, for the volumes under ``keys``."""

    backend = ThroughPlaneLast.backend

    def __init__(
        self, keys: KeysCollection, slice_axis: SliceAxis = "widest", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.converter = ThroughPlaneLast(slice_axis)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A copy of the item with permuted volumes."""
        return {**data, **{key: self.converter(data[key]) for key in self.key_iterator(dict(data))}}

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A copy of the item with volumes as they were."""
        return {**data, **{key: self.converter.inverse(data[key]) for key in self.key_iterator(dict(data))}}


class MatchGridd(MapTransform):
    """Give annotations the affine of their scan, after checking that their files lie on its grid.

    Programs round, and choose differently between the placements of a NIfTI header. An annotation that lies on the
    scan by one of its placements gets exactly the scan's affine. Apply it to volumes as read.

    Args:
        keys: of the annotations, ``MetaTensor``, shape ``[1, x, y, z]``.
        ref_key: of the scan.
        allow_missing_keys: whether a key may be absent.
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, keys: KeysCollection, ref_key: str = "image", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.ref_key = ref_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A copy of the item; raises DataError when an annotation has another shape or lies elsewhere."""
        out = dict(data)
        for key in self.key_iterator(out):
            where = Place(str(out.get("case")), str(key))
            for finding in grid_findings(out[key], out[self.ref_key], where, self.ref_key):
                raise DataError(str(finding))
            out[key].affine = out[self.ref_key].affine.clone()
        return out


def _affine(img: Any) -> torch.Tensor:
    """The affine of a volume, ``[4, 4]``."""
    if not isinstance(img, MetaTensor):
        raise TypeError(f"img must be a MetaTensor, whose affine tells its size, got {type(img).__name__}.")
    if img.affine.shape != (4, 4):
        raise ValueError(f"affine must be that of a volume, [4, 4], got {list(img.affine.shape)}.")
    return img.affine.as_subclass(torch.Tensor)


class VoxelSize(Transform):
    """Size of one voxel, float32 scalar: mm² of a slice, or mL of a volume.

    It follows from the determinant of the current affine. A soft size times it stays right after resampling, zoom and
    rotation, for oblique affines too.

    Args:
        per: ``"slice"`` for the area of a pixel in mm², with slices along the last axis of the affine, or ``"volume"``
            for the volume of a voxel in mL.

    Raises:
        ValueError: when ``per`` is neither.

    Example:
        >>> scan = MetaTensor(torch.zeros(1, 4, 4, 4), affine=torch.diag(torch.tensor([1.5, 1.5, 10.0, 1.0])))
        >>> VoxelSize("volume")(scan), VoxelSize("slice")(scan)
        (tensor(0.0225), tensor(2.2500))
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, per: Per = "volume") -> None:
        check_option("per", per, Per)
        self.per = per

    def __call__(self, img: Any) -> torch.Tensor:
        """
        Args:
            img: ``MetaTensor`` of a volume, ``[C, H, W, D]``, or of a slice with its volume's affine, ``[C, H, W]``.

        Raises:
            TypeError: when ``img`` has no affine.
            ValueError: when its affine is not that of a volume.
        """
        affine = _affine(img)
        size = voxel_volume(affine) / MM3_PER_ML if self.per == "volume" else pixel_area(affine)
        return size.float()


class VoxelSpacing(Transform):
    """Distances in mm of neighbouring voxels along each spatial axis, float32, from the current affine.

    It takes and raises the same as :class:`VoxelSize`.

    Example:
        >>> scan = MetaTensor(torch.zeros(1, 4, 4, 4), affine=torch.diag(torch.tensor([1.5, 1.5, 10.0, 1.0])))
        >>> VoxelSpacing()(scan)
        tensor([ 1.5000,  1.5000, 10.0000])
    """

    backend = [TransformBackends.TORCH]

    def __call__(self, img: Any) -> torch.Tensor:
        """Distances along the spatial axes of ``img``."""
        return voxel_spacing(_affine(img))[: img.ndim - 1].float()


class VoxelSized(DerivedKeyd):
    """Dictionary form of :class:`VoxelSize`; apply it after all that changes the geometry.

    Args:
        keys: of images with an affine.
        output_key: where the size goes; as many keys as ``keys``.
        per: see :class:`VoxelSize`.
    """

    def __init__(
        self, keys: KeysCollection = "image", output_key: KeysCollection = "voxel_size", per: Per = "volume"
    ) -> None:
        super().__init__(keys, output_key, VoxelSize(per))


class VoxelSpacingd(DerivedKeyd):
    """Dictionary form of :class:`VoxelSpacing`; arguments as :class:`VoxelSized`."""

    def __init__(self, keys: KeysCollection = "image", output_key: KeysCollection = "spacing") -> None:
        super().__init__(keys, output_key, VoxelSpacing())


MatchGridD = MatchGridDict = MatchGridd
ThroughPlaneLastD = ThroughPlaneLastDict = ThroughPlaneLastd
VoxelSizeD = VoxelSizeDict = VoxelSized
VoxelSpacingD = VoxelSpacingDict = VoxelSpacingd
