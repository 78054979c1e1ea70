"""Annotations on the grid of their scan, by whichever of its placements a program wrote them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from sizeloss_monai.checks import check_cases
from sizeloss_monai.data import VolumeReader
from sizeloss_monai.errors import DataError
from sizeloss_monai.transforms import MatchGridd
from tests.support.image_files import SCANS, nifti, nrrd, oblique_affine, shifted, voxels_of, write

VOXELS = voxels_of()
LABEL = (VOXELS > 100).astype(np.uint8)
AFFINE = oblique_affine()


def matched(scan: Path, label: Path):
    item = {"image": str(scan), "label": str(label), "case": "a"}
    keys = ("image", "label")
    data = MatchGridd("label")(Compose([LoadImaged(keys, reader=VolumeReader()), EnsureChannelFirstd(keys)])(item))
    check_cases([item])  # says the same
    return data["image"], data["label"]


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("kind", SCANS)
def test_labels_that_itk_wrote(tmp_path: Path, kind: str, suffix: str) -> None:
    scan = write(tmp_path / "scan.nii.gz", SCANS[kind])
    image = sitk.ReadImage(str(scan))
    sitk.WriteImage(sitk.Cast(image > 100, sitk.sitkUInt8), str(tmp_path / f"label{suffix}"))
    volume, label = matched(scan, tmp_path / f"label{suffix}")
    np.testing.assert_array_equal(label[0], LABEL)
    np.testing.assert_array_equal(label.affine, volume.affine)


@pytest.mark.parametrize("angles", [(0, 0, 0), (20, -30, 40)])
@pytest.mark.parametrize("shape", [(8, 7, 6), (40, 40, 12)])
def test_headers_rounded_to_two_decimals(tmp_path: Path, angles: tuple, shape: tuple) -> None:
    affine = oblique_affine((1.3671879, 1.3671878, 10.0006739), angles)
    label = (voxels_of(shape) > 100).astype(np.uint8)
    scan = write(tmp_path / "scan.nii", nifti(voxels_of(shape), affine, affine))
    for name, rounded in (("a.nii", nifti(label, affine.round(2))), ("b.nii", nifti(label, None, affine.round(2)))):
        _, found = matched(scan, write(tmp_path / name, rounded))
        np.testing.assert_array_equal(found[0], label)


@pytest.mark.parametrize(
    "moved",
    [
        shifted(AFFINE, *(AFFINE[:3, 0] / 2)),  # half a voxel
        shifted(AFFINE, 0, 0, 12),
        AFFINE @ np.diag([-1, 1, 1, 1]),
        AFFINE @ np.diag([1, 1, -1, 1]),
        AFFINE @ np.diag([1.2, 1, 1, 1]),
        AFFINE @ np.diag([1, 1, 0.9, 1]),
        AFFINE[:, [1, 0, 2, 3]],
        oblique_affine(degrees=(20, -30, 60)),
    ],
)
def test_labels_elsewhere(tmp_path: Path, moved: np.ndarray) -> None:
    scan = write(tmp_path / "scan.nii", SCANS["plain"])
    with pytest.raises(DataError, match=r"case 'a', key 'label': found an affine that puts voxels up to .* mm away"):
        matched(scan, write(tmp_path / "label.nii", nifti(LABEL, moved, moved)))
    with pytest.raises(DataError, match=r"found an affine that puts voxels up to .* mm away"):
        check_cases([{"image": str(scan), "label": str(tmp_path / "label.nii"), "case": "a"}])


def test_another_shape(tmp_path: Path) -> None:
    scan = write(tmp_path / "scan.nii", SCANS["plain"])
    with pytest.raises(DataError, match="case 'a', key 'label': found shape"):
        matched(scan, write(tmp_path / "label.nrrd", nrrd(LABEL[1:])))
