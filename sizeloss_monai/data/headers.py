"""What the header of a NIfTI, MetaImage or NRRD file claims, read and judged before a library trusts it.

Every function raises :class:`HeaderError` with one line where a header cannot be true: the libraries behind the readers
allocate what a header asks for, take NaN for a position, or abort the process.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

__all__ = ["Header", "HeaderError", "is_nifti", "read_header"]

_MIN_MM, _MAX_MM = 1e-5, 1e3
"""Voxels of a light microscope (0.01 um) to those of no scanner (1 m)."""

_MAX_ORIGIN_MM = 1e6

_MAX_DIMENSIONS = 7  # NIfTI's limit; no scan has more
_MAX_HEADER_BYTES = 1 << 20
_UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # of xyzt_units: not said, metre, millimetre, micrometre
_METAIMAGE_TYPES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4, "MET_LONG": 4,
    "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4, "MET_DOUBLE": 8,
}  # fmt: skip
_NRRD_TYPES = {
    1: "signed char, int8, int8_t, uchar, unsigned char, uint8, uint8_t",
    2: "short, short int, signed short, signed short int, int16, int16_t, ushort, unsigned short, unsigned short int, "
    "uint16, uint16_t",
    4: "int, signed int, int32, int32_t, uint, unsigned int, uint32, uint32_t, float",
    8: "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t, ulonglong, "
    "unsigned long long, unsigned long long int, uint64, uint64_t, double",
}
_NRRD_BYTES = {name: size for size, names in _NRRD_TYPES.items() for name in names.split(", ")}

Encoding = Literal["raw", "gzip", "zlib", "bzip2", "text"]


class HeaderError(OSError):
    """A header that cannot be true; the message says what was found and what was expected."""


@dataclass(frozen=True)
class Header:
    """What a file's header claims.

    Args:
        shape: voxels along each axis, without channels.
        channels: numbers of a voxel.
        voxel_bytes: bytes of a voxel, all its channels.
        encoding: of the voxels.
        offset: bytes before the voxels in their file; None where they are its last bytes.
        voxel_files: the files that hold the voxels; empty where the format names them in a way that is left to ITK.
        forms: NIfTI only: every placement that the header holds, ``[4, 4]`` from voxel indices to mm in RAS, the one
            that counts first.
        notes: what contradicts itself, and which of it is taken.
    """

    shape: tuple[int, ...]
    channels: int
    voxel_bytes: int
    encoding: Encoding
    offset: int | None
    voxel_files: tuple[Path, ...]
    forms: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def expected_bytes(self) -> int:
        """Bytes of all voxels, once decompressed."""
        return math.prod(self.shape) * self.voxel_bytes


def is_nifti(path: Path) -> bool:
    """Whether a file's name is that of a NIfTI file."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def read_header(path: Path) -> Header:
    """Read and judge the header of a NIfTI, MetaImage or NRRD file.

    Args:
        path: the file; the suffix says which format it is.

    Returns:
        What the header claims.

    Raises:
        HeaderError: when the header cannot be true, or the format is another.
        OSError: when the file cannot be read.
    """
    name = path.name.lower()
    if is_nifti(path):
        return _nifti(path)
    if name.endswith((".mhd", ".mha")):
        return _metaimage(path)
    if name.endswith((".nrrd", ".nhdr")):
        return _nrrd(path)
    raise HeaderError(f"found the name '{path.name}', expected a NIfTI, MetaImage or NRRD file")


def _check_shape(shape: Sequence[int], what: str = "sizes") -> None:
    if not 1 <= len(shape) <= _MAX_DIMENSIONS:
        raise HeaderError(f"found {len(shape)} dimensions in the header, expected 1 to {_MAX_DIMENSIONS}")
    if any(size < 1 for size in shape):
        raise HeaderError(f"found the {what} {' x '.join(map(str, shape))} in the header, expected sizes of at least 1")


def _check_affine(affine: np.ndarray, what: str) -> None:
    """Raise unless a matrix ``[r + 1, r + 1]`` in mm is finite, invertible and of a size that a scan can have."""
    if not np.isfinite(affine).all():
        raise HeaderError(f"found NaN or infinite numbers in the {what}, expected finite ones")
    linear, origin = affine[:-1, :-1], affine[:-1, -1]
    spacing = np.linalg.norm(linear, axis=0)
    if ((spacing < _MIN_MM) | (spacing > _MAX_MM)).any():
        shown = " x ".join(f"{value:.4g}" for value in spacing)
        raise HeaderError(f"found a voxel spacing of {shown} mm in the {what}, expected {_MIN_MM:g} to {_MAX_MM:g} mm")
    if (np.abs(origin) > _MAX_ORIGIN_MM).any():
        raise HeaderError(
            f"found the origin {origin.tolist()} mm in the {what}, expected at most {_MAX_ORIGIN_MM:g} mm"
        )
    if abs(np.linalg.det(linear / spacing)) < 1e-4:
        raise HeaderError(f"found axes in the {what} that lie in one plane, expected three directions")


