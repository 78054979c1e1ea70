"""Masks lie on their scans, for nibabel and for ITK, whatever the scan's header says."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from sizeloss_monai.checks import check_datalist
from sizeloss_monai.errors import DataError
from sizeloss_monai.sizes import measure_sizes
from tests.support.image_files import MICROMETRES, SCANS, metaimage, nifti, nrrd, oblique_affine, voxels_of, write
from tests.support.routes import assert_on_scan, voxels_by_itk, write_mask

VOXELS = voxels_of()
AFFINE = oblique_affine()
FILES = {
    **{kind: ("scan.nii.gz", content) for kind, content in SCANS.items()},
    "NIfTI-2": ("scan.nii", nifti(VOXELS, AFFINE, AFFINE, version=2)),
    "metres": ("scan.nii", nifti(VOXELS, np.linalg.inv(MICROMETRES) @ AFFINE, None, xyzt_units=1)),
    "rounded": ("scan.nii", nifti(VOXELS, AFFINE.round(2))),
    "one slice": ("scan.nii.gz", nifti(VOXELS[:, :, 2:3], AFFINE, AFFINE)),
    "negative pixdim": ("scan.nii", nifti(VOXELS, AFFINE, AFFINE, pixdim=[-1, -1.4, 1.3, 9.5, 1, 1, 1, 1])),
    "MetaImage": ("scan.mha", metaimage(VOXELS, pack=True)),
    "NRRD": ("scan.nrrd", nrrd(VOXELS)),
    "NRRD in RAS": ("scan.nrrd", nrrd(VOXELS, space="right-anterior-superior")),
    "NRRD in LAS": ("scan.nrrd", nrrd(VOXELS, space="LAS")),
    "NRRD of one slice": ("scan.nrrd", nrrd(VOXELS[:, :, 2:3])),
}


@pytest.mark.parametrize("kind", FILES)
def test_masks_lie_on_scans(tmp_path: Path, kind: str) -> None:
    name, content = FILES[kind]
    scan = write(tmp_path / name, content)
    mask = write_mask(scan, tmp_path / "out")
    assert_on_scan(mask, scan)
    # and our own check takes it for a label
    (tmp_path / "list.json").write_text(f'{{"training": [{{"image": "{name}", "label": "out/{mask.name}"}}]}}')
    assert not [finding for finding in check_datalist(tmp_path / "list.json").findings if finding.key == "label"]


@pytest.mark.parametrize("kind", ["sform alone", "sform alone, pixdim 1", "qform alone", "forms apart", "micrometres"])
def test_same_mask_and_volume_as_of_the_plain_scan(tmp_path: Path, kind: str) -> None:
    found = {}
    for name in ("plain", kind):
        scan = write(tmp_path / name / "scan.nii.gz", SCANS[name])
        mask = write_mask(scan, tmp_path / name / "out")
        found[name] = mask
    by_nibabel = {name: np.asarray(nib.load(mask).dataobj) for name, mask in found.items()}
    by_itk = {name: sitk.GetArrayFromImage(sitk.ReadImage(str(mask))).T for name, mask in found.items()}
    assert (by_nibabel[kind] != by_nibabel["plain"]).sum() == 0
    assert (by_itk[kind] != by_itk["plain"]).sum() == 0
    np.testing.assert_array_equal(by_itk[kind], by_nibabel[kind])
    assert volume_ml(found[kind]) == pytest.approx(volume_ml(found["plain"]), rel=1e-6)
    assert volume_ml(found["plain"]) == pytest.approx(by_nibabel["plain"].sum() * 1.4 * 1.3 * 9.5 / 1000, rel=1e-6)


def volume_ml(mask: Path) -> float:
    """The size of class 1 as our own measurement has it."""
    return measure_sizes({"case": "a", "label": str(mask)}).sizes[1][0]


def test_headers_carry_no_names(tmp_path: Path) -> None:
    scan = write(
        tmp_path / "scan.nii", nifti(VOXELS, AFFINE, AFFINE, descrip=b"Jane Doe", db_name=b"Doe", aux_file=b"Doe")
    )
    assert b"Doe" not in nib.load(write_mask(scan, tmp_path / "out")).header.binaryblock


@pytest.mark.parametrize("name", ["scan.nii", "scan.nrrd"])
def test_sheared_scans_are_refused(tmp_path: Path, name: str) -> None:
    affine = oblique_affine((1, 1, 8), (0, 0, 0))
    affine[1, 2] = 2  # a gantry that leans
    leaning = nrrd(VOXELS, space_directions="(1,0,0) (0,1,0) (0,2,8)")
    scan = write(tmp_path / name, nifti(VOXELS, affine) if name == "scan.nii" else leaning)
    with pytest.raises(DataError, match=r"found axes that are not at right angles \(gantry tilt\)"):
        write_mask(scan, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_itk_reads_masks_of_scans_that_it_does_not_read(tmp_path: Path) -> None:
    for kind in ("NIfTI-2", "rounded"):
        scan = write(tmp_path / kind / "scan.nii", FILES[kind][1])
        assert voxels_by_itk(scan) is None
        by_itk = voxels_by_itk(write_mask(scan, tmp_path / kind / "out"))
        assert by_itk is not None
        np.testing.assert_allclose(by_itk[1], AFFINE, atol=0.15)


def test_shapes_differ_along_every_axis() -> None:
    assert len(set(voxels_of().shape)) == 3
