"""The voxels of a phase."""

from __future__ import annotations

from collections.abc import Sequence

import SimpleITK as sitk  # noqa: N813
from monai.data import MetaTensor
from pydicom.uid import UID

from sizeloss_monai.data import SimpleITKReader
from sizeloss_monai.data.findings import DataError
from sizeloss_monai.dicom.instances import Instance

__all__ = ["read_volume"]


def read_volume(phase: Sequence[Instance]) -> MetaTensor:
    """Read the slices of a phase as a volume, as `LoadImage` would read it from one file.

    Rescale slope and intercept are applied, each slice's own. GDCM, which is part of SimpleITK, decodes JPEG,
    JPEG-LS, JPEG 2000 and RLE.

    Args:
        phase: its slices in order, see :py:func:`split_phases`.

    Returns:
        ``[x, y, z]``, float32: columns, rows, slices; with the affine (RAS, mm) of the first slice's corner.

    Raises:
        DataError: when pixel data cannot be decoded.
    """
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(instance.path) for instance in phase])
    reader.SetOutputPixelType(sitk.sitkFloat32)
    try:
        image = reader.Execute()
    except RuntimeError as err:
        syntaxes = sorted({UID(i.header.file_meta.TransferSyntaxUID).name for i in phase})
        raise DataError(
            f"key 'image': found pixel data that cannot be decoded ({', '.join(syntaxes)}), expected a transfer syntax "
            "that GDCM reads; dcmtk's dcmdjpeg or gdcmconv --raw may make them uncompressed."
        ) from err
    array, meta = SimpleITKReader().get_data(image)
    return MetaTensor.ensure_torch_and_prune_meta(array, meta)
