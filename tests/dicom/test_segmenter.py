from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from monai.bundle import ConfigParser

from sizeloss_monai.bundle import ConfigError, OutputDirError
from sizeloss_monai.cli.main import main
from sizeloss_monai.dicom import BundleDescription, DicomSegmenter, decode_volume, read_instances, split_phases
from sizeloss_monai.errors import DataError
from sizeloss_monai.phantoms import make_cine_phantom
from tests.support import ROOT
from tests.support.bundle_runs import CINE, make_workflow
from tests.support.dicom_series import NORMAL, write_series

BUNDLE = ROOT / "bundles" / CINE


def set_spacing(instance, number):
    instance.PixelSpacing = [1.8, 1.8]


@pytest.fixture(scope="module")
def cine(tmp_path_factory) -> Path:
    """A series of two phases of a phantom."""
    volumes = [make_cine_phantom(3, phase, num_slices=6)[0] for phase in ("ED", "ES")]
    array = np.stack([np.rint(volume).astype(np.uint16).transpose(2, 1, 0) for volume in volumes])
    return write_series(tmp_path_factory.mktemp("cine"), array, set_spacing)


@pytest.fixture(scope="module")
def segmenter() -> DicomSegmenter:
    return DicomSegmenter(BUNDLE, device="cpu")


def nifti_route(path: Path, tmp_path: Path) -> nib.Nifti1Image:
    workflow = make_workflow(CINE, ["inference.yaml"], path, tmp_path / "masks", "infer")
    workflow.initialize()
    workflow.run()
    (mask,) = (tmp_path / "masks").glob("*.nii.gz")
    return nib.load(mask)


def test_same_mask_as_by_nifti(cine, segmenter, tmp_path):
    for number, phase in enumerate(segmenter.segment(cine)):
        volume = decode_volume(split_phases(read_instances(cine))[number])
        scan = tmp_path / f"{number}" / "scan.nii.gz"
        scan.parent.mkdir()
        nib.save(nib.Nifti1Image(np.asarray(volume), np.asarray(volume.affine)), scan)
        mask = nifti_route(scan, scan.parent)
        assert np.count_nonzero(mask.dataobj) > 100
        np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(phase.mask))
        np.testing.assert_allclose(mask.affine, np.asarray(phase.mask.affine), atol=1e-4)
        frames = phase.segmentation.get_volume(combine_segments=True)
        assert frames.array.sum() == np.count_nonzero(mask.dataobj)


def test_slices_are_those_of_the_series(tmp_path):
    # of a voxel of 2.0 x 2.0 x 1.5 mm the widest axis would be another
    def change(instance, number):
        instance.PixelSpacing = [2.0, 2.0]
        instance.ImagePositionPatient = [round(float(value), 5) for value in 1.5 * number * NORMAL]
        instance.SliceThickness = 1.5

    image = make_cine_phantom(3, "ED", num_slices=6)[0]
    series = write_series(tmp_path, np.rint(image).astype(np.uint16).transpose(2, 1, 0)[None], change)
    segmenter = DicomSegmenter(BUNDLE, device="cpu")
    seen = []
    segmenter.evaluator.network.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    (phase,) = segmenter.segment(series)
    assert phase.mask.shape == image.shape
    assert sum(shape[0] for shape in seen) == 6, "one slice each of the series"


def test_summary_and_segmentation_agree(cine, segmenter):
    phases = segmenter.segment(cine)
    assert [phase.summary["phase"] for phase in phases] == [1, 2]
    assert len({phase.segmentation.SeriesInstanceUID for phase in phases}) == 1
    assert len({phase.segmentation.SOPInstanceUID for phase in phases}) == 2
    for phase in phases:
        (segment,) = phase.summary["segments"].values()
        voxels = int(phase.segmentation.pixel_array.sum())
        assert segment["volume_ml"] == pytest.approx(voxels * 1.8 * 1.8 * 8 / 1000, rel=1e-4)
        assert set(phase.seconds) == {"read", "inference", "write"}
        assert json.loads(json.dumps(phase.summary)) == phase.summary
        assert not re.search("Doe|secret|1970", json.dumps(phase.summary))
        if phase.summary["verdict"] == "pass":
            assert phase.segmentation.SeriesDescription == f"{CINE}: PASS"
        else:
            assert phase.segmentation.SeriesDescription.startswith(phase.summary["verdict"].upper())
    again = segmenter.segment(cine)
    assert [p.segmentation.SOPInstanceUID for p in again] == [p.segmentation.SOPInstanceUID for p in phases]


@pytest.mark.filterwarnings("ignore:Divide by zero")  # the scan is constant
def test_empty_mask_is_rejected(tmp_path, segmenter):
    (phase,) = segmenter.segment(write_series(tmp_path, np.zeros((4, 64, 64), np.uint16) + 1))
    assert (phase.summary["verdict"], phase.summary["reasons"]) == ("reject", ["Left ventricular cavity: empty"])
    assert phase.segmentation.SeriesDescription == "REJECT: Left ventricular cavity: empty"
    assert phase.segmentation.NumberOfFrames == 4


