"""Damaged image files, found without trusting the libraries that read them."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from monai.config import PathLike

from sizeloss_monai.data.headers import Header, HeaderError, is_nifti, read_header

__all__ = ["verify_file"]

_CHUNK = 1 << 16  # a damaged or hostile piece unpacks to a thousand times as much


def verify_file(path: PathLike) -> Header:
    """Check that a NIfTI, MetaImage or NRRD file is whole, before its voxels are read.

    ITK fills what is missing of a file with zeros, nibabel does not look at the checksum of a gzip file, and both
    allocate what a header asks for.

    Args:
        path: the file; of a MetaImage or NRRD in two pieces, its header.

    Returns:
        What its header claims.

    Raises:
        OSError: when the header cannot be true, the file is shorter than the header says, a compressed stream does not
            end, its checksum is wrong, or the voxels do not fit into this machine's memory.
    """
    path = Path(path)
    header = read_header(path)
    memory = _memory_bytes()
    needed = math.prod(header.shape) * max(header.voxel_bytes, 4)  # float32 at least once it is read
    if needed > memory:
        raise HeaderError(
            f"found a header that claims {' x '.join(map(str, header.shape))} voxels ({needed / 1e9:.3g} GB), expected "
            f"at most this machine's memory of {memory / 1e9:.3g} GB"
        )
    for file in header.voxel_files:
        if not file.is_file():
            raise HeaderError(f"found no file '{file.name}' of voxels beside the header, expected it")
    (first, *_), num_files = header.voxel_files, len(header.voxel_files)
    if header.encoding == "text":
        numbers, expected = len(_text(first, header).split()), math.prod(header.shape) * header.channels
        if numbers < expected:
            raise HeaderError(f"the file is truncated: found {numbers} numbers, expected {expected}")
        return header
    if header.encoding == "raw":
        found = min(file.stat().st_size for file in header.voxel_files) - (header.offset or 0)
    else:
        packed = first.stat().st_size - (header.offset or 0)
        if header.packed_bytes and packed < header.packed_bytes:
            raise HeaderError(
                f"the file is truncated: found {max(packed, 0)} bytes of packed voxels, expected {header.packed_bytes}"
            )
        found = _unpacked_bytes(first, header)
    expected = -(-header.expected_bytes // num_files)
    if found < expected:
        raise HeaderError(f"the file is truncated: found {max(found, 0)} bytes of voxels, expected {expected}")
    return header


def _memory_bytes() -> float:
    """This machine's memory; unlimited where the system does not tell (Windows)."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return math.inf


def _text(path: Path, header: Header) -> bytes:
    """The voxels of a file that holds them as text."""
    with path.open("rb") as file:
        file.seek(header.offset or 0)
        return file.read()


def _unpacked_bytes(path: Path, header: Header) -> int:
    """Bytes of voxels in a compressed file, each of its streams whole and its checksum right."""
    # zlib also checks the sums; NIfTI's offset counts within the unpacked stream, the others' in the file
    whole = is_nifti(path)
    with path.open("rb") as file:
        file.seek(0 if whole else header.offset or 0)
        try:
            total = sum(_streams(file, header.packed_bytes))
        except HeaderError:
            raise
        except (zlib.error, OSError) as err:
            raise HeaderError(f"the compressed voxels are damaged: {err}") from err
    return total - (header.offset or 0) if whole else total


def _streams(file: IO[bytes], limit: int | None) -> Iterator[int]:
    """Unpack one compressed stream after another, and tell the bytes of each; at most `limit` packed bytes count."""
    left = limit or math.inf

    def piece() -> bytes:
        nonlocal left
        data = file.read(int(min(_CHUNK, left)))
        left -= len(data)
        return data

    rest = b""
    while rest := rest or piece():
        if not rest.strip(b"\0"):  # padding behind the last stream
            rest = b""
            continue
        stream = zlib.decompressobj(zlib.MAX_WBITS | 32)
        total = 0
        while not stream.eof:
            if not rest:
                raise HeaderError("the file is truncated: its compressed voxels do not end")
            total += len(stream.decompress(rest))
            rest = stream.unused_data if stream.eof else piece()
        yield total
