from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLSLossless

from sizeloss_monai.dicom import decode_volume, pick_series, read_instances, series_token, split_phases
from sizeloss_monai.dicom.series import phase_grid
from sizeloss_monai.errors import DataError
from tests.support.dicom_series import NORMAL, some_pixels, write_series

ARRAY = some_pixels(5, 12, 10)


def phases_of(folder, **kwargs):
    return split_phases(pick_series(read_instances(folder)), **kwargs)


def test_volume_is_what_simpleitk_reads(tmp_path):
    folder = write_series(tmp_path / "series", ARRAY)
    (phase,) = phases_of(folder, modality="MR")
    volume = decode_volume(phase)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    np.testing.assert_array_equal(np.asarray(volume), sitk.GetArrayFromImage(image).T)
    np.testing.assert_array_equal(np.asarray(volume).T, ARRAY)
    for index in ([0, 0, 0], [9, 11, 4], [3, 7, 2]):
        expected = np.array(image.TransformIndexToPhysicalPoint(index)) * [-1, -1, 1]  # LPS to RAS
        np.testing.assert_allclose((np.asarray(volume.affine) @ [*index, 1])[:3], expected, atol=1e-4)


def test_the_grid_of_a_phase_needs_no_order(tmp_path):
    (phase,) = phases_of(write_series(tmp_path, ARRAY))
    headers = [instance.header for instance in phase]
    grid = phase_grid(headers)
    np.testing.assert_array_equal(grid.affine, np.asarray(decode_volume(phase).affine))
    np.testing.assert_array_equal(grid.affine, phase_grid([headers[i] for i in (3, 0, 4, 1, 2)]).affine)
    assert grid.shape == (10, 12, 5)
    np.testing.assert_allclose([*grid.spacing, grid.voxel_mm3], [1.25, 1.5, 8, 15])


def test_file_names_and_instance_numbers_mean_nothing(tmp_path):
    folder = write_series(tmp_path / "series", ARRAY)
    before = decode_volume(phases_of(folder)[0])
    files = sorted(folder.iterdir())
    shuffled = tmp_path / "shuffled" / "deep"
    shuffled.mkdir(parents=True)
    for number, index in enumerate(np.random.default_rng(1).permutation(len(files))):
        instance = dcmread(files[index])
        instance.InstanceNumber = number
        instance.save_as(shuffled / f"{number:03d}.dcm")
    (shuffled / "notes.txt").write_text("no DICOM")
    after = decode_volume(phases_of(shuffled.parent)[0])
    np.testing.assert_array_equal(np.asarray(before), np.asarray(after))
    np.testing.assert_array_equal(np.asarray(before.affine), np.asarray(after.affine))


