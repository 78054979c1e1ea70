"""Scans to predict on, from a file or a folder."""

from __future__ import annotations

import logging
from fnmatch import fnmatchcase
from pathlib import Path
from unicodedata import normalize

from sizeloss_monai.data.names import (
    IMAGE_SUFFIXES,
    LEFT_OUT,
    Entry,
    existing_path,
    image_stem,
    log_unused,
    no_file_reason,
    read_folder,
    unused_entries,
    unused_lines,
)
from sizeloss_monai.errors import DataError, listed

__all__ = ["find_scans"]

logger = logging.getLogger(__name__)


def find_scans(path: str | Path, pattern: str = "*") -> list[dict[str, str]]:
    """The scans at a path, as items for an inference workflow.

    Files of a folder that are not used are logged with the reason.

    Args:
        path: a NIfTI, MetaImage or NRRD file, or a folder of such files (its sub-folders are not searched). Files of a
            folder with the name of an annotation (``_gt``, ``.seg``, ``-label``, ``_mask``, ``_scribble``, ...) are
            left out.
        pattern: of the file names in a folder, such as ``"*_frame01*"``, to leave other images out.

    Returns:
        ``{"image": path, "case": file name without its suffix}``, sorted by name.

    Raises:
        DataError: when there is no scan, or two scans have the same name.
    """
    path = existing_path(path)
    if "/" in pattern:
        raise DataError(f"pattern must match file names, such as '*_ED*', got {pattern!r}.")
    reason = no_file_reason(path)
    if reason == "a folder":
        return _scans_of_folder(path, normalize("NFC", pattern))
    name = normalize("NFC", path.name)
    if reason:
        raise DataError(f"key 'image': found {reason} at {str(path)!r}, expected a scan or a folder of scans.")
    if not image_stem(name):
        # as for a folder: DICOM, half of a pair, ...
        (reason,) = (entry.reason for entry in read_folder(path.parent) if entry.path.name == path.name)
        raise _no_scan(path, reason)
    return [{"image": str(path), "case": image_stem(name)}]


def _scans_of_folder(folder: Path, pattern: str) -> list[dict[str, str]]:
    """The scans of a folder."""
    scans: dict[str, list[Path]] = {}
    for entry in read_folder(folder):
        if entry.kind == "image" and _matches(entry, pattern):
            scans.setdefault(entry.case, []).append(entry.path)

    def why(entry: Entry) -> tuple[str, str]:
        return ("named like an annotation" if _matches(entry, pattern) else LEFT_OUT), ""

    used = [file for files in scans.values() for file in files]
    unused = unused_entries(folder, {folder: "any"}, used, why)
    if not scans:
        found = "; ".join(unused_lines(unused)) or "an empty folder"
        raise _no_scan(folder, found, pattern)
    repeated = [f"{case} ({', '.join(file.name for file in files)})" for case, files in scans.items() if len(files) > 1]
    if repeated:
        raise DataError(f"case {listed(repeated)}: found several scans of that name, their masks would be one file.")
    log_unused(logger, unused, folder)
    return [{"image": str(files[0]), "case": case} for case, files in scans.items()]


def _matches(entry: Entry, pattern: str) -> bool:
    """Whether the pattern lets an entry's name through."""
    return fnmatchcase(normalize("NFC", entry.path.name), pattern)


def _no_scan(path: Path, found: str, pattern: str = "*") -> DataError:
    """The error that there is no scan at a path."""
    return DataError(
        f"key 'image': found no scan at {str(path)!r} (pattern {pattern!r}), expected files ending in "
        f"{', '.join(IMAGE_SUFFIXES)}; found {found}."
    )