# ---------------------------------------------------------------------------------------------------------------- NIfTI


def _nifti(path: Path) -> Header:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed != path.name.lower().endswith(".gz"):
        found, expected = ("gzip", "plain") if packed else ("no gzip", "gzip")
        raise HeaderError(f"found {found} data in '{path.name}', expected {expected} data by its name")
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as stream:
            block = stream.read(nib.nifti2.header_dtype.itemsize)
    except (EOFError, zlib.error) as err:
        raise HeaderError("the file is truncated or damaged: its header does not unpack") from err
    header = _nifti_fields(block)
    num = int(header["dim"][0])
    if not 1 <= num <= _MAX_DIMENSIONS:
        raise HeaderError(f"found {num} dimensions in the header, expected 1 to {_MAX_DIMENSIONS}")
    shape = tuple(int(size) for size in header["dim"][1 : num + 1])
    _check_shape(shape)
    try:
        dtype = header.get_data_dtype()
        header.get_slope_inter()
    except HeaderDataError as err:
        raise HeaderError(f"found a header that cannot be used ({err}), expected a NIfTI header") from err
    if dtype.kind not in "iufb":
        raise HeaderError(f"found voxels of type {dtype}, expected real numbers")
    offset = float(header["vox_offset"])
    if not (math.isfinite(offset) and header.sizeof_hdr <= offset < 1 << 31):
        raise HeaderError(f"found the voxels at byte {offset:g}, expected them behind the header")
    forms, notes = _nifti_forms(header)
    return Header(shape, 1, dtype.itemsize, "gzip" if packed else "raw", int(offset), (path,), forms, notes)


def _nifti_fields(block: bytes) -> nib.Nifti1Header:
    """The header as it stands, with nothing repaired."""
    for cls in (nib.Nifti1Header, nib.Nifti2Header):
        size = cls.template_dtype.itemsize
        for order in ("<", ">"):
            if len(block) >= size and np.frombuffer(block[:4], f"{order}i4")[0] == size:
                header = cls(block[:size], endianness=order, check=False)
                magic = header["magic"].item()
                if magic[:3] not in (b"n+1", b"n+2"):
                    raise HeaderError(f"found the magic {magic!r}, expected that of a NIfTI file of one piece")
                return header
    raise HeaderError("found no NIfTI header at the start of the file, expected one")


