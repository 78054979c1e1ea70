"""The voxels of a phase."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk  # noqa: N813
from monai.data import MetaTensor
from monai.utils import MetaKeys, SpaceKeys
from pydicom.uid import UID

from sizeloss_monai.dicom.instances import Instance, data_error
from sizeloss_monai.dicom.series import affine_of

__all__ = ["read_volume"]


def read_volume(phase: Sequence[Instance]) -> MetaTensor:
    """Read the slices of a phase as a volume, as `LoadImage` would read it from one file.

    Rescale slope and intercept are applied, each slice's own. GDCM, which is part of SimpleITK, decodes JPEG,
    JPEG-LS, JPEG 2000 and RLE. The grid is that of the headers, see :py:func:`affine_of`: GDCM ignores positions in
    some SOP classes.

    Args:
        phase: its slices in order, see :py:func:`split_phases`.

    Returns:
        ``[x, y, z]``, float32: columns, rows, slices; with the affine (RAS, mm) of the first slice's corner.

    Raises:
        DataError: when pixel data cannot be decoded.
    """
    affine = affine_of(phase)
    voxels = np.stack([_pixels(instance) for instance in phase], axis=2)
    meta = {
        MetaKeys.ORIGINAL_AFFINE: affine.copy(),
        MetaKeys.SPATIAL_SHAPE: np.asarray(voxels.shape),
        MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.AFFINE: affine,
    }
    return MetaTensor.ensure_torch_and_prune_meta(voxels, meta)


def _pixels(instance: Instance) -> np.ndarray:
    """The pixels of one slice, ``[x, y]``, float32."""
    header, name = instance.header, instance.path.name
    try:
        image = sitk.ReadImage(str(instance.path), sitk.sitkFloat32, "GDCMImageIO")
    except RuntimeError as err:
        raise data_error(
            f"key 'image': found pixel data that cannot be decoded ({UID(header.file_meta.TransferSyntaxUID).name}) "
            f"in '{name}', expected a file and a transfer syntax that GDCM reads; dcmtk's dcmdjpeg or gdcmconv --raw "
            "may make them uncompressed."
        ) from err
    pixels = sitk.GetArrayFromImage(image).T
    if pixels.size != header.Rows * header.Columns:
        raise data_error(
            f"key 'image': found {pixels.size} decoded pixels in '{name}', expected {header.Columns} columns and "
            f"{header.Rows} rows."
        )
    if not np.isfinite(pixels).all():
        raise data_error(f"key 'image': found values that are not finite in '{name}', expected numbers.")
    return pixels.reshape(header.Columns, header.Rows)
