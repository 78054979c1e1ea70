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

__all__ = ["Header", "HeaderError", "is_nifti", "nifti_fields", "read_header"]

_MIN_MM, _MAX_MM = 1e-5, 1e3
"""Voxels of a light microscope (0.01 um) to those of no scanner (1 m)."""

_MAX_ORIGIN_MM = 1e6

_MAX_DIMENSIONS = 7  # NIfTI's limit; no scan has more
_MAX_HEADER_BYTES = 1 << 20
_MAX_FILE_BYTES = 1 << 40
_UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # of xyzt_units: not said, metre, millimetre, micrometre
_MAX_FORM_CODE = 5
_MIN_SLOPE = 1e-15
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

Encoding = Literal["raw", "gzip", "zlib", "text"]


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
        voxel_files: the files that hold the voxels, equal shares of them.
        packed_bytes: of compressed voxels, where the header says how many; None where it does not.
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
    packed_bytes: int | None = None
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


def _check_dimensions(number: int) -> None:
    if not 1 <= number <= _MAX_DIMENSIONS:
        raise HeaderError(f"found {number} dimensions in the header, expected 1 to {_MAX_DIMENSIONS}")


def _check_shape(shape: Sequence[int]) -> None:
    if any(size < 1 for size in shape):
        raise HeaderError(f"found the sizes {' x '.join(map(str, shape))} in the header, expected sizes of at least 1")


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


def nifti_fields(path: Path) -> nib.Nifti1Header:
    """The header of a NIfTI file as it stands, with nothing repaired.

    Args:
        path: of the file.

    Raises:
        HeaderError: when the file does not begin with the header of a one-piece NIfTI file.
    """
    packed = _is_packed(path)
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as stream:
            block = stream.read(nib.nifti2.header_dtype.itemsize)
    except (EOFError, zlib.error, gzip.BadGzipFile) as err:
        raise HeaderError("the file is truncated or damaged: its header does not unpack") from err
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


def _is_packed(path: Path) -> bool:
    """Whether a file is compressed; raises where its name says otherwise."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed != path.name.lower().endswith(".gz"):
        found, expected = ("gzip", "plain") if packed else ("no gzip", "gzip")
        raise HeaderError(f"found {found} data in '{path.name}', expected {expected} data by its name")
    return packed


def _nifti(path: Path) -> Header:
    header = nifti_fields(path)
    num = int(header["dim"][0])
    _check_dimensions(num)
    shape = tuple(int(size) for size in header["dim"][1 : num + 1])
    _check_shape(shape)
    try:
        dtype = header.get_data_dtype()
        header.get_slope_inter()
    except KeyError as err:
        raise HeaderError(f"found the unknown code {err} for the type of voxels, expected one of NIfTI's") from err
    except HeaderDataError as err:
        raise HeaderError(f"found a header that cannot be used ({err}), expected a NIfTI header") from err
    slope = abs(float(header["scl_slope"]))
    if 0 < slope < _MIN_SLOPE:  # ITK takes 1 then
        raise HeaderError(f"found the scl_slope {slope:g}, expected one that matters, or 0 for none")
    if dtype.kind not in "iufb":
        raise HeaderError(f"found voxels of type {dtype}, expected real numbers")
    offset = float(header["vox_offset"])
    if not (math.isfinite(offset) and header.sizeof_hdr <= offset < 1 << 31):
        raise HeaderError(f"found the voxels at byte {offset:g}, expected them behind the header")
    forms, notes = _nifti_forms(header)
    encoding: Encoding = "gzip" if path.name.lower().endswith(".gz") else "raw"
    return Header(shape, 1, dtype.itemsize, encoding, int(offset), (path,), forms=forms, notes=notes)


def _nifti_forms(header: nib.Nifti1Header) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Every placement in mm, the one that counts first: sform, else qform, else pixdim; and what contradicts it.

    A qform's zooms are pixdim's, by definition of the format; an sform's are its own.
    """
    notes = []
    for name in ("sform_code", "qform_code"):
        if not 0 <= int(header[name]) <= _MAX_FORM_CODE:  # nibabel drops such a form, ITK takes it
            raise HeaderError(f"found the {name} {int(header[name])}, expected 0 to {_MAX_FORM_CODE}")
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
    fields, offset, rest = _metaimage_fields(path)
    number = _integers(fields, "NDims", 1)[0]
    _check_dimensions(number)
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
    if not _is_true(fields, "BinaryData", True):
        encoding = "text"
    elif _is_true(fields, "CompressedData", False):
        encoding = "zlib"
    name = fields["ElementDataFile"]
    local = name.upper() == "LOCAL"
    packed = None
    if encoding == "zlib" and "CompressedDataSize" in fields:
        packed = _integers(fields, "CompressedDataSize", 1)[0]
        if not 0 <= packed < _MAX_FILE_BYTES:  # ITK allocates it
            raise HeaderError(f"found the CompressedDataSize {packed}, expected bytes of a file")
    if encoding == "zlib" and local and not packed:  # ITK then unpacks something else, and says nothing
        raise HeaderError("found no CompressedDataSize above 0 in the header, expected it")
    skipped = _integers(fields, "HeaderSize", 1)[0] if "HeaderSize" in fields else 0
    if (skipped > 0 and local) or (skipped < 0 and encoding != "raw"):
        raise HeaderError(f"found the HeaderSize {skipped}, expected one that leads to the voxels")
    files = (path,) if local else _several(path, name, rest, shape)
    if not local:
        offset = skipped
    return Header(
        shape,
        channels,
        _METAIMAGE_TYPES[element] * channels,
        encoding,
        None if skipped < 0 else offset,
        files if encoding == "raw" else _only(files, encoding),
        packed,
    )


