"""NIfTI, MetaImage and NRRD files whose headers say exactly what a test wants, right or wrong."""

from __future__ import annotations

import bz2
import gzip
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

SHAPE = (8, 7, 6)


def voxels_of(shape: tuple[int, ...] = SHAPE, dtype: str = "int16") -> NDArray[Any]:
    """A bright box in noise, ``[x, y, z]``; different along every axis."""
    noise = np.random.default_rng(0).integers(0, 50, shape)
    noise[tuple(slice(size // 4, size // 4 + max(1, size // 2)) for size in shape)] += 150
    return noise.astype(dtype)


def oblique_affine(
    spacing: tuple[float, ...] = (1.4, 1.3, 9.5), degrees: tuple[float, ...] = (20, -30, 40)
) -> NDArray[np.float64]:
    """From voxel indices to mm in RAS, ``[4, 4]``."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() * np.asarray(spacing)
    affine[:3, 3] = (-35.5, 12.25, 80.0)
    return affine


def shifted(affine: NDArray[np.float64], *mm: float) -> NDArray[np.float64]:
    """An affine moved in space."""
    moved = affine.copy()
    moved[:3, 3] += mm
    return moved


def nifti(
    voxels: NDArray[Any],
    sform: NDArray[np.float64] | None = None,
    qform: NDArray[np.float64] | None = None,
    version: int = 1,
    endian: str = "<",
    **fields: Any,
) -> bytes:
    """A NIfTI file, not compressed, in which nothing is repaired.

    Args:
        voxels: ``[x, y, z]``.
        sform: with code 1; None for code 0.
        qform: likewise. It gives pixdim too, else the sform does.
        version: of the format, 1 or 2.
        endian: of the header and the voxels.
        fields: of the header, set last.
    """
    cls = nib.Nifti1Header if version == 1 else nib.Nifti2Header
    header = cls(endianness=endian, check=False)
    header.set_data_dtype(voxels.dtype)
    header.set_data_shape(voxels.shape)
    placed = qform if qform is not None else sform
    if placed is not None:
        header.set_qform(placed, 1)
        header["qform_code"] = int(qform is not None)
    if sform is not None:
        header.set_sform(sform, 1)
    header["xyzt_units"] = 2
    header["vox_offset"] = header.sizeof_hdr + 4
    for field, value in fields.items():
        header[field] = value
    content = voxels.astype(voxels.dtype.newbyteorder(endian)).tobytes("F")
    return bytes(header.binaryblock) + b"\0" * 4 + content


def metaimage(voxels: NDArray[Any], pack: bool = False, **fields: Any) -> bytes:
    """A MetaImage file; ``fields`` replace or add lines, None removes one, ``LOCAL`` voxels follow the header."""
    content = zlib.compress(voxels.tobytes("F")) if pack else voxels.tobytes("F")
    names = {"int16": "MET_SHORT", "uint8": "MET_UCHAR", "float32": "MET_FLOAT"}
    lines: dict[str, Any] = {
        "ObjectType": "Image",
        "NDims": voxels.ndim,
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": str(pack),
        **({"CompressedDataSize": len(content)} if pack else {}),
        "TransformMatrix": " ".join(map(str, np.eye(voxels.ndim).ravel())),
        "Offset": " ".join(["-7", "11.5", "13", "0"][: voxels.ndim]),
        "ElementSpacing": " ".join(["1.4", "1.3", "9.5", "1"][: voxels.ndim]),
        "DimSize": " ".join(map(str, voxels.shape)),
        "ElementType": names[str(voxels.dtype)],
    }
    data_file = fields.pop("ElementDataFile", "LOCAL")
    lines |= fields
    lines["ElementDataFile"] = data_file
    text = "".join(f"{key} = {value}\n" for key, value in lines.items() if value is not None)
    return text.encode("latin-1") + (content if data_file == "LOCAL" else b"")


def nrrd(voxels: NDArray[Any], **fields: Any) -> bytes:
    """An NRRD file; ``fields`` (with ``_`` for spaces) replace or add lines, None removes one."""
    given = {key.replace("_", " "): value for key, value in fields.items()}
    encoding = given.get("encoding", "gzip")
    lines: dict[str, Any] = {
        "type": {"int16": "short", "uint8": "uchar", "float32": "float"}[str(voxels.dtype)],
        "dimension": voxels.ndim,
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, voxels.shape)),
        "space directions": "(1.4,0,0) (0,1.3,0) (0,0,9.5)",
        "kinds": "domain domain domain",
        "endian": "little",
        "encoding": encoding,
        "space origin": "(-7,11.5,13)",
    }
    lines |= given
    text = "NRRD0004\n" + "".join(f"{key}: {value}\n" for key, value in lines.items() if value is not None) + "\n"
    raw = voxels.tobytes("F")
    content = {"gzip": gzip.compress, "bzip2": bz2.compress}.get(encoding, lambda data: data)(raw)
    if encoding == "ascii":
        content = (" ".join(map(str, voxels.ravel("F"))) + "\n").encode()
    return text.encode("latin-1") + (b"" if "data file" in lines else content)


def write(path: Path, content: bytes) -> Path:
    """Write a file, compressed where its name ends with ``.gz``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, 1) if path.name.endswith(".gz") else content)
    return path


_VOXELS, _AFFINE, MICROMETRES = voxels_of(), oblique_affine(), np.diag([1000.0, 1000.0, 1000.0, 1.0])
SCANS = {
    "plain": nifti(_VOXELS, _AFFINE, _AFFINE),
    "sform alone": nifti(_VOXELS, _AFFINE),
    "sform alone, pixdim 1": nifti(_VOXELS, _AFFINE, pixdim=[1] * 8),
    "qform alone": nifti(_VOXELS, None, _AFFINE),
    "forms apart": nifti(_VOXELS, _AFFINE, shifted(_AFFINE, 12, 12, 12)),
    "codes 0": nifti(_VOXELS, pixdim=[1, 1.4, 1.3, 9.5, 0, 0, 0, 0]),
    "micrometres": nifti(_VOXELS, MICROMETRES @ _AFFINE, MICROMETRES @ _AFFINE, xyzt_units=3),
    "big-endian": nifti(_VOXELS, _AFFINE, _AFFINE, endian=">"),
}
"""The same scan of :func:`voxels_of` at :func:`oblique_affine`, in headers of several kinds."""
