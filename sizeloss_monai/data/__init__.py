"""Data lists, readers, checks and data sets."""

from sizeloss_monai.data.grid import Grid, read_grid
from sizeloss_monai.data.integrity import verify_file
from sizeloss_monai.data.mask_writer import MaskWriter
from sizeloss_monai.data.scans import find_scans
from sizeloss_monai.data.slices import AnnotatedSliceSampler, SliceDataset, split_slices
from sizeloss_monai.data.volume_reader import SimpleITKReader, VolumeReader

__all__ = [
    "AnnotatedSliceSampler",
    "Grid",
    "MaskWriter",
    "SimpleITKReader",
    "SliceDataset",
    "VolumeReader",
    "find_scans",
    "read_grid",
    "split_slices",
    "verify_file",
]
