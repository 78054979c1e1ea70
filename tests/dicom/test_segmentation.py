from __future__ import annotations

import shutil
import subprocess

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813

from sizeloss_monai.dicom import SegmentDescription, decode_volume, make_segmentation, read_instances, split_phases
from tests.support.dicom_series import some_pixels, write_series

SEGMENTS = {
    number: SegmentDescription(label, ("91723000", "SCT", "Anatomical Structure"), (code, "SCT", meaning))
    for number, label, code, meaning in (
        (1, "Cavity", "87878005", "Left ventricle"),
        (2, "Wall", "74281007", "Myocardium"),
    )
}


def segment(folder, mask, version="1.0", description="model: PASS"):
    (phase,) = split_phases(read_instances(folder))
    return phase, make_segmentation(phase, mask, SEGMENTS, "model", version, "ab" * 32, description)


@pytest.fixture
def folder(tmp_path):
    return write_series(tmp_path / "series", some_pixels(5, 12, 10))


@pytest.fixture
def mask():
    return np.random.default_rng(0).integers(0, 3, (10, 12, 5)).astype(np.uint8)


def test_mask_comes_back_on_the_grid_of_the_series(tmp_path, folder, mask):
    phase, segmentation = segment(folder, mask)
    segmentation.save_as(tmp_path / "seg.dcm")
    volume = hd.seg.segread(tmp_path / "seg.dcm").get_volume(combine_segments=True)
    image = decode_volume(phase)
    ids = np.argwhere(np.ones_like(volume.array))
    there = ids @ volume.affine[:3, :3].T + volume.affine[:3, 3]  # LPS, of slice, row, column
    back = (there * [-1, -1, 1] - np.asarray(image.affine)[:3, 3]) @ np.linalg.inv(np.asarray(image.affine)[:3, :3]).T
    np.testing.assert_allclose(back, np.rint(back), atol=1e-3)
    np.testing.assert_array_equal(volume.array[tuple(ids.T)], mask[tuple(np.rint(back).astype(int).T)])


def test_frames_as_pydicom_and_itk_see_them(tmp_path, folder, mask):
    phase, segmentation = segment(folder, mask)
    segmentation.save_as(tmp_path / "seg.dcm")
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    headers = {instance.header.SOPInstanceUID: number for number, instance in enumerate(phase)}
    assert dataset.NumberOfFrames == 10
    assert sitk.ReadImage(str(tmp_path / "seg.dcm")).GetSize() == (10, 12, 10)
    seen = set()
    for frame, groups in zip(dataset.pixel_array, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        source = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        np.testing.assert_array_equal(frame.T, mask[:, :, headers[source]] == number)
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        assert position == phase[headers[source]].header.ImagePositionPatient
        seen.add((source, number))
    assert len(seen) == 10


def test_patient_study_and_references_are_copied(folder, mask):
    phase, segmentation = segment(folder, mask)
    source = phase[0].header
    for keyword in (
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "StudyDate",
        "StudyTime",
        "StudyID",
        "AccessionNumber",
        "ReferringPhysicianName",
        "FrameOfReferenceUID",
    ):
        assert segmentation[keyword].value == source[keyword].value, keyword
    assert segmentation.SeriesInstanceUID != source.SeriesInstanceUID
    (series,) = segmentation.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    referenced = {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence}
    assert referenced == {instance.header.SOPInstanceUID for instance in phase}
    first, second = segmentation.SegmentSequence
    assert (first.SegmentLabel, second.SegmentLabel) == ("Cavity", "Wall")
    assert first.SegmentedPropertyTypeCodeSequence[0].CodeValue == "87878005"
    assert first.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == "1.0"
    assert segmentation.SeriesDescription == "model: PASS"


def test_uids_follow_from_source_and_model(folder, mask, tmp_path):
    _, once = segment(folder, mask)
    _, twice = segment(folder, mask, description="another verdict")
    _, newer = segment(folder, mask, version="1.1")
    _, other = segment(write_series(tmp_path / "other", some_pixels(5, 12, 10), seed="other"), mask)
    assert once.SOPInstanceUID == twice.SOPInstanceUID
    assert once.SeriesInstanceUID == twice.SeriesInstanceUID
    assert len({dataset.SOPInstanceUID for dataset in (once, newer, other)}) == 3
    assert len({dataset.SeriesInstanceUID for dataset in (once, newer, other)}) == 3


def test_what_anonymisers_leave_behind(tmp_path, mask, recwarn, caplog):
    def anonymise(instance, number):
        instance.PatientBirthDate = "00000000"
        instance.StudyDate, instance.StudyTime = "20120000", "99"
        instance.PatientName = "Doe"
        instance.PatientSex = "X"
        instance.FrameOfReferenceUID = f"{instance.FrameOfReferenceUID}.{number}"
        del instance.SeriesNumber

    with pydicom.config.disable_value_validation():
        folder = write_series(tmp_path / "series", some_pixels(5, 12, 10), anonymise)
    phase, segmentation = segment(folder, mask)
    assert not any((segmentation.PatientBirthDate, segmentation.StudyDate, segmentation.PatientSex))
    assert segmentation.StudyTime is None or segmentation.StudyTime == ""
    assert segmentation.PatientName == "Doe"
    assert phase[0].header.PatientBirthDate == "00000000"  # the source stays as it is
    assert segmentation.FrameOfReferenceUID == phase[0].header.FrameOfReferenceUID
    said = caplog.text + "".join(str(warning.message) for warning in recwarn)
    assert "Doe" not in said
    assert "00000000" not in said


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian package dicom3tools) is not installed")
def test_dciodvfy_finds_no_error(tmp_path, folder, mask, empty):
    _, segmentation = segment(folder, mask * (not empty))
    segmentation.save_as(tmp_path / "seg.dcm")
    done = subprocess.run(["dciodvfy", str(tmp_path / "seg.dcm")], capture_output=True, text=True, check=False)
    assert "Segmentation" in done.stderr + done.stdout
    assert [line for line in (done.stderr + done.stdout).splitlines() if line.startswith("Error")] == []
