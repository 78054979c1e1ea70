"""The one MONAI reader of the project: every format's voxels, placed as :class:`sizeloss_monai.data.grid.Grid` says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.config import PathLike
from monai.data import ImageReader, NibabelReader
from monai.utils import ensure_tuple

from sizeloss_monai.data.grid import check_itk_reads, read_grid
from sizeloss_monai.data.headers import HeaderError, is_nifti
from sizeloss_monai.data.integrity import verify_file
from sizeloss_monai.data.sitk_reader import SimpleITKReader

__all__ = ["VolumeReader"]


class VolumeReader(ImageReader):
    """Load NIfTI with nibabel, MetaImage and NRRD with SimpleITK.

    The affine is the grid's, in mm and RAS: MONAI's own reader replaces the sform by the qform where pixdim contradicts
    it, and takes every unit for mm. A damaged file is an error, see :py:func:`sizeloss_monai.data.verify_file`, as is a
    file of another format.

    Example::

        LoadImaged(keys=("image", "label"), reader="sizeloss_monai.data.VolumeReader")

    Args:
        channel_dim: see :class:`monai.data.NibabelReader`.
    """

    def __init__(self, channel_dim: str | int | None = None) -> None:
        super().__init__()
        self.nifti = _NiftiReader(channel_dim=channel_dim)
        self.others = SimpleITKReader(channel_dim=channel_dim, verify=False)
        self._used: ImageReader = self.nifti

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether every file has a suffix of NIfTI, MetaImage or NRRD."""
        return self.others.verify_suffix(filename)

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:
        """Read one file, or several of one format as channels.

        Args:
            data: a path, or the paths of the channels.
            kwargs: of the library that reads.

        Raises:
            OSError: when a file is missing, damaged, or its header cannot be true.
            RuntimeError: likewise, from SimpleITK.
        """
        paths = [Path(path) for path in ensure_tuple(data)]
        for path in paths:
            if not path.is_file():
                raise FileNotFoundError(f"no such file: '{path}'")
            header = verify_file(path)
            if not is_nifti(path):
                check_itk_reads(path, header)
        of_nifti = {is_nifti(path) for path in paths}
        if len(of_nifti) > 1:
            raise HeaderError("found NIfTI and other files as channels of one image, expected one format")
        self._used = self.nifti if of_nifti == {True} else self.others
        return self._used.read(data, **kwargs)

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        """The voxels ``[x, y, z]``, channels last, and the metadata of what :py:meth:`read` gave."""
        return self._used.get_data(img)


class _NiftiReader(NibabelReader):
    """NibabelReader that neither repairs a header nor passes over its unit."""

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:
        # not as MONAI's own, which repairs some headers on the way
        self.filenames = ensure_tuple(data)
        images = [nib.load(name, **kwargs) for name in self.filenames]
        return images if len(images) > 1 else images[0]

    def _get_affine(self, img: Any) -> np.ndarray:
        return read_grid(img.get_filename()).affine.copy()
