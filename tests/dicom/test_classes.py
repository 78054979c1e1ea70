from __future__ import annotations

import numpy as np
import pytest

from sizeloss_monai.bundle import ConfigError
from sizeloss_monai.dicom import BundleDescription, SegmentDescription, assess_quality

CODE = ("1", "SCT", "Thing")


def judge(mask, volume=(10.0, 100.0), found=None, voxel_ml=1.0, **kwargs):
    segments = {1: SegmentDescription("thing", CODE, CODE, volume)}
    return assess_quality(mask, mask if found is None else found, voxel_ml, segments, **kwargs)


def box(size: int, start: int = 3) -> np.ndarray:
    mask = np.zeros((20, 20, 20), np.uint8)
    mask[start : start + size, 3 : 3 + size, 3 : 3 + size] = 1
    return mask


@pytest.mark.parametrize(
    ("mask", "verdict", "reason"),
    [
        (box(3), "pass", None),
        (box(5), "review", "125.0 mL outside 10 to 100 mL"),
        (box(6), "reject", "216.0 mL outside 10 to 100 mL"),
        (box(2), "review", "8.0 mL outside 10 to 100 mL"),
        (box(1), "reject", "1.0 mL outside 10 to 100 mL"),
        (box(0), "reject", "empty"),
        (box(3, start=0), "review", "touches the edge of the slices"),
    ],
)
def test_verdicts(mask, verdict, reason):
    quality = judge(mask)
    assert quality.verdict == verdict
    assert quality.reasons == (() if reason is None else (f"thing: {reason}",))


def test_volume_is_in_ml():
    assert judge(box(3), voxel_ml=0.5).segments[1].volume_ml == pytest.approx(13.5)


def test_pieces_are_counted_before_they_were_removed():
    found = box(3)
    found[15:17, 15:17, 15:17] = 1  # 8 voxels beside 27
    quality = judge(box(3), found=found)
    assert quality.segments[1].components == 2
    assert quality.reasons == ("thing: 2 pieces, the largest 77%",)
    found[:] = box(3)
    found[15, 15, 15] = 1
    assert judge(box(3), found=found).verdict == "pass"  # a speck


def test_the_end_slices_are_no_edge():
    mask = np.zeros((20, 20, 5), np.uint8)
    mask[5:8, 5:8, :] = 1
    assert judge(mask).verdict == "pass"


def test_absence_where_it_is_allowed_or_nothing_is_known():
    assert judge(box(0), volume=(0.0, 50.0)).verdict == "pass"
    assert judge(box(0), volume=None).reasons == ("thing: empty",)
    assert judge(box(6), volume=None).verdict == "pass"


def test_worst_class_decides():
    mask = box(3)
    mask[10:16, 10:16, 10:16] = 2
    segments = {i: SegmentDescription(f"thing {i}", CODE, CODE, (10.0, 100.0)) for i in (1, 2)}
    quality = assess_quality(mask, mask, 1.0, segments)
    assert (quality.segments[1].verdict, quality.segments[2].verdict, quality.verdict) == ("pass", "reject", "reject")
    assert assess_quality(mask, mask, 1.0, segments, reject_factor=3.0).verdict == "review"


SEGMENT = {"label": "thing", "category": CODE, "type": CODE}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"segments": {1: SEGMENT}}, r"found the keys \['segments'\]"),
        ({"modality": "MR", "segments": {1: SEGMENT}, "more": 1}, "found the keys"),
        ({"modality": "MR", "segments": {}}, r"found segments \[\]"),
        ({"modality": "MR", "segments": {2: SEGMENT}}, r"found segments \[2\], expected 1 to"),
        ({"modality": "MR", "segments": {1: {**SEGMENT, "label": "x" * 65}}}, "a label of 65 characters"),
        ({"modality": "MR", "segments": {1: {**SEGMENT, "volume": [5, 2]}}}, r"found the volume \[5, 2\]"),
        ({"modality": "MR", "segments": {1: {**SEGMENT, "type": "heart"}}}, "found the code heart"),
        ({"modality": "MR", "segments": {1: {"label": "thing"}}}, "segment 1: found the keys"),
        ({"modality": "MR", "segments": {1: "thing"}}, "segment 1: found 'thing', expected label"),
        ({"modality": "MR", "segments": [SEGMENT]}, r"found segments \[\], expected 1 to"),
        ({"modality": "MR", "segments": {"one": SEGMENT}}, r"found segments \['one'\], expected 1 to"),
        ({"modality": "MR", "segments": {1: {**SEGMENT, "volume": [1, 2, 3]}}}, r"found the volume \[1, 2, 3\]"),
        ({"modality": "MR", "segments": {1: {**SEGMENT, "volume": "much"}}}, "found the volume much"),
        ({"modality": "MR", "segments": {1: SEGMENT}, "reject_factor": "x"}, "reject_factor x, expected at least 1"),
        ({"modality": "MR", "segments": {1: SEGMENT}, "reject_factor": 0.5}, "reject_factor 0.5, expected at least 1"),
    ],
)
def test_bad_description_is_refused(config, message):
    with pytest.raises(ConfigError, match=f"^dicom.yaml.*{message}"):
        BundleDescription.from_config(config)