@pytest.mark.parametrize("keyword", ["TriggerTime", "TemporalPositionIdentifier"])
def test_cine_is_split_by_time(tmp_path, keyword):
    array = some_pixels(3, 4, 6, 5)

    def change(instance, number):
        if keyword == "TemporalPositionIdentifier":
            instance.TemporalPositionIdentifier = 10 - int(instance.TriggerTime // 40)  # against the trigger time

    phases = phases_of(write_series(tmp_path, array, change))
    order = [0, 1, 2] if keyword == "TriggerTime" else [2, 1, 0]
    for phase, time in zip(phases, order, strict=True):
        np.testing.assert_array_equal(np.asarray(decode_volume(phase)).T, array[time])


def test_rescale_of_each_slice_is_applied(tmp_path):
    def change(instance, number):
        instance.RescaleSlope, instance.RescaleIntercept = 0.5 + number, -number

    (phase,) = phases_of(write_series(tmp_path, ARRAY, change))
    expected = ARRAY * (0.5 + np.arange(5)[:, None, None]) - np.arange(5)[:, None, None]
    np.testing.assert_allclose(np.asarray(decode_volume(phase)).T, expected)


def test_compressed_pixels_are_decoded(tmp_path):
    def change(instance, number):
        instance.compress(JPEGLSLossless)

    (phase,) = phases_of(write_series(tmp_path, ARRAY, change))
    np.testing.assert_array_equal(np.asarray(decode_volume(phase)).T, ARRAY)


def test_several_series(tmp_path):
    write_series(tmp_path / "a", ARRAY, seed="a")
    write_series(tmp_path / "b", ARRAY[:3], seed="b")
    instances = read_instances(tmp_path)
    uids = sorted({instance.header.SeriesInstanceUID for instance in instances})
    with pytest.raises(DataError, match="found 2 series, expected one") as err:
        pick_series(instances)
    assert all(uid in str(err.value) for uid in uids)
    assert {len(pick_series(instances, uid)) for uid in uids} == {5, 3}
    with pytest.raises(DataError, match=r"found no series 1\.2, expected one of"):
        pick_series(instances, "1.2")


def test_same_instance_twice_counts_once(tmp_path):
    folder = write_series(tmp_path, ARRAY)
    first = min(folder.iterdir())
    shutil.copy(first, tmp_path / "copy")
    assert len(read_instances(folder)) == 5
    changed = dcmread(first)
    changed.SeriesNumber = 9
    changed.save_as(tmp_path / "copy")
    with pytest.raises(DataError, match="two different files of one instance"):
        read_instances(folder)


def set_value(keyword, value, numbers=(0, 1, 2, 3, 4)):
    def change(instance, number):
        if number in numbers:
            setattr(instance, keyword, value)

    return change


def shear(instance, number):
    position = np.array(instance.ImagePositionPatient, float) + np.array([0, 0, 2.0 * number])
    instance.ImagePositionPatient = [round(float(v), 4) for v in position]


def uneven(instance, number):
    if number == 3:
        position = np.array(instance.ImagePositionPatient, float) + 2 * NORMAL
        instance.ImagePositionPatient = [round(float(v), 4) for v in position]


def same_place(instance, number):
    if number == 4:  # another image where slice 2 is, at the same time
        instance.ImagePositionPatient = [round(float(v), 5) for v in np.array([10.0, -20, 30]) + 16 * NORMAL]


def half(instance, number):
    if number == 2:
        instance.PixelData = instance.PixelData[:100]


def garbage(instance, number):
    if number == 2:
        instance.file_meta.TransferSyntaxUID = JPEGLSLossless
        instance.PixelData = encapsulate([b"no picture"])


BROKEN = {
    "missing slice": ({"skip": (2,)}, "16.00 mm between -12.00 and 4.00 mm, expected even gaps: a slice is missing"),
    "uneven": ({"change": uneven}, "expected even gaps: the slices are not evenly spaced"),
    "two slices at one place": ({"change": same_place}, "1 images at most positions but 2 at -4.00 mm"),
    "gantry tilt": ({"change": shear}, r"leans by 8.00 mm \(gantry tilt\), expected less than half a pixel, 0.62 mm"),
    "not parallel": (
        {"change": set_value("ImageOrientationPatient", [1, 0, 0, 0, 1, 0], (4,))},
        "slices that are not parallel",
    ),
    "no orientation": ({"change": set_value("ImageOrientationPatient", None)}, "expected 6 numbers"),
    "modality": ({"change": set_value("Modality", "CT")}, "modality CT, expected modality MR"),
    "two patients": ({"change": set_value("PatientID", "other", (1,))}, "PatientID 2 different values, expected one"),
    "two sizes": ({"change": set_value("PixelSpacing", [2, 2], (1,))}, "PixelSpacing .* and .*, expected one in"),
    "colour": ({"change": set_value("PhotometricInterpretation", "MONOCHROME1")}, "expected MONOCHROME2"),
    "multi-frame": ({"change": set_value("NumberOfFrames", 2)}, "multi-frame image"),
    "cut off": ({"change": half}, "100 bytes of pixel data where the header says 240"),
    "one slice": ({"skip": (1, 2, 3, 4)}, "slices at one position, expected at least two"),
    "no decoder": ({"change": garbage}, "cannot be decoded .*JPEG-LS"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_series_is_refused(tmp_path, name):
    kwargs, message = BROKEN[name]
    folder = write_series(tmp_path, ARRAY, **kwargs)
    with pytest.raises(DataError, match=f"^key 'image': found .*{message}") as err:
        [decode_volume(phase) for phase in phases_of(folder, modality="MR")]
    assert not re.search("Doe|secret-7", str(err.value))


def test_cine_with_a_missing_image_is_refused(tmp_path):
    folder = write_series(tmp_path, some_pixels(3, 4, 6, 5))
    victim = next(f for f in folder.iterdir() if dcmread(f).TriggerTime == 41)
    victim.unlink()
    with pytest.raises(DataError, match=r"3 images at most positions but 2 at -12\.00 mm"):
        phases_of(folder)


def test_cine_without_times_is_refused(tmp_path):
    with pytest.raises(DataError, match="no time tells apart"):
        phases_of(write_series(tmp_path, some_pixels(2, 4, 6, 5), set_value("TriggerTime", 5)))


def test_truncated_header_and_empty_folder(tmp_path):
    folder = write_series(tmp_path / "a", ARRAY)
    file = min(folder.iterdir())
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(DataError, match=f"file '{file.name}': found"):
        phases_of(folder)
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="found no DICOM file"):
        read_instances(tmp_path / "b")
    with pytest.raises(DataError, match="found no folder"):
        read_instances(tmp_path / "c")


def test_token_tells_nothing():
    assert re.fullmatch("[0-9a-f]{12}", series_token("1.2.3"))
    assert series_token("1.2.3") != series_token("1.2.4")