def _only(files: tuple[Path, ...], encoding: str) -> tuple[Path, ...]:
    if len(files) > 1:
        raise HeaderError(f"found {encoding} voxels in {len(files)} files, expected one file, or raw voxels")
    return files


def _several(path: Path, name: str, rest: list[str], shape: tuple[int, ...]) -> tuple[Path, ...]:
    """The files of voxels that a header names: one, a pattern ``NAME%03dNAME FIRST LAST STEP``, or a list of lines.

    Args:
        path: of the header.
        name: what it says of the files.
        rest: the lines after that.
        shape: of the voxels. A file holds one index of the last axis, where no number of dimensions says otherwise.
    """
    words = name.split()
    if words[0].upper() == "LIST":
        names = [line.strip() for line in rest if line.strip()]
        dims = words[1:2]
    elif "%" in name:
        first, last, step = _integers({"pattern": " ".join(words[1:4])}, "pattern", 3)
        if not (re.fullmatch(r"[^%]*%0?\d?d[^%]*", words[0]) and step > 0 and 0 <= last - first < 1 << 16):
            raise HeaderError(
                f"found the voxels' files '{name[:80]}', expected a pattern such as 'slice%03d.raw 1 9 1'"
            )
        names = [words[0] % number for number in range(first, last + 1, step)]
        dims = words[4:5]
    else:
        return (path.parent / name,)
    held = _integers({"dimensions of a file": dims[0]}, "dimensions of a file", 1)[0] if dims else len(shape) - 1
    expected = math.prod(shape[max(held, 0) :])
    if len(names) != expected:  # ITK reads what there is
        raise HeaderError(f"found {len(names)} files of voxels in the header, expected {expected}")
    return tuple(path.parent / name for name in names)


