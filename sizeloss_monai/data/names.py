"""What file names say: which files are images, and which of them annotations."""

from __future__ import annotations

import re

__all__ = ["IMAGE_SUFFIXES", "LABEL_SUFFIX", "WEAK_LABEL_SUFFIX", "image_stem"]

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".mhd", ".mha", ".nrrd", ".nhdr")
# of a stem
WEAK_LABEL_SUFFIX = re.compile(r"_(weak_label|scribble)s?$", re.IGNORECASE)
LABEL_SUFFIX = re.compile(r"_(labels?|gt|seg|segmentation)$", re.IGNORECASE)


def image_stem(name: str) -> str:
    """A file's name without the suffix of an image; empty if it has none."""
    return next((name[: -len(suffix)] for suffix in IMAGE_SUFFIXES if name.lower().endswith(suffix)), "")