def _nifti_forms(header: nib.Nifti1Header) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Every placement in mm, the one that counts first: sform, else qform, else pixdim; and what contradicts it.

    A qform's zooms are pixdim's, by definition of the format; an sform's are its own.
    """
    notes = []
    unit = int(header["xyzt_units"]) & 7
    if unit not in _UNITS_MM:
        notes.append(f"the header's unit of length has the unknown code {unit}: millimetres are taken")
    scale = np.diag([_UNITS_MM.get(unit, 1.0)] * 3 + [1.0])
    zooms = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
    forms: dict[str, np.ndarray] = {}
    if int(header["sform_code"]) > 0:
        forms["sform"] = scale @ header.get_sform()
        _check_affine(forms["sform"], "sform")
    # pixdim of axes that a file of one or two dimensions lacks may be anything
    lacking = max(0, 3 - int(header["dim"][0]))
    zooms[3 - lacking :] = 1.0
    pixdim_is_right = bool(np.isfinite(zooms).all() and (zooms > 0).all())
    if int(header["qform_code"]) > 0:
        try:
            qform = scale @ header.get_qform()
            _check_affine(qform, "qform")
            forms["qform"] = qform
        except (HeaderDataError, HeaderError, ValueError) as err:
            if not forms:
                raise HeaderError(f"the qform cannot be used ({err}), and there is no sform") from err
            notes.append("the qform cannot be used: the sform is taken")
    if not forms:
        if not pixdim_is_right:
            raise HeaderError(f"found the pixdim {zooms.tolist()}, expected positive numbers: nothing else gives sizes")
        centred = np.diag([-zooms[0], zooms[1], zooms[2], 1.0])  # nibabel's, as ANALYZE has it: left is the first voxel
        shape = np.ones(3)
        num = min(3, int(header["dim"][0]))
        shape[:num] = header["dim"][1 : num + 1]
        centred[:3, 3] = -centred[:3, :3] @ ((shape - 1) / 2)
        forms["pixdim"] = scale @ centred
        _check_affine(forms["pixdim"], "pixdim")
        notes.append("neither sform nor qform has a code: sizes are taken from pixdim, the position is not known")
    taken, affine = next(iter(forms.items()))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if taken == "sform" and not (pixdim_is_right and np.allclose(zooms * scale[0, 0], spacing, rtol=0.01)):
        shown = _shown(zooms * scale[0, 0])
        notes.append(f"pixdim ({shown} mm) contradicts the sform ({_shown(spacing)} mm): the sform is taken")
    elif "sform" in forms and "qform" in forms:
        apart = float(np.abs(forms["sform"] - forms["qform"])[:3].max())
        if apart > 0.1 * spacing.min():
            notes.append(f"sform and qform differ by up to {apart:.4g} mm: the sform is taken")
    return forms, tuple(notes)


def _shown(numbers: Sequence[float] | np.ndarray) -> str:
    return " x ".join(f"{number:.4g}" for number in numbers)


# ------------------------------------------------------------------------------------------------------------ MetaImage


def _metaimage(path: Path) -> Header:
    fields, offset = _metaimage_fields(path)
    number = _integers(fields, "NDims", 1)[0]
    if not 1 <= number <= _MAX_DIMENSIONS:
        raise HeaderError(f"found {number} dimensions in the header, expected 1 to {_MAX_DIMENSIONS}")
    shape = _integers(fields, "DimSize", number)
    _check_shape(shape)
    affine = np.eye(number + 1)
    spacing = _first(fields, "ElementSpacing", "ElementSize")
    sizes = np.ones(number) if spacing is None else _numbers(fields, spacing, number)
    if not (sizes > 0).all():
        raise HeaderError(f"found the {spacing} {_shown(sizes)}, expected positive numbers")
    matrix = _first(fields, "TransformMatrix", "Rotation", "Orientation")
    axes = np.eye(number) if matrix is None else _numbers(fields, matrix, number**2).reshape(number, number).T
    affine[:-1, :-1] = axes * sizes
    origin = _first(fields, "Offset", "Position", "Origin")
    affine[:-1, -1] = 0 if origin is None else _numbers(fields, origin, number)
    _check_affine(affine, "header")
    element = fields.get("ElementType", "").upper()
    if element not in _METAIMAGE_TYPES:
        raise HeaderError(
            f"found the ElementType {element or 'nowhere'}, expected one of {', '.join(_METAIMAGE_TYPES)}"
        )
    channels = _integers(fields, "ElementNumberOfChannels", 1)[0] if "ElementNumberOfChannels" in fields else 1
    if not 1 <= channels <= 1024:
        raise HeaderError(f"found {channels} channels in the header, expected 1 to 1024")
    encoding: Encoding = "raw"
    if fields.get("BinaryData", "true").lower() == "false":
        encoding = "text"
    elif fields.get("CompressedData", "").lower() == "true":
        encoding = "zlib"
    name = fields["ElementDataFile"]
    files: tuple[Path, ...] = ()
    if name.upper() == "LOCAL":
        files = (path,)
    elif name.split()[0].upper() != "LIST" and "%" not in name:  # a list or a pattern of slices is left to ITK
        files, offset = (path.parent / name,), 0
        if "HeaderSize" in fields:
            skipped = _integers(fields, "HeaderSize", 1)[0]
            offset = None if skipped < 0 else skipped
    return Header(shape, channels, _METAIMAGE_TYPES[element] * channels, encoding, offset, files)


def _metaimage_fields(path: Path) -> tuple[dict[str, str], int | None]:
    """The header's fields, and the position behind it."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while file.tell() < _MAX_HEADER_BYTES:
            line = file.readline(_MAX_HEADER_BYTES)
            key, equals, value = line.decode("latin-1").partition("=")
            if not line or not (equals or not line.strip()):
                break
            fields[key.strip()] = value.strip()
            if "ElementDataFile" in fields:
                if not fields["ElementDataFile"]:
                    break
                return fields, file.tell()
    raise HeaderError("found no ElementDataFile, expected a MetaImage header that ends with it")


def _first(fields: Mapping[str, str], *names: str) -> str | None:
    return next((name for name in names if name in fields), None)


def _numbers(fields: Mapping[str, str], key: str, count: int) -> np.ndarray:
    try:
        values = np.asarray([float(text) for text in fields[key].split()])
    except ValueError:
        values = np.empty(0)
    if len(values) != count or not np.isfinite(values).all():
        raise HeaderError(f"found the {key} '{fields[key][:80]}', expected {count} finite numbers")
    return values


