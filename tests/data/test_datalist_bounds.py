from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given
from hypothesis import strategies as st
from monai.transforms import LoadImage
from scipy.spatial.transform import Rotation

from sizeloss_monai.data import DataError, SimpleITKReader, check_datalist_bounds
from sizeloss_monai.data.checks.grid import Grid, read_grid

SHAPE = (6, 5, 4)
AFFINE = np.diag([1.5, 1.5, 8.0, 1.0])  # 18 mm3 a voxel, 2.16 mL in all, 67.5 mm2 a slice


def make_list(tmp_path: Path, own: Any = None, **common: Any) -> dict[str, Any]:
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE), tmp_path / "a.nii.gz")
    item = {"case": "a", "image": str(tmp_path / "a.nii.gz"), **({} if own is None else {"size_bounds": own})}
    labels = {"0": "background", "1": "organ"}
    return {"labels": labels, "training": [item], **({"size_bounds": common} if common else {})}


@pytest.mark.parametrize(
    ("per", "unit", "whole"),
    [("volume", "mL", 2.16), ("volume", "voxels", 120), ("slice", "mm2", 67.5), ("slice", "voxels", 30)],
)
def test_lower_bounds_above_the_image(tmp_path: Path, per: str, unit: str, whole: float) -> None:
    fits = make_list(tmp_path, {"1": [whole, None]}, per=per, unit=unit)
    check_datalist_bounds(fits, fits["training"])
    too_large = make_list(tmp_path, {"1": [1.01 * whole, None]}, per=per, unit=unit)
    with pytest.raises(DataError, match=r"case 'a', key 'size_bounds': found .* above the whole"):
        check_datalist_bounds(too_large, too_large["training"])


def test_warnings_are_no_errors(tmp_path: Path) -> None:
    datalist = make_list(tmp_path, per="volume", unit="mL", bounds={"1": [0, None]})
    check_datalist_bounds(datalist, datalist["training"])
    without = make_list(tmp_path)
    check_datalist_bounds(without, without["training"])


def test_all_problems_at_once(tmp_path: Path) -> None:
    own, bounds = {"1": [3, 2], "x": [0, 1]}, {"1": [3, 4], "7": [0, 1]}
    datalist = make_list(tmp_path, own, per="volume", unit="mL", bounds=bounds)
    datalist["training"].append({"case": "b", "image": str(tmp_path / "b.nii.gz")})
    with pytest.raises(DataError) as error:
        check_datalist_bounds(datalist, datalist["training"])
    first, *lines = str(error.value).splitlines()
    assert first == "5 problems with size bounds:"
    expected = ["key 'image'", "found class 7", "[3, 2]", "the class 'x'", "of case a"]
    assert all(words in line for line, words in zip(lines, expected, strict=True))
    assert str(tmp_path) not in str(error.value)


def test_a_list_without_a_unit(tmp_path: Path) -> None:
    datalist = make_list(tmp_path, [[0, 9], [1, 2]], per="volume", unit="mm2")
    with pytest.raises(DataError, match="slice and mm2, volume and mL") as error:
        check_datalist_bounds(datalist, datalist["training"])
    assert "expected an object such as {'1': [60, 2000]}" in str(error.value)


# ---------------------------------------------------------------------------------------------------------------- grid


@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.2, 10)] * 3),
    shape=st.tuples(*[st.integers(1, 300)] * 3),
)
def test_sizes_do_not_depend_on_the_orientation(angles: tuple, spacing: tuple, shape: tuple) -> None:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * np.asarray(spacing)
    grid = Grid.of(shape, affine)
    assert grid is not None
    assert grid.spacing == pytest.approx(spacing)
    assert grid.image_size("volume", "mL") == pytest.approx(np.prod(spacing) * np.prod(shape) / 1000)
    in_plane = [axis for axis in range(3) if axis != grid.axis]
    assert grid.image_size("slice", "mm2") == pytest.approx(np.prod([spacing[i] * shape[i] for i in in_plane]))
    assert grid.image_size("slice", "voxels") * grid.num_slices == np.prod(shape)


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3)])
def test_no_grid(affine: np.ndarray) -> None:
    assert Grid.of(SHAPE, affine) is None


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.mhd", "a.nrrd"])
def test_the_header_says_the_same_as_the_volume(tmp_path: Path, name: str) -> None:
    image = sitk.GetImageFromArray(np.zeros(SHAPE[::-1], np.uint8))
    image.SetSpacing((0.7, 3.0, 1.2))
    image.SetDirection(Rotation.from_euler("xyz", (20, 30, -40), degrees=True).as_matrix().ravel().tolist())
    sitk.WriteImage(image, str(tmp_path / name))
    volume = LoadImage(image_only=True)(tmp_path / name, reader=SimpleITKReader())
    found, expected = read_grid(str(tmp_path / name)), Grid.of(volume.shape, volume.affine)
    assert found is not None
    assert expected is not None
    assert (found.shape, found.axis) == (expected.shape, expected.axis) == (SHAPE, 1)
    assert found.spacing == pytest.approx(expected.spacing, rel=1e-5)
    assert found.voxel_mm3 == pytest.approx(0.7 * 3.0 * 1.2, rel=1e-5)
    assert found.pixel_mm2 == pytest.approx(0.7 * 1.2, rel=1e-5)


@pytest.mark.parametrize("name", ["gone.nii", "gone.mha", "text.nii", "text.mha"])
def test_no_header(tmp_path: Path, name: str) -> None:
    if name.startswith("text"):
        (tmp_path / name).write_text("no image")
    with pytest.raises(OSError, match=name):
        read_grid(tmp_path / name)
