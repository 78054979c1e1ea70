"""The MONAI readers of the project."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
from monai.config import PathLike
from monai.data import ImageReader, NibabelReader
from monai.data.utils import is_no_channel, is_supported_format, orientation_ras_lps, to_affine_nd
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from sizeloss_monai.data.grid import check_itk_reads, itk_placement, read_grid
from sizeloss_monai.data.headers import HeaderError, is_nifti
from sizeloss_monai.data.integrity import verify_file

__all__ = ["SimpleITKReader", "VolumeReader"]

_SUFFIXES = ("mhd", "mha", "nii", "nii.gz", "nrrd", "nhdr")


class SimpleITKReader(ImageReader):
    """Load medical images with SimpleITK: MetaImage (MHD, MHA), NIfTI, NRRD and whatever else SimpleITK reads.

    MONAI reads MetaImage through `itk` only. This reader needs SimpleITK alone and gives what
    :py:class:`monai.data.ITKReader` and :py:class:`monai.data.NibabelReader` give: an array indexed ``[x, y, z]``
    (a view in Fortran order), channels last where a voxel has several components, and an affine in RAS.

    ITK fills the rest of a truncated file with zeros and says nothing; with ``verify=True`` such a file is an error.

    Example::

        LoadImaged(keys=("image", "label"), reader="sizeloss_monai.data.SimpleITKReader")

    Args:
        channel_dim: the channel dimension of the files, ``"no_channel"``, or ``None`` to derive it: none for one
            component per voxel, ``-1`` otherwise. It is written to the metadata as ``original_channel_dim``.
        affine_lps_to_ras: whether to convert the affine from ITK's LPS to RAS, as NibabelReader has it.
        verify: whether to check that NIfTI, MetaImage and NRRD files are whole. It decompresses them once more.
        kwargs: additional arguments of `SimpleITK.ReadImage`, e.g. ``outputPixelType`` or ``imageIO``.
    """

    def __init__(
        self,
        channel_dim: str | int | None = None,
        affine_lps_to_ras: bool = True,
        verify: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.channel_dim = float("nan") if channel_dim == "no_channel" else channel_dim
        self.affine_lps_to_ras = affine_lps_to_ras
        self.verify = verify
        self.kwargs = kwargs

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether every file has a suffix of MetaImage, NIfTI or NRRD."""
        return is_supported_format(filename, _SUFFIXES)

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> sitk.Image | list[sitk.Image]:
        """Read one file or several.

        Args:
            data: a file name, or a list of file names to be stacked as channels by :py:meth:`get_data`.
            kwargs: additional arguments of `SimpleITK.ReadImage`; they override those of the constructor.

        Returns:
            One SimpleITK image, or a list of them if several names were given.

        Raises:
            FileNotFoundError: if a file does not exist.
            RuntimeError: if a file cannot be read, is truncated or damaged. The message names the file.
        """
        images = []
        for name in ensure_tuple(data):
            path = Path(os.fspath(name))
            if not path.exists():
                raise FileNotFoundError(f"no such file: '{path}'")
            try:
                if self.verify and self.verify_suffix(path):
                    verify_file(path)
                images.append(sitk.ReadImage(str(path), **{**self.kwargs, **kwargs}))
            except (OSError, RuntimeError) as err:
                raise RuntimeError(f"SimpleITKReader cannot read '{path}': {_reason(err)}") from err
        return images if len(images) > 1 else images[0]

    def get_data(self, img: sitk.Image | Sequence[sitk.Image]) -> tuple[np.ndarray, dict]:
        """Extract the array and the metadata.

        Args:
            img: a SimpleITK image, or a list of images on one grid. A list is stacked along a new first dimension,
                or concatenated along the channel dimension if the images have one.

        Returns:
            The array, ``[x, y, z]`` or ``[x, y, z, C]`` for one image; and its metadata with ``affine``,
            ``original_affine``, ``spatial_shape``, ``space``, ``original_channel_dim``, ``spacing`` (mm) and the
            fields of the file's header. The metadata of a list is that of its first image.

        Raises:
            RuntimeError: if the images of a list differ in affine or shape.
        """
        images = (img,) if isinstance(img, sitk.Image) else tuple(img)
        arrays = [_array(image) for image in images]
        metas = [self._meta(image, array.ndim) for image, array in zip(images, arrays, strict=True)]
        meta = metas[0]
        if len(images) == 1:
            return arrays[0], meta
        for key in (MetaKeys.AFFINE, MetaKeys.SPATIAL_SHAPE):
            for other in metas[1:]:
                if meta[key].shape != other[key].shape or not np.allclose(meta[key], other[key]):
                    raise RuntimeError(
                        f"images to be stacked must have the same {key}, got {meta[key].tolist()} "
                        f"and {other[key].tolist()}."
                    )
        channel_dim = meta[MetaKeys.ORIGINAL_CHANNEL_DIM]
        if is_no_channel(channel_dim):
            meta[MetaKeys.ORIGINAL_CHANNEL_DIM] = 0
            return np.stack(arrays, axis=0), meta
        return np.concatenate(arrays, axis=int(channel_dim)), meta

    def _meta(self, image: sitk.Image, ndim: int) -> dict:
        """The metadata of an image whose array has `ndim` dimensions."""
        meta: dict = {}
        for key in image.GetMetaDataKeys():
            with contextlib.suppress(TypeError):  # a name that is not Unicode
                if not key.startswith("ITK_"):
                    meta[key] = image.GetMetaData(key)
        size = list(image.GetSize())
        if isinstance(self.channel_dim, int) and image.GetNumberOfComponentsPerPixel() == 1:
            size.pop(self.channel_dim)
        spatial_rank = max(min(image.GetDimension(), 3), 1)
        meta["spacing"] = np.asarray(image.GetSpacing())
        meta[MetaKeys.ORIGINAL_AFFINE] = self._affine(image)
        meta[MetaKeys.AFFINE] = meta[MetaKeys.ORIGINAL_AFFINE].copy()
        meta[MetaKeys.SPACE] = SpaceKeys.RAS if self.affine_lps_to_ras else SpaceKeys.LPS
        meta[MetaKeys.SPATIAL_SHAPE] = np.asarray(size[:spatial_rank])
        if self.channel_dim is None:
            no_channel = ndim == len(meta[MetaKeys.SPATIAL_SHAPE])
            meta[MetaKeys.ORIGINAL_CHANNEL_DIM] = float("nan") if no_channel else -1
        else:
            meta[MetaKeys.ORIGINAL_CHANNEL_DIM] = self.channel_dim
        return meta

    def _affine(self, image: sitk.Image) -> np.ndarray:
        """The matrix from voxel indices ``[x, y, z]`` to millimetres, ``[r + 1, r + 1]`` with ``r <= 3``."""
        affine = to_affine_nd(min(image.GetDimension(), 3), itk_placement(image))
        return affine if self.affine_lps_to_ras else orientation_ras_lps(affine)