def _integers(fields: Mapping[str, str], key: str, count: int) -> tuple[int, ...]:
    if key not in fields:
        raise HeaderError(f"found no {key} in the header, expected it")
    values = _numbers(fields, key, count)
    if not (values == np.rint(values)).all():
        raise HeaderError(f"found the {key} '{fields[key][:80]}', expected {count} integers")
    return tuple(int(value) for value in values)


# ----------------------------------------------------------------------------------------------------------------- NRRD


def _nrrd(path: Path) -> Header:
    fields, offset = _nrrd_fields(path)
    number = _integers(fields, "dimension", 1)[0]
    if not 1 <= number <= _MAX_DIMENSIONS:
        raise HeaderError(f"found {number} dimensions in the header, expected 1 to {_MAX_DIMENSIONS}")
    sizes = _integers(fields, "sizes", number)
    _check_shape(sizes)
    kind = fields.get("type", "").lower()
    if kind not in _NRRD_BYTES:
        raise HeaderError(f"found the type '{kind}', expected a number of 8 to 64 bits")
    shape, channels = _nrrd_axes(fields, sizes)
    encoding: Encoding
    match fields.get("encoding", "").lower():
        case "raw":
            encoding = "raw"
        case "gz" | "gzip":
            encoding = "gzip"
        case "bz2" | "bzip2":
            encoding = "bzip2"
        case "txt" | "text" | "ascii":
            encoding = "text"
        case other:
            raise HeaderError(f"found the encoding '{other}', expected raw, gzip, bzip2 or ascii")
    files: tuple[Path, ...] = (path,)
    name = fields.get("data file", fields.get("datafile"))
    if name is not None:
        # a list or a pattern of slices is left to ITK
        files = () if not name or name.split()[0].upper() == "LIST" or "%" in name else (path.parent / name,)
        offset = 0
    for skip in ("line skip", "byte skip"):
        if skip in fields and _integers(fields, skip, 1)[0] != 0:
            if encoding != "raw" or skip == "line skip":
                files = ()  # what is skipped of a stream is left to ITK
            skipped = _integers(fields, skip, 1)[0]
            offset = None if skipped < 0 or offset is None else offset + skipped
    return Header(shape, channels, _NRRD_BYTES[kind] * channels, encoding, offset, files)


def _nrrd_fields(path: Path) -> tuple[dict[str, str], int | None]:
    """The header's fields in small letters, and the position behind it."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        if not re.match(rb"NRRD000[1-9]\r?\n", file.readline(64)):
            raise HeaderError("found no NRRD header at the start of the file, expected one")
        while file.tell() < _MAX_HEADER_BYTES:
            line = file.readline(_MAX_HEADER_BYTES).decode("latin-1").rstrip("\r\n")
            if not line:
                return fields, file.tell()
            key, colon, value = line.partition(":")
            if colon and not value.startswith("=") and not line.startswith("#"):
                fields[key.strip().lower()] = value.strip()
    raise HeaderError(f"found a header of more than {_MAX_HEADER_BYTES} bytes, expected an empty line to end it")


def _nrrd_axes(fields: Mapping[str, str], sizes: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """The sizes along spatial axes and the number of channels; raises where the placement cannot be."""
    number = len(sizes)
    if "space directions" not in fields:
        if "spacings" in fields:
            texts = fields["spacings"].split()
            given = {"spacings": " ".join(text for text in texts if text.lower() != "nan")}
            spacings = _numbers(given, "spacings", number - sum(text.lower() == "nan" for text in texts))
            if not ((np.abs(spacings) >= _MIN_MM) & (np.abs(spacings) <= _MAX_MM)).all():
                raise HeaderError(f"found the spacings {_shown(spacings)}, expected up to {_MAX_MM:g} mm")
        return sizes, 1
    vectors = re.findall(r"none|\([^)]*\)", fields["space directions"], re.IGNORECASE)
    if len(vectors) != number:
        raise HeaderError(f"found {len(vectors)} space directions, expected {number}")
    spatial = [axis for axis, vector in enumerate(vectors) if vector.lower() != "none"]
    rank = len(spatial)
    affine = np.eye(rank + 1)
    for column, axis in enumerate(spatial):
        affine[:rank, column] = _numbers({"space directions": _inside(vectors[axis])}, "space directions", rank)
    if "space origin" in fields:
        affine[:rank, -1] = _numbers({"space origin": _inside(fields["space origin"])}, "space origin", rank)
    _check_affine(affine, "header")
    channels = math.prod(sizes[axis] for axis in range(number) if axis not in spatial)
    return tuple(sizes[axis] for axis in spatial), channels


def _inside(vector: str) -> str:
    return vector.strip().strip("()").replace(",", " ")
