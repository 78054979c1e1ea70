"""Damaged image files, found without trusting the libraries that read them."""

from __future__ import annotations

import bz2
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

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
    if not header.voxel_files:
        return header
    file = header.voxel_files[0]
    if not file.is_file():
        raise HeaderError(f"found no file '{file.name}' of voxels beside the header, expected it")
    expected = header.expected_bytes
    if header.encoding == "text":
        found, expected = len(_text(file, header).split()), math.prod(header.shape) * header.channels
        if found < expected:
            raise HeaderError(f"the file is truncated: found {found} numbers, expected {expected}")
        return header
    raw = header.encoding == "raw"
    found = file.stat().st_size - (header.offset or 0) if raw else _unpacked_bytes(file, header)
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


class _Unpacker(Protocol):
    """What zlib's and bz2's streams have in common."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""

    @property
    def unused_data(self) -> bytes:
        """What follows its end."""

    def decompress(self, data: bytes, /) -> bytes:
        """The next piece."""


def _unpacked_bytes(path: Path, header: Header) -> int:
    """Bytes of voxels in a compressed file, each of its streams whole and its checksum right."""
    # zlib also checks the sums; NIfTI's offset counts within the unpacked stream, the others' in the file
    whole = is_nifti(path)
    with path.open("rb") as file:
        file.seek(0 if whole else header.offset or 0)
        try:
            total = sum(_streams(file, header.encoding))
        except HeaderError:
            raise
        except (zlib.error, OSError) as err:
            raise HeaderError(f"the compressed voxels are damaged: {err}") from err
    return total - (header.offset or 0) if whole else total


def _streams(file: IO[bytes], encoding: str) -> Iterator[int]:
    """Unpack one compressed stream after another, and tell the bytes of each."""
    rest = b""
    while rest := rest or file.read(_CHUNK):
        if not rest.strip(b"\0"):  # padding behind the last stream
            rest = b""
            continue
        stream: _Unpacker = bz2.BZ2Decompressor() if encoding == "bzip2" else zlib.decompressobj(zlib.MAX_WBITS | 32)
        total = 0
        while not stream.eof:
            if not rest:
                raise HeaderError("the file is truncated: its compressed voxels do not end")
            total += len(stream.decompress(rest))
            rest = stream.unused_data if stream.eof else file.read(_CHUNK)
        yield total