def _array(image: sitk.Image) -> np.ndarray:
    """The voxels indexed ``[x, y, z]``, or ``[x, y, z, C]`` where a voxel has several components."""
    array = sitk.GetArrayFromImage(image).T
    return array if image.GetNumberOfComponentsPerPixel() == 1 else np.moveaxis(array, 0, -1)


def _reason(err: Exception) -> str:
    """What went wrong, in one line, without places in ITK's source and addresses."""
    text = re.sub(r"(s?itk::|ITK )ERROR: |\w+\(0x\w+\): ", "", str(err))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Exception thrown in SimpleITK"):
        lines = lines[1:]
    if lines and lines[-1].startswith("[nrrd]"):  # the last one says why, the others who called whom
        lines = [lines[-1].removeprefix("[nrrd]").strip()]
    return " ".join(lines) or type(err).__name__


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

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether every file has a suffix of NIfTI, MetaImage or NRRD."""
        return self.others.verify_suffix(filename)

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[tuple[Path, ...], dict[str, Any]]:
        """Take the paths; :py:meth:`get_data` reads them.

        ``LoadImage`` tries MONAI's own readers on a file that `read` refuses, and these read damaged files.

        Args:
            data: a path, or the paths of the channels.
            kwargs: of the library that reads.
        """
        return tuple(Path(path) for path in ensure_tuple(data)), kwargs

    def get_data(self, img: tuple[tuple[Path, ...], dict[str, Any]]) -> tuple[np.ndarray, dict]:
        """Read one file, or several of one format as channels.

        Args:
            img: what :py:meth:`read` gave.

        Returns:
            The voxels ``[x, y, z]``, channels last, and the metadata.

        Raises:
            OSError: when a file is missing, damaged, or its header cannot be true.
            RuntimeError: likewise, from SimpleITK.
        """
        paths, kwargs = img
        for path in paths:
            if not path.is_file():
                raise FileNotFoundError(f"no such file: '{path}'")
            header = verify_file(path)
            if not is_nifti(path):
                check_itk_reads(path, header)
        of_nifti = {is_nifti(path) for path in paths}
        if len(of_nifti) > 1:
            raise HeaderError("found NIfTI and other files as channels of one image, expected one format")
        reader = self.nifti if of_nifti == {True} else self.others
        voxels, meta = reader.get_data(reader.read(paths, **kwargs))
        if meta[MetaKeys.AFFINE].shape == (4, 4):
            for key in (MetaKeys.ORIGINAL_AFFINE, MetaKeys.AFFINE):
                meta[key] = read_grid(paths[0]).affine
        return voxels, meta


class _NiftiReader(NibabelReader):
    """NibabelReader that neither repairs a header nor passes over its unit."""

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:
        # not as MONAI's own, which repairs some headers on the way
        self.filenames = ensure_tuple(data)
        images = [nib.load(name, **kwargs) for name in self.filenames]
        return images if len(images) > 1 else images[0]

    def _get_affine(self, img: Any) -> np.ndarray:
        return read_grid(img.get_filename()).affine.copy()