def _metaimage_fields(path: Path) -> tuple[dict[str, str], int | None, list[str]]:
    """The header's fields, the position behind it, and where it ends with a list of files, those lines."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while file.tell() < _MAX_HEADER_BYTES:
            line = file.readline(_MAX_HEADER_BYTES)
            key, equals, value = line.decode("latin-1").partition("=")
            if not line or not (equals or not line.strip()):
                break
            if key.strip() in fields and key.strip() != "Comment":
                raise HeaderError(f"found the field {key.strip()[:80]} twice in the header, expected it once")
            fields[key.strip()] = value.strip()
            if "ElementDataFile" in fields:
                if not fields["ElementDataFile"]:
                    break
                listed = fields["ElementDataFile"].upper().startswith("LIST")
                rest = file.read(_MAX_HEADER_BYTES).decode("latin-1").splitlines() if listed else []
                return fields, file.tell(), rest
    raise HeaderError("found no ElementDataFile, expected a MetaImage header that ends with it")


def _is_true(fields: Mapping[str, str], key: str, default: bool) -> bool:
    """A field that is true or false; ITK looks at its first letter."""
    text = fields.get(key, str(default)).lower()
    if text not in ("true", "t", "1", "false", "f", "0"):
        raise HeaderError(f"found the {key} '{text[:80]}', expected True or False")
    return text[0] in "t1"


def _first(fields: Mapping[str, str], *names: str) -> str | None:
    return next((name for name in names if name in fields), None)


def _numbers(fields: Mapping[str, str], key: str, count: int) -> np.ndarray:
    try:
        values = np.asarray([float(text) for text in fields[key].split()])
    except ValueError:
        values = np.empty(0)
    if len(values) != count or not np.isfinite(values).all():
        expected = f"{count} finite numbers" if count > 1 else "a finite number"
        raise HeaderError(f"found the {key} '{fields[key][:80]}', expected {expected}")
    return values


def _integers(fields: Mapping[str, str], key: str, count: int) -> tuple[int, ...]:
    if key not in fields:
        raise HeaderError(f"found no {key} in the header, expected it")
    values = _numbers(fields, key, count)
    if not (values == np.rint(values)).all():
        raise HeaderError(f"found the {key} '{fields[key][:80]}', expected {'integers' if count > 1 else 'an integer'}")
    return tuple(int(value) for value in values)


# ----------------------------------------------------------------------------------------------------------------- NRRD


def _nrrd(path: Path) -> Header:
    fields, offset, rest = _nrrd_fields(path)
    number = _integers(fields, "dimension", 1)[0]
    _check_dimensions(number)
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
        case "txt" | "text" | "ascii":
            encoding = "text"
        case other:
            # bzip2 is part of the format, but not of SimpleITK
            raise HeaderError(f"found the encoding '{other[:80]}', expected raw, gzip or ascii")
    files: tuple[Path, ...] = (path,)
    name = fields.get("data file", fields.get("datafile"))
    if name is not None:
        if not name:
            raise HeaderError("found no name of a data file, expected one")
        files, offset = _several(path, name, rest, sizes), 0
        files = files if encoding == "raw" else _only(files, encoding)
    for skip in ("line skip", "lineskip", "byte skip", "byteskip"):
        skipped = _integers(fields, skip, 1)[0] if skip in fields else 0
        if skipped and (encoding != "raw" or skip.startswith("line")):
            raise HeaderError(f"found the {skip} {skipped}, expected none but a byte skip of raw voxels")
        if skipped:
            offset = None if skipped < 0 or offset is None else offset + skipped
    return Header(shape, channels, _NRRD_BYTES[kind] * channels, encoding, offset, files)


def _nrrd_fields(path: Path) -> tuple[dict[str, str], int | None, list[str]]:
    """The header's fields in small letters, the position behind it, and where it ends with a list of files, those."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        if not re.match(rb"NRRD000[1-9]\r?\n", file.readline(64)):
            raise HeaderError("found no NRRD header at the start of the file, expected one")
        while file.tell() < _MAX_HEADER_BYTES:
            read = file.readline(_MAX_HEADER_BYTES).decode("latin-1")
            line = read.rstrip("\r\n")
            # a detached header may end without an empty line
            if not line and (read or "data file" in fields or "datafile" in fields):
                return fields, file.tell(), []
            if not line:
                break
            key, colon, value = line.partition(":")
            if colon and not value.startswith("=") and not line.startswith("#"):
                key = key.strip().lower()
                if key in fields:
                    raise HeaderError(f"found the field {key[:80]} twice in the header, expected it once")
                fields[key] = value.strip()
                if key in ("data file", "datafile") and value.strip().upper().startswith("LIST"):
                    return fields, None, file.read(_MAX_HEADER_BYTES).decode("latin-1").splitlines()
    raise HeaderError("found no end of the NRRD header, expected an empty line")


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
