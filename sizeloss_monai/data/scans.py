"""Scans to predict on, from a file or a folder."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from sizeloss_monai.data.findings import DataError, listed
from sizeloss_monai.data.names import IMAGE_SUFFIXES, LABEL_SUFFIX, WEAK_LABEL_SUFFIX, image_stem

__all__ = ["find_scans"]

logger = logging.getLogger(__name__)


def find_scans(path: str | Path, pattern: str = "*") -> list[dict[str, str]]:
    """The scans at a path, as items for an inference workflow.

    Args:
        path: a NIfTI, MetaImage or NRRD file, or a folder of such files (its sub-folders are not searched). Of a
            folder, files named as annotations (``_gt``, ``_seg``, ``_label``, ``_scribble``, ...) are left out.
        pattern: of the file names in a folder, such as ``"*_frame01*"``, to leave other images out.

    Returns:
        ``{"image": path, "case": file name without its suffix}``, sorted by name.

    Raises:
        DataError: when nothing is there, there is no scan among it, or two scans would have the same name.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"key 'image': found nothing at {str(path)!r}, expected a scan or a folder of scans.")
    files = [path] if path.is_file() else sorted(p for p in path.glob(pattern) if p.is_file())
    cases = {file: name for file in files if (name := image_stem(file.name))}
    if path.is_dir():
        masks = {file for file, name in cases.items() if LABEL_SUFFIX.search(name) or WEAK_LABEL_SUFFIX.search(name)}
        if masks:
            logger.info("left out %d files named as annotations: %s", len(masks), listed(sorted(f.name for f in masks)))
        cases = {file: name for file, name in cases.items() if file not in masks}
    if not cases:
        raise DataError(
            f"key 'image': found no scan at {str(path)!r} (pattern {pattern!r}), expected files ending in "
            f"{', '.join(IMAGE_SUFFIXES)}."
        )
    repeated = [name for name, count in Counter(cases.values()).items() if count > 1]
    if repeated:
        raise DataError(f"case {listed(repeated)}: found several scans of that name, their masks would be one file.")
    return [{"image": str(file), "case": name} for file, name in cases.items()]
