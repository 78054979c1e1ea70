"""A mask as a DICOM Segmentation object (PS3.3 A.51), by highdicom."""

from __future__ import annotations

import logging
import re
import uuid
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import highdicom as hd
import numpy as np
from pydicom import DataElement, Dataset
from pydicom.config import RAISE, disable_value_validation
from pydicom.sr.codedict import codes
from pydicom.valuerep import DA, DS, TM, validate_value

import sizeloss_monai
from sizeloss_monai.dicom.classes import SegmentDescription
from sizeloss_monai.dicom.instances import Instance, decode_elements
from sizeloss_monai.dicom.series import numbers_of, phase_grid, usual_numbers

__all__ = ["make_segmentation", "source_headers"]

logging.getLogger("highdicom").setLevel(logging.ERROR)  # its warnings quote the patient's name

# type 2 attributes of the modules that a segmentation copies: patient, study, frame of reference
_KEPT = ("PatientID", "PatientName", "AccessionNumber", "StudyID")
_TYPE_2 = (
    *_KEPT,
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "PositionReferenceIndicator",
)
_FORMS = {"DA": r"(\d{8})?", "TM": r"(\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?)?", "DT": r".*"}


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

    It copies patient, study and frame of reference from the series, and refers to every source instance. Its UIDs
    follow from the source instances and the model: the same input gives the same UIDs, so that a PACS keeps the
    segmentation once. What the source lacks is empty or computed, see :py:func:`source_headers`. Texts are in UTF-8.

    Args:
        phase: the slices in order, see :py:func:`split_phases`.
        mask: ``[x, y, z]`` integer class ids on the grid of the slices: columns, rows, slices.
        segments: the classes.
        model: name of the bundle.
        model_version: of the bundle.
        weights_sha256: of the checkpoint.
        description: of the series, its first 64 characters.
        number: of the phase, from 1. All phases are instances of one series.

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
    # malformed values of the source stay as they are; warnings about them would show the patient's name
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
            series_number=_series_number(first),
            sop_instance_uid=_uid("instance", *identity, *source),
            instance_number=number,
            manufacturer="sizeloss_monai",
            manufacturer_model_name=model,
            software_versions=f"{sizeloss_monai.__version__} {model} {model_version}"[:64],
            device_serial_number=weights_sha256[:16],
            content_description=f"{model} {model_version}"[:64],
            content_label="SEGMENTATION",
            omit_empty_frames=False,  # so that readers see the whole grid, even where the mask is empty
            series_description=description[:64],
        )


def source_headers(headers: Sequence[Dataset]) -> list[Dataset]:
    """The headers of a series, corrected so that a segmentation can copy them.

    - They have every attribute of type 2 that a segmentation copies. What the first header lacks comes from another
      slice, or is empty. Invalid dates, times and sexes, as anonymisers leave them, become empty.
    - They lack optional attributes whose value breaks the rules of its type, such as an age of ``"45"``.
    - All slices have the pixel spacing and the orientation that most slices have.
    - The distance between slices comes from their positions, as does a missing slice thickness.
    - All slices have one frame of reference (PS3.3 C.7.4.1).

    Args:
        headers: of the slices of one series, in any order. Their texts are decoded; nothing else changes in them.

    Returns:
        Copies.
    """
    with disable_value_validation(), warnings.catch_warnings():  # as in `make_segmentation`
        warnings.simplefilter("ignore")
        return _source_headers(headers)


def _source_headers(headers: Sequence[Dataset]) -> list[Dataset]:
    """As `source_headers`; pydicom may warn."""
    shown = [_presentable(header) for header in headers]
    first = shown[0]
    taken = {keyword: _first_value(shown, keyword) for keyword in (*_TYPE_2, "FrameOfReferenceUID")}
    taken["FrameOfReferenceUID"] = taken["FrameOfReferenceUID"] or _uid("frame of reference", first.SeriesInstanceUID)
    spacing = phase_grid(headers).spacing[2]
    grid = {keyword: usual_numbers(headers, keyword) for keyword in ("PixelSpacing", "ImageOrientationPatient")}
    for header in shown:
        for keyword, value in taken.items():
            _replace(header, keyword, value)
        for keyword, usual in grid.items():
            if numbers_of(header, keyword) != usual:
                _replace(header, keyword, [DS(value, auto_format=True) for value in usual])
        thickness = numbers_of(header, "SliceThickness")
        if len(thickness) != 1 or thickness[0] <= 0:
            _replace(header, "SliceThickness", DS(spacing, auto_format=True))
        _replace(header, "SpacingBetweenSlices", DS(spacing, auto_format=True))
    return shown


def _uid(*parts: str) -> hd.UID:
    """The UID that belongs to these texts (PS3.5 B.2)."""
    return hd.UID.from_uuid(str(uuid.uuid5(uuid.NAMESPACE_OID, repr([str(part) for part in parts]))))


def _presentable(header: Dataset) -> Dataset:
    """A copy of a header without values that break the rules of their type; the patient's name and id stay."""
    decode_elements(header)
    shown = Dataset()
    shown.file_meta = header.file_meta
    for element in header:
        if element.keyword in _KEPT or element.VR in ("SQ", "UI") or _is_valid(element):
            shown.add(element)
    if shown.get("PatientSex") not in ("M", "F", "O"):
        _replace(shown, "PatientSex", "")
    return shown


def _is_valid(element: DataElement) -> bool:
    """Whether the value of an element follows the rules of its type (PS3.5 6.2)."""
    values = element.value if element.VM > 1 else [element.value]
    try:
        for value in values:
            if element.VR in ("DA", "TM", "DT") and not re.fullmatch(_FORMS[element.VR], str(value or "").strip()):
                return False
            text = getattr(value, "original_string", value)
            validate_value(element.VR, text if isinstance(text, str) else value, RAISE)
            if value and element.VR in ("DA", "TM"):
                {"DA": DA, "TM": TM}[element.VR](value)
    except (TypeError, ValueError):
        return False
    return True


def _first_value(headers: Sequence[Dataset], keyword: str) -> Any:
    """An attribute's value in the first header that has one; empty where all lack it."""
    values = (header.get(keyword) for header in headers)
    return next((value for value in values if value is not None and str(value).strip()), "")


def _series_number(header: Dataset) -> int:
    """The number of the segmentation's series: the source's plus 1000, or 1000 where that number is not valid."""
    numbers = numbers_of(header, "SeriesNumber")
    number = 1000 + int(numbers[0]) if len(numbers) == 1 and numbers[0] > 0 else 1000
    return number if number < 1 << 31 else 1000


def _replace(header: Dataset, keyword: str, value: Any) -> None:
    """Replace an element in a copy of a header. Setting its value would change the original: both share the element."""
    if keyword in header:
        delattr(header, keyword)
    setattr(header, keyword, value)
