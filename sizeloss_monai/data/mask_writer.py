"""Masks on the grid of their scan, for nibabel and for ITK alike."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from monai.config import PathLike
from monai.data import NibabelWriter
from numpy.typing import NDArray

from sizeloss_monai.data.grid import Grid, read_grid
from sizeloss_monai.data.headers import is_nifti, nifti_fields
from sizeloss_monai.data.names import image_stem
from sizeloss_monai.data.whole_files import save_nifti

__all__ = ["MaskWriter"]

logger = logging.getLogger(__name__)

_PLACEMENT = (
    "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y",
    "qoffset_z", "srow_x", "srow_y", "srow_z",
)  # fmt: skip


class MaskWriter(NibabelWriter):
    """Write a NIfTI file that carries its scan's own placement: both forms, their codes, pixdim and unit.

    Libraries choose differently between forms that contradict each other. A mask that repeats all of them lies on its
    scan whichever a library chooses. Nothing else of the scan's header is taken over, no text that may name a patient.
    A scan of one slice gives a mask of one slice, ``(H, W, 1)``. If the scan is not a NIfTI file, or the mask not on
    its grid, the affine is written as both forms, as :class:`monai.data.NibabelWriter` does.

    Example::

        SaveImaged(keys="pred", output_dtype=np.uint8, resample=False, writer="sizeloss_monai.data.MaskWriter")
    """

    def set_data_array(
        self, data_array: Any, channel_dim: int | None = 0, squeeze_end_dims: bool = True, **kwargs: Any
    ) -> None:
        """
        Args:
            data_array: ``[C, H, W, D]``.
            channel_dim: of the array; None for none.
            squeeze_end_dims: whether the file has no dimension for a single channel. It has one for slices.
            kwargs: as of :class:`monai.data.NibabelWriter`.
        """
        super().set_data_array(data_array, channel_dim, squeeze_end_dims=False, **kwargs)
        voxels: Any = self.data_obj
        if channel_dim is not None and squeeze_end_dims and voxels.shape[-1] == 1:
            self.data_obj = voxels[..., 0]

    def set_metadata(self, meta_dict: Mapping | None, resample: bool = True, **options: Any) -> None:
        """
        Args:
            meta_dict: of a MetaTensor; ``filename_or_obj`` names the scan.
            resample: as of :class:`monai.data.NibabelWriter`, as are the ``options``.
        """
        super().set_metadata(meta_dict, resample, **options)
        self.scan = Path(str((meta_dict or {}).get("filename_or_obj", "")))

    def write(self, filename: PathLike, verbose: bool = False, **kwargs: Any) -> None:
        """
        Args:
            filename: of the mask.
            verbose: whether to print its name.
            kwargs: as of :class:`monai.data.NibabelWriter`.
        """
        grid = self._scan_grid()
        source = None
        if grid is not None and is_nifti(self.scan):
            source = nifti_fields(self.scan)
        elif grid is not None:
            self.affine = next(iter(grid.forms.values()))  # as the header has it
        image: Any = self.create_backend_obj(cast(Any, self.data_obj), affine=self.affine, dtype=self.output_dtype)
        if source is None:
            image.set_sform(image.affine, code=1)
            image.set_qform(image.affine, code=1)
        else:
            voxels = np.asarray(image.dataobj)
            # ITK reads no NIfTI-2, which only sizes of more than 16 bits need
            long = max(voxels.shape) > np.iinfo(np.int16).max
            image = (nib.Nifti2Image if long else nib.Nifti1Image)(voxels, None)
            for field in _PLACEMENT:
                image.header[field] = source[field]
            image.header["pixdim"][4:] = 0
            if not source["qform_code"] and source["sform_code"] and not _orthogonal(image.header.get_sform()):
                # rounded axes, which ITK refuses: it takes the nearest right angles then
                image.header.set_qform(image.header.get_sform(), int(source["sform_code"]))
                image.header["pixdim"][1:4] = source["pixdim"][1:4]
        save_nifti(image, filename)
        if verbose:
            logger.info(f"writing: {filename}")

    def _scan_grid(self) -> Grid | None:
        """The scan's grid; None where there is no such file, or the mask is not on it."""
        if not (self.scan.is_file() and image_stem(self.scan.name)):
            return None
        grid = read_grid(self.scan)
        voxels: Any = self.data_obj
        on_it = tuple(voxels.shape[:3]) == grid.shape and np.allclose(self.affine, grid.affine, rtol=1e-5, atol=1e-4)
        return grid if on_it else None


def _orthogonal(affine: NDArray[np.float64]) -> bool:
    """Whether axes are at right angles as exactly as ITK wants them."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return np.allclose(axes.T @ axes, np.eye(3), atol=1e-4)