def test_wrong_modality_is_refused(tmp_path, segmenter):
    def change(instance, number):
        instance.Modality = "CT"

    with pytest.raises(DataError, match="found modality CT, expected modality MR"):
        segmenter.segment(write_series(tmp_path, np.zeros((4, 8, 8), np.uint16), change))


def test_command(cine, tmp_path, capsys):
    arguments = ["dicom", str(cine), "--bundle", str(BUNDLE), "--output_dir", str(tmp_path), "--device", "cpu"]
    assert main(arguments) == 0
    files = sorted(path.name for path in tmp_path.iterdir())
    assert [re.sub("^[0-9a-f]{12}", "", name) for name in files] == [
        "_phase01_seg.dcm",
        "_phase01_seg.json",
        "_phase02_seg.dcm",
        "_phase02_seg.json",
    ]
    assert "Left ventricular cavity" in capsys.readouterr().out
    written = pydicom.dcmread(tmp_path / files[0])
    assert written.file_meta.MediaStorageSOPClassUID == pydicom.uid.SegmentationStorage
    assert json.loads((tmp_path / files[1]).read_text())["segmentation_sop_instance_uid"] == written.SOPInstanceUID
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(arguments) == 1
    assert "would be overwritten" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert main([*arguments, "--overwrite"]) == 0


def test_command_names_what_it_did_not_use(tmp_path, capsys):
    folder = write_series(tmp_path / "series", np.ones((4, 64, 64), np.uint16))
    (folder / "notes.txt").write_text("seen by Dr. Who")
    (folder / "lost.jpg").symlink_to("nowhere.jpg")
    arguments = ["dicom", str(folder), "--bundle", str(BUNDLE), "--output_dir", str(tmp_path / "masks")]
    arguments += ["--device", "cpu"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "not used: lost.jpg: a link to nothing, 'nowhere.jpg'",
        "not used: notes.txt: a text",
    ]
    (folder / "IM0005").write_bytes(b"")
    assert main([*arguments, "--overwrite"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "file 'IM0005': found an empty file, expected a whole DICOM file" in line


def test_a_device_that_is_not_there_is_refused():
    for device in ("foo", "cuda:99"):
        with pytest.raises(ConfigError, match=f"device must be one that torch finds here, such as cpu, got '{device}'"):
            DicomSegmenter(BUNDLE, device=device)


def test_incomplete_bundle_is_refused(tmp_path, capsys):
    bundle = tmp_path / "bundle"
    shutil.copytree(BUNDLE / "configs", bundle / "configs")
    with pytest.raises(OutputDirError, match="checkpoint: found no file"):
        DicomSegmenter(bundle)
    shutil.copytree(BUNDLE / "models", bundle / "models")
    description = bundle / "configs" / "dicom.yaml"
    text = description.read_text()
    more = text.replace("\nreject_factor", "\n  2: {label: x, category: [a, b, c], type: [a, b, c]}\nreject_factor")
    description.write_text(more)
    with pytest.raises(ConfigError, match="found 2 segments, expected 1"):
        DicomSegmenter(bundle)
    description.unlink()
    with pytest.raises(FileNotFoundError, match=r"dicom\.yaml"):
        DicomSegmenter(bundle)
    assert main(["dicom", str(tmp_path / "none"), "--bundle", str(bundle)]) == 1
    assert "found no folder" in capsys.readouterr().err


@pytest.mark.parametrize("bundle", sorted(path.name for path in (ROOT / "bundles").iterdir()))
def test_every_bundle_says_what_its_classes_are(bundle):
    configs = ROOT / "bundles" / bundle / "configs"
    description = BundleDescription.from_config(ConfigParser.load_config_file(str(configs / "dicom.yaml")))
    inference = ConfigParser.load_config_file(str(configs / "inference.yaml"))
    assert len(description.segments) + 1 == inference["num_classes"]


def test_real_series(data_root, segmenter, tmp_path):
    folder = data_root / "sunnybrook" / "dicom" / "SCD0000101_ED"
    (phase,) = segmenter.segment(folder)
    mask = nifti_route(data_root / "sunnybrook" / "SCD0000101_ED.nii.gz", tmp_path)
    assert np.count_nonzero(mask.dataobj) > 1000
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(phase.mask))
    np.testing.assert_allclose(mask.affine, np.asarray(phase.mask.affine), atol=1e-3)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    for index in ([0, 0, 0], [255, 255, 8]):
        there = np.array(image.TransformIndexToPhysicalPoint(index)) * [-1, -1, 1]
        np.testing.assert_allclose((np.asarray(phase.mask.affine) @ [*index, 1])[:3], there, atol=1e-4)
    assert phase.summary["notes"] == ["the slices name 9 frames of reference; the first one's was taken for all"]
    phase.save(tmp_path / "seg.dcm")
    with pydicom.config.disable_value_validation():
        volume = hd.seg.segread(tmp_path / "seg.dcm").get_volume(combine_segments=True)
    assert volume.array.sum() == np.count_nonzero(mask.dataobj)
