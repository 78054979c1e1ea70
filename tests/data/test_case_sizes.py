from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sizeloss_monai.errors import DataError
from sizeloss_monai.phantoms import make_affine
from sizeloss_monai.sizes.from_cases import measure_grid, measure_sizes

SPACINGS = st.tuples(*[st.floats(0.3, 12)] * 3)
ANGLES = st.tuples(*[st.floats(-180, 180)] * 3)


def affine_of(spacing: tuple[float, ...], angles: tuple[float, ...] = (0, 0, 0), flip: bool = False) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag(spacing)
    affine[:3, 0] *= -1 if flip else 1
    affine[:3, 3] = (7, -11, 13)
    return affine


def write_label(folder: Path, ids: np.ndarray, affine: np.ndarray, name: str = "a.nii.gz") -> dict[str, Any]:
    nib.save(nib.Nifti1Image(ids.astype(np.uint8), affine), folder / name)
    return {"case": "a", "patient": "p", "label": str(folder / name)}


def blocks() -> np.ndarray:
    """Class 1: 6 voxels in slice 0 and 2 in slice 2; class 3: 4 in slice 2."""
    ids = np.zeros((5, 4, 3))
    ids[:3, :2, 0] = 1
    ids[:2, 0, 2] = 1
    ids[4, :, 2] = 3
    return ids


@pytest.mark.parametrize("per", ["slice", "volume"])
@pytest.mark.parametrize("angles", [(0, 0, 0), (30, -20, 50)])
def test_sizes(tmp_path: Path, per: str, angles: tuple[float, float, float]) -> None:
    spacing = (1.5, 1.25, 10.0)
    case = measure_sizes(write_label(tmp_path, blocks(), affine_of(spacing, angles)), per=per)
    assert (case.case, case.patient) == ("a", "p")
    assert set(case.sizes) == {1, 3}
    if per == "slice":
        assert case.sizes[1] == pytest.approx(np.array([6, 2]) * 1.5 * 1.25, rel=1e-5)
        assert case.sizes[3] == pytest.approx([4 * 1.5 * 1.25], rel=1e-5)
        assert case.whole == pytest.approx(20 * 1.5 * 1.25, rel=1e-5)
    else:
        assert case.sizes[1] == pytest.approx([8 * 1.5 * 1.25 * 10 / 1000], rel=1e-5)
        assert case.whole == pytest.approx(60 * 1.5 * 1.25 * 10 / 1000, rel=1e-5)


@pytest.mark.parametrize("per", ["slice", "volume"])
@pytest.mark.parametrize("order", [(2, 0, 1), (0, 2, 1), (2, 1, 0)])
def test_slices_along_any_axis(tmp_path: Path, per: str, order: tuple[int, int, int]) -> None:
    affine = affine_of((1.5, 1.25, 10.0))
    plain = measure_sizes(write_label(tmp_path, blocks(), affine), per=per)
    permuted = affine.copy()
    permuted[:, :3] = affine[:, list(order)]
    item = write_label(tmp_path, blocks().transpose(order), permuted, "b.nii.gz")
    moved = measure_sizes(item, per=per)
    assert {k: v.tolist() for k, v in moved.sizes.items()} == {
        k: pytest.approx(v.tolist()) for k, v in plain.sizes.items()
    }
    assert moved.whole == pytest.approx(plain.whole)


def test_simpleitk_agrees(tmp_path: Path) -> None:
    item = write_label(tmp_path, blocks(), affine_of((0.9, 1.1, 3.0), (10, 20, 30)), "a.nii.gz")
    image = SimpleITK.ReadImage(item["label"])
    shapes = SimpleITK.LabelShapeStatisticsImageFilter()
    shapes.Execute(image)
    sizes = measure_sizes(item).sizes
    for class_id in (1, 3):
        assert sizes[class_id] == pytest.approx([shapes.GetPhysicalSize(class_id) / 1000], rel=1e-5)
    SimpleITK.WriteImage(image, tmp_path / "a.mha")
    other = measure_sizes({**item, "label": str(tmp_path / "a.mha")}).sizes
    assert other[1] == pytest.approx(sizes[1], rel=1e-5)


def test_what_nobody_annotated_has_no_size(tmp_path: Path) -> None:
    ids = blocks()
    ids[ids == 0] = 255
    item = write_label(tmp_path, ids, np.eye(4))
    assert set(measure_sizes(item, unannotated=255).sizes) == {1, 3}


def test_grid_of_an_image(tmp_path: Path) -> None:
    item = write_label(tmp_path, blocks(), affine_of((2, 2, 5)))
    grid = measure_grid(item, "label", "volume")
    assert (grid.voxel, grid.whole, grid.sizes) == (pytest.approx(0.02), pytest.approx(1.2), {})


@pytest.mark.parametrize(
    ("ids", "options", "message"),
    [
        (blocks(), {"allowed": [0, 1]}, "found ids 3, expected 0, 1"),
        (blocks()[..., None].repeat(2, axis=3), {}, "found 3D .* with 2 channels"),
        (None, {}, "found no file a.nii.gz, expected it to exist"),
    ],
)
def test_bad_files(tmp_path: Path, ids: Any, options: dict[str, Any], message: str) -> None:
    item = {"case": "a", "label": str(tmp_path / "a.nii.gz")}
    if ids is not None:
        write_label(tmp_path, ids, np.eye(4))
    with pytest.raises(DataError, match=f"^case 'a', key 'label': {message}"):
        measure_sizes(item, **options)


def test_fractional_values(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.full((4, 4, 2), 0.5, np.float32), make_affine((1, 1, 5))), tmp_path / "a.nii.gz")
    with pytest.raises(DataError, match="case 'a', key 'label': found values other than integers"):
        measure_sizes({"case": "a", "label": str(tmp_path / "a.nii.gz")})
