"""A mask as a DICOM Segmentation object (PS3.3 A.51), by highdicom."""

from __future__ import annotations

import re
import uuid
import warnings
from collections.abc import Mapping, Sequence

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.sr.codedict import codes
from pydicom.valuerep import DA, TM

import sizeloss_monai
from sizeloss_monai.dicom.description import SegmentDescription
from sizeloss_monai.dicom.instances import Instance

__all__ = ["make_segmentation", "source_headers"]


def make_segmentation(
    phase: Sequence[Instance],
    mask: np.ndarray,
    segments: Mapping[int, SegmentDescription],
    model: str,
    model_version: str,
    weights_sha256: str,
    description: str,
    number: int = 1,
) -> hd.seg.Segmentation:
    """Make the segmentation of a phase.

    Patient, study and frame of reference are those of the series, and every source instance is referred to. Its
    UIDs follow from the source instances and the model: the same input gives the same segmentation, which a PACS
    then keeps once. Dates and times of the source that are none, as anonymisers leave them, become empty.

    Args:
        phase: the slices in order, see :py:func:`split_phases`.
        mask: ``[x, y, z]`` integer class ids on their grid: columns, rows, slices.
        segments: what each class is.
        model: name of the bundle.
        model_version: of the bundle.
        weights_sha256: of the checkpoint.
        description: of the series, its first 64 characters.
        number: of the phase, from 1: phases are instances of one series.

    Returns:
        The object, binary, with a frame for each slice and class.
    """
    headers = source_headers([instance.header for instance in phase])
    first = headers[0]
    identity = (model, model_version, weights_sha256)
    source = [header.SOPInstanceUID for header in headers]
    algorithm = hd.AlgorithmIdentificationSequence(
        name=model, family=codes.DCM.ArtificialIntelligence, version=model_version, source="sizeloss_monai"
    )
    # the source's values stay as they are, even malformed ones; warnings of them would tell the patient's name
    with disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hd.seg.Segmentation(
            source_images=headers,
            pixel_array=np.ascontiguousarray(mask.T.astype(np.uint8)),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[
                hd.seg.SegmentDescription(
                    segment_number=class_id,
                    segment_label=segment.label,
                    segmented_property_category=hd.sr.CodedConcept(*segment.category),
                    segmented_property_type=hd.sr.CodedConcept(*segment.type),
                    algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                    algorithm_identification=algorithm,
                    tracking_uid=_uid("tracking", *identity, str(class_id), *source),
                    tracking_id=f"{model} {segment.label}"[:64],
                )
                for class_id, segment in segments.items()
            ],
            series_instance_uid=_uid("series", *identity, first.SeriesInstanceUID),
            series_number=1000 + max(int(first.get("SeriesNumber") or 0), 0),
            sop_instance_uid=_uid("instance", *identity, *source),
            instance_number=number,
            manufacturer="sizeloss_monai",
            manufacturer_model_name=model,
            software_versions=f"{sizeloss_monai.__version__} {model} {model_version}"[:64],
            device_serial_number=weights_sha256[:16],
            content_description=f"{model} {model_version}"[:64],
            content_label="SEGMENTATION",
            omit_empty_frames=False,  # readers then see the whole grid, even of an empty mask
            series_description=description[:64],
        )


def source_headers(headers: Sequence[Dataset]) -> list[Dataset]:
    """The headers of a series as a segmentation may take them over, where an anonymiser made them what they cannot be.

    Args:
        headers: of the slices of one series; they stay as they are.

    Returns:
        Copies in which dates and times that are none are empty, and with one frame of reference (PS3.3 C.7.4.1).
    """
    shown = [_presentable(header) for header in headers]
    first = shown[0]
    frame_of_reference = first.get("FrameOfReferenceUID") or _uid("frame of reference", first.SeriesInstanceUID)
    for header in shown:
        _replace(header, "FrameOfReferenceUID", frame_of_reference)
    return shown


def _uid(*parts: str) -> hd.UID:
    """The UID that belongs to these texts (PS3.5 B.2)."""
    return hd.UID.from_uuid(str(uuid.uuid5(uuid.NAMESPACE_OID, repr([str(part) for part in parts]))))


def _presentable(header: Dataset) -> Dataset:
    """The header without dates and times that are none."""
    shown = Dataset()
    shown.update(header)
    shown.file_meta = header.file_meta
    for keyword, kind, form in (
        ("PatientBirthDate", DA, r"\d{8}"),
        ("StudyDate", DA, r"\d{8}"),
        ("StudyTime", TM, r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?"),
    ):
        value = str(shown.get(keyword) or "").strip()
        try:
            if not re.fullmatch(form, value):
                raise ValueError
            kind(value)
        except ValueError:
            _replace(shown, keyword, "")
    if shown.get("PatientSex") not in ("M", "F", "O"):
        _replace(shown, "PatientSex", "")
    return shown


def _replace(header: Dataset, keyword: str, value: str) -> None:
    """Give a copy of a header another element; to set its value would change the original's, which it shares."""
    if keyword in header:
        delattr(header, keyword)
    setattr(header, keyword, value)
