from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import LoadImage, Spacing
from scipy.spatial.transform import Rotation

from sizeloss_monai.data import SimpleITKReader
from sizeloss_monai.data.grid import Grid, read_grid
from sizeloss_monai.data.slice_axis import through_plane_axis
from sizeloss_monai.errors import DataError
from sizeloss_monai.transforms import ThroughPlaneLast, VoxelSize

SHAPE = (6, 5, 4)
ANGLES = st.tuples(*[st.floats(-180, 180)] * 3)


def affine_of(spacing: tuple[float, ...], angles: tuple[float, ...], mirrored: bool = False) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * np.asarray(spacing)
    affine[:3, 0] *= -1 if mirrored else 1
    affine[:3, 3] = (7, -11, 13)
    return affine


@given(
    spacing=st.tuples(*[st.floats(0.2, 12)] * 3),
    angles=ANGLES,
    mirrored=st.booleans(),
    shape=st.tuples(*[st.integers(1, 300)] * 3),
)
def test_sizes_do_not_depend_on_the_orientation(spacing: tuple, angles: tuple, mirrored: bool, shape: tuple) -> None:
    grid = Grid.of(shape, affine_of(spacing, angles, mirrored))
    assert grid is not None
    assert grid.spacing == pytest.approx(spacing)
    axis = through_plane_axis(grid.spacing)
    assert grid.image_size("volume", "mL", axis) == pytest.approx(np.prod(spacing) * np.prod(shape) / 1000)
    in_plane = [other for other in range(3) if other != axis]
    assert grid.image_size("slice", "mm2", axis) == pytest.approx(np.prod([spacing[i] * shape[i] for i in in_plane]))
    assert grid.image_size("slice", "voxels", axis) * shape[axis] == np.prod(shape)


def test_sizes_under_shear() -> None:
    # slices that are shifted against each other, as of a tilted gantry: neither size of a voxel changes
    affine = np.diag([1.5, 2.0, 8.0, 1.0])
    affine[1, 2] = 3.0
    for in_plane_shear in (0.0, 1.0):  # axes within the slice that are not at right angles: base times height
        affine[0, 1] = in_plane_shear
        scan = MetaTensor(np.zeros((1, *SHAPE)), affine=affine)  # transforms measure the same
        assert VoxelSize("volume")(scan).item() == pytest.approx(1.5 * 2 * 8 / 1000)
        assert VoxelSize("slice")(scan).item() == pytest.approx(1.5 * 2)
        grid = Grid.of(SHAPE, affine)
        assert grid is not None
        assert grid.voxel_mm3 == pytest.approx(1.5 * 2 * 8)
        assert grid.pixel_mm2(2) == pytest.approx(1.5 * 2)


@settings(max_examples=40)
@given(st.permutations([1.0, 1.005, 1.5, 10.0]), ANGLES)
def test_slices_are_those_of_training(spacing: list[float], angles: tuple[float, ...]) -> None:
    affine = affine_of(tuple(spacing[:3]), angles)
    moved = ThroughPlaneLast()(MetaTensor(np.zeros((1, 4, 5, 6)), affine=affine))
    grid = Grid.of((4, 5, 6), affine)
    assert grid is not None
    assert moved.shape[-1] == grid.shape[through_plane_axis(grid.spacing)]


@given(
    spacing=st.tuples(*[st.floats(0.5, 12)] * 3),
    angles=ANGLES,
    mirrored=st.booleans(),
    digits=st.sampled_from([None, 7, 6, 4, 2]),
)
def test_rounding_moves_no_pixels(spacing: tuple, angles: tuple, mirrored: bool, digits: int | None) -> None:
    # MONAI's Spacing puts the first pixel on the first voxel, or the middle of the image on the middle of the scan,
    # by whether axes are at right angles to the last bit
    affine = affine_of(spacing, angles, mirrored)
    rounded = affine.astype(np.float32) if digits is None else np.round(affine, digits)
    grid = Grid.of(SHAPE, rounded)
    assert grid is not None
    scan = MetaTensor(np.zeros((1, *SHAPE)), affine=grid.at_right_angles().affine)
    first = Spacing((1.3, 1.7, -1))(scan).affine[:3, 3]
    np.testing.assert_allclose(first, affine[:3, 3], atol=1e-2)


def test_grids_that_lean_stay_as_they_are() -> None:
    affine = affine_of((1, 1, 8), (0, 0, 0))
    affine[1, 2] = 2
    grid = Grid.of((60, 50, 9), affine)
    assert grid is not None
    assert grid.leans
    assert grid.at_right_angles() is grid


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
    assert found.shape == expected.shape == SHAPE
    assert found.spacing == pytest.approx(expected.spacing, rel=1e-5)
    assert found.voxel_mm3 == pytest.approx(0.7 * 3.0 * 1.2, rel=1e-5)
    assert found.pixel_mm2(1) == pytest.approx(0.7 * 1.2, rel=1e-5)


@pytest.mark.parametrize("name", ["gone.nii", "gone.mha", "text.nii", "text.mha"])
def test_no_header(tmp_path: Path, name: str) -> None:
    if name.startswith("text"):
        (tmp_path / name).write_text("no image")
    with pytest.raises(DataError, match=f"file '{name}': ") as error:
        read_grid(tmp_path / name)
    assert "\n" not in str(error.value)
