"""Data lists, readers, checks and data sets."""

from sizeloss_monai.data.annotated_items import Annotation, annotated_items
from sizeloss_monai.data.annotated_slice_sampler import AnnotatedSliceSampler
from sizeloss_monai.data.annotations import SizeBounds, case_bounds, case_tags
from sizeloss_monai.data.bounds_from_cases import size_interval
from sizeloss_monai.data.bounds_proposal import add_bounds, propose_from_cases, propose_published, review_bounds
from sizeloss_monai.data.case_sizes import measure_sizes
from sizeloss_monai.data.checks import (
    CheckReport,
    check_bounds,
    check_cases,
    check_datalist,
    check_used_data,
    choose_slice_axis,
    decide_slice_axis,
    label_ids_of,
    unannotated_id_of,
)
from sizeloss_monai.data.common_bounds import measure_common_bounds
from sizeloss_monai.data.datalists import load_datalist, make_datalist, open_datalist, save_datalist
from sizeloss_monai.data.findings import DataError, Finding
from sizeloss_monai.data.grid import Grid, read_grid
from sizeloss_monai.data.integrity import verify_file
from sizeloss_monai.data.layouts import unused_files
from sizeloss_monai.data.mask_writer import MaskWriter
from sizeloss_monai.data.match_grid import MatchGridD, MatchGridd, MatchGridDict
from sizeloss_monai.data.phantoms import make_affine, make_cine_phantom, write_cine_phantoms
from sizeloss_monai.data.published_sizes import published_range
from sizeloss_monai.data.scans import find_scans
from sizeloss_monai.data.sitk_reader import SimpleITKReader
from sizeloss_monai.data.slices import SliceDataset, split_slices
from sizeloss_monai.data.supervision import mark_supervision
from sizeloss_monai.data.volume_reader import VolumeReader

__all__ = [
    "AnnotatedSliceSampler",
    "Annotation",
    "CheckReport",
    "DataError",
    "Finding",
    "Grid",
    "MaskWriter",
    "MatchGridD",
    "MatchGridDict",
    "MatchGridd",
    "SimpleITKReader",
    "SizeBounds",
    "SliceDataset",
    "VolumeReader",
    "annotated_items",
    "add_bounds",
    "case_bounds",
    "case_tags",
    "check_bounds",
    "check_cases",
    "check_datalist",
    "check_used_data",
    "choose_slice_axis",
    "decide_slice_axis",
    "find_scans",
    "label_ids_of",
    "load_datalist",
    "make_affine",
    "make_cine_phantom",
    "make_datalist",
    "mark_supervision",
    "measure_common_bounds",
    "measure_sizes",
    "open_datalist",
    "propose_from_cases",
    "propose_published",
    "published_range",
    "read_grid",
    "review_bounds",
    "save_datalist",
    "size_interval",
    "split_slices",
    "unused_files",
    "unannotated_id_of",
    "verify_file",
    "write_cine_phantoms",
]
