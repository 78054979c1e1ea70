"""Truncated and damaged image files, found without trusting the libraries that read them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import nibabel as nib
import numpy as np
from monai.config import PathLike
from nibabel.arrayproxy import ArrayProxy

__all__ = ["verify_file"]

_CHUNK = 1 << 20


def verify_file(path: PathLike) -> None:
    """Check that a NIfTI file, or a compressed MetaImage file, is whole.

    ITK fills what is missing of such files with zeros, and nibabel does not look at the checksum of a gzip file.
    Other formats pass: their readers raise an error by themselves.

    Args:
        path: the file; of a MetaImage, its header (``.mhd`` or ``.mha``).

    Raises:
        OSError: if the file is shorter than its header says, its compressed stream does not end, or its checksum is
            wrong.
    """
    path = Path(path)
    name = path.name.lower()
    try:
        if name.endswith(".nii.gz"):
            with gzip.open(path, "rb") as file:
                _verify_nifti_size(path, sum(len(chunk) for chunk in _chunks(file)))
        elif name.endswith(".nii"):
            _verify_nifti_size(path, path.stat().st_size)
        elif name.endswith((".mhd", ".mha")):
            _verify_metaimage(path)
    except (EOFError, zlib.error, nib.filebasedimages.ImageFileError) as err:
        raise OSError(str(err)) from err


def _verify_nifti_size(path: Path, found: int) -> None:
    """Raise an error if the file, of `found` bytes once decompressed, is shorter than its header says."""
    image = cast(nib.nifti1.Nifti1Image, nib.load(path))
    voxels = cast(ArrayProxy, image.dataobj)  # its offset is that of the file, the header's is set to 0
    expected = voxels.offset + int(np.prod(voxels.shape)) * voxels.dtype.itemsize
    if found < expected:
        raise EOFError(f"the file is truncated: {found} bytes of {expected}")


def _verify_metaimage(path: Path) -> None:
    """Raise an error if the voxels of a compressed MetaImage do not decompress to their end."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for line in file:
            key, _, value = line.decode("latin-1").partition("=")
            fields[key.strip()] = value.strip()
            if "ElementDataFile" in fields:
                break
        if fields.get("CompressedData", "").lower() != "true":
            return
        voxels = path.parent / fields.get("ElementDataFile", "")
        if voxels.name.upper() == "LOCAL":
            _verify_zlib(file)
        elif voxels.is_file():  # where it is not, or is a list of files, the reader has its own say
            with voxels.open("rb") as data:
                _verify_zlib(data)


def _verify_zlib(file: IO[bytes]) -> None:
    """Raise an error unless the rest of `file` is one whole zlib or gzip stream."""
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    for chunk in _chunks(file):
        stream.decompress(chunk)
    if not stream.eof:
        raise EOFError("the compressed voxels end before their end-of-stream marker")


def _chunks(file: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    """The rest of `file`, piece by piece."""
    return iter(lambda: file.read(_CHUNK), b"")
