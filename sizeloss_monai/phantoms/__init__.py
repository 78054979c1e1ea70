"""Synthetic patients, for demos and tests without patient data."""

from sizeloss_monai.phantoms.cine import PHANTOM_GROUPS, PHANTOM_LABELS, make_cine_phantom
from sizeloss_monai.phantoms.files import FOLDER_LABELS, make_affine, write_cine_phantoms, write_phantom_folder

__all__ = [
    "FOLDER_LABELS",
    "PHANTOM_GROUPS",
    "PHANTOM_LABELS",
    "make_affine",
    "make_cine_phantom",
    "write_cine_phantoms",
    "write_phantom_folder",
]
