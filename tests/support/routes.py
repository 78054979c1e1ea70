"""What a scan's file goes through in inference, without a network: read, checked, a mask written, and where it lies."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, SaveImaged
from numpy.typing import NDArray

from sizeloss_monai.checks import check_cases
from sizeloss_monai.data import Grid, MaskWriter, VolumeReader, read_grid
from sizeloss_monai.data.grid import itk_placement
from sizeloss_monai.data.headers import is_nifti

THRESHOLD = 100


def write_mask(scan: Path, folder: Path) -> Path:
    """The mask of what is brighter than a threshold, written as inference writes masks.

    Raises:
        DataError: when the scan is refused.
    """
    item = {"image": str(scan), "case": "scan"}
    check_cases([item], keys=["image"], require_label=False)
    data = Compose([LoadImaged("image", reader=VolumeReader()), EnsureChannelFirstd("image")])(item)
    data["pred"] = (data["image"] > THRESHOLD).to(data["image"].dtype)
    SaveImaged(
        "pred",
        output_dir=str(folder),
        output_postfix="seg",
        output_ext=".nii.gz",
        output_dtype=np.uint8,
        resample=False,
        separate_folder=False,
        print_log=False,
        writer=MaskWriter,
    )(data)
    (mask,) = folder.iterdir()
    return mask


def assert_on_scan(mask: Path, scan: Path, threshold: float | None = THRESHOLD) -> None:
    """Check that a mask has the scan's grid, by nibabel and by ITK.

    Args:
        mask: to check.
        scan: it is of.
        threshold: above which the scan's voxels have to be the mask; None to leave voxels alone.
    """
    grid = read_grid(scan)
    assert read_grid(mask).shape == grid.shape
    np.testing.assert_allclose(read_grid(mask).affine, grid.affine, rtol=1e-5, atol=1e-4)
    found, seen = nib.load(mask), voxels_by_nibabel(scan)
    assert found.shape == grid.shape
    if seen is not None and threshold is not None:
        np.testing.assert_array_equal(found.dataobj, seen[0] > threshold)
    if seen is not None:
        np.testing.assert_allclose(found.affine, seen[1], rtol=1e-5, atol=1e-4)
    by_itk, seen = voxels_by_itk(mask), voxels_by_itk(scan)
    assert by_itk is not None
    np.testing.assert_array_equal(by_itk[0], found.dataobj)
    if seen is not None and threshold is not None:
        np.testing.assert_array_equal(by_itk[0], seen[0] > threshold)
    if seen is None and grid.notes:  # a header that contradicts itself, in a format that ITK does not read (NIfTI-2)
        return
    apart = Grid.of(grid.shape, by_itk[1]).apart_mm(Grid.of(grid.shape, grid.affine if seen is None else seen[1]))
    assert apart is None, f"{apart} mm apart in ITK"


def voxels_by_nibabel(path: Path) -> tuple[NDArray, NDArray] | None:
    """The voxels and the affine as nibabel has them, None of other formats."""
    if not is_nifti(path):
        return None
    image = nib.load(path)
    shape = (*image.shape, 1, 1)[:3]
    return np.asarray(image.dataobj).reshape(shape, order="F"), image.affine


def voxels_by_itk(path: Path) -> tuple[NDArray, NDArray] | None:
    """The voxels and the affine as ITK has them, None where ITK does not read the file."""
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        return None
    array = sitk.GetArrayFromImage(image).T
    return array.reshape((*array.shape, 1, 1)[:3], order="F"), itk_placement(image)
