"""Reading a file of a case, whatever is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.data import ImageReader, MetaTensor
from monai.transforms import LoadImage
from monai.utils import ensure_tuple

from sizeloss_monai.data.findings import Finding, Place, listed
from sizeloss_monai.data.names import no_file_reason
from sizeloss_monai.data.volume_reader import VolumeReader

__all__ = ["read_volume"]


def read_volume(files: Any, where: Place, reader: ImageReader | None = None) -> MetaTensor | Finding:
    """Read a file, or several as channels.

    Args:
        files: a path, or a sequence of paths.
        where: the case and the key they are of.
        reader: a MONAI reader; :class:`~sizeloss_monai.data.VolumeReader` by default.

    Returns:
        The volume, ``[C, *spatial]``, or what is wrong: a file is missing, truncated, damaged or of an unknown format.
    """
    paths = [Path(path) for path in ensure_tuple(files)]
    missing = [
        path.name[:255] if reason == "nothing" else f"{path.name[:255]} ({reason})"
        for path in paths
        if (reason := no_file_reason(path)) not in ("", "a folder")  # readers of DICOM take folders
    ]
    if missing:
        return where.error("missing-file", f"no file {listed(missing)}", "it to exist")
    try:
        return LoadImage(image_only=True, ensure_channel_first=True)(paths, reader=reader or VolumeReader())
    except Exception as err:  # every reader has its own errors, and none of them may hide those of other cases
        lines = [line.strip() for line in str(err).splitlines() if line.strip()]
        reason = lines[-1] if lines else type(err).__name__
        for path in paths:
            reason = reason.replace(str(path), path.name)
        return where.error("unreadable", f"a file that cannot be read ({reason})", "a whole image")
