"""Segments DICOM series and writes DICOM segmentations. Needs the extra ``[dicom]``."""

from sizeloss_monai.dicom.classes import BundleDescription, Quality, SegmentDescription, SegmentQuality, assess_quality
from sizeloss_monai.dicom.instances import FolderContents, Instance, Unused, find_instances, read_instances
from sizeloss_monai.dicom.segmentation import make_segmentation, source_headers
from sizeloss_monai.dicom.segmenter import DicomSegmenter, SegmentedPhase
from sizeloss_monai.dicom.series import decode_volume, pick_series, series_token, split_phases, unused_files

__all__ = [
    "BundleDescription",
    "DicomSegmenter",
    "FolderContents",
    "Instance",
    "Quality",
    "SegmentDescription",
    "SegmentQuality",
    "SegmentedPhase",
    "Unused",
    "assess_quality",
    "find_instances",
    "make_segmentation",
    "pick_series",
    "read_instances",
    "decode_volume",
    "series_token",
    "source_headers",
    "split_phases",
    "unused_files",
]
