"""Files that are whole or absent, whatever interrupts the process that writes them."""

from __future__ import annotations

import gzip
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nibabel.filebasedimages import SerializableImage

__all__ = ["UNFINISHED", "save_nifti", "whole_file", "write_whole"]

UNFINISHED = ".unfinished-"  # the beginning of the names of files that are not complete


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file under another name, and rename it once all of it is on the disk.

    The other name begins with :py:data:`UNFINISHED` and has the same ending, by which libraries choose a format.

    Example::

        with whole_file("sizes.csv") as part:
            part.write_text(table)

    Args:
        path: of the file, which is replaced. Its folder must exist.

    Yields:
        The path to write to, in the same folder.

    Raises:
        OSError: when the file cannot be written; it names ``path``. Nothing is left behind, and the earlier file stays.
    """
    path = Path(path)
    # the end of a long name, so that a name the file system allows does not become too long
    part = path.with_name(f"{UNFINISHED}{secrets.token_hex(4)}-{path.name[-60:]}")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())  # or a power cut may leave the new name with an empty file
        os.replace(part, path)
    except OSError as err:
        raise OSError(err.errno, err.strerror or str(err), str(path)) from err
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write bytes, or a text as UTF-8, by :py:func:`whole_file`."""
    with whole_file(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def save_nifti(image: SerializableImage, path: str | os.PathLike[str]) -> None:
    """Write a ``.nii`` or ``.nii.gz`` file by :py:func:`whole_file`. The same image always gives the same bytes.

    On a full disk ``nibabel.save`` leaves an empty ``.nii.gz`` without an error.
    """
    content = image.to_bytes()
    # nibabel's own level: higher ones take several times as long for a few percent
    write_whole(path, gzip.compress(content, compresslevel=1, mtime=0) if str(path).endswith(".gz") else content)
