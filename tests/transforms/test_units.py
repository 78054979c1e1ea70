from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import RandAffined, Spacing, Zoom
from scipy.spatial.transform import Rotation

from sizeloss_monai.data import split_slices
from sizeloss_monai.transforms import VoxelSize, VoxelSized, VoxelSpacing, VoxelSpacingd


def affine(angles: list[float], spacing: list[float]) -> torch.Tensor:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles).as_matrix() @ np.diag(spacing)
    matrix[:3, 3] = [3, -20, 7]
    return torch.from_numpy(matrix)


spacings = st.lists(st.floats(0.2, 12), min_size=3, max_size=3)
rotations = st.lists(st.floats(-3, 3), min_size=3, max_size=3)


@given(rotations, spacings)
def test_oblique_affines(angles: list[float], spacing: list[float]) -> None:
    scan = MetaTensor(torch.zeros(1, 2, 3, 4), affine=affine(angles, spacing))
    assert VoxelSize("volume")(scan).item() == pytest.approx(math.prod(spacing) / 1000, rel=1e-5)
    assert VoxelSize("slice")(scan).item() == pytest.approx(spacing[0] * spacing[1], rel=1e-5)
    torch.testing.assert_close(VoxelSpacing()(scan), torch.tensor(spacing))


def ball(spacing: list[float], radius: float) -> MetaTensor:
    """A ball in the middle of 64 mm."""
    axes = [np.arange(0, 64, step) - 31.5 for step in spacing]
    grid = np.meshgrid(*axes, indexing="ij")
    inside = sum(axis**2 for axis in grid) <= radius**2
    return MetaTensor(torch.from_numpy(inside[None].astype(np.float32)), affine=affine([0.3, 0.1, -0.4], spacing))


@pytest.mark.parametrize("change", [Zoom(1.4, keep_size=False), Spacing([2.0, 0.8, 3.0])])
def test_a_volume_in_ml_survives_resampling(change: torch.nn.Module) -> None:
    before = ball([1.0, 1.0, 4.0], 20)
    after = change(before)
    sizes = [(scan.sum() * VoxelSize("volume")(scan)).item() for scan in (before, after)]
    assert sizes[0] == pytest.approx(4 / 3 * math.pi * 2**3, rel=0.02)  # 20 mm are 2 cm, a cm3 is a mL
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)


def test_a_slice_in_mm2_survives_random_zoom_and_rotation() -> None:
    item = split_slices({"image": ball([1.0, 1.0, 4.0], 20), "case": "a"}, ["image"])[8]
    area = (item["image"].sum() * VoxelSize("slice")(item["image"])).item()
    change = RandAffined("image", prob=1, rotate_range=0.8, scale_range=[0.2, 0.2], padding_mode="zeros")
    change.set_random_state(3)
    changed = VoxelSized(per="slice")(VoxelSpacingd()(change(item)))
    assert changed["voxel_size"].item() != pytest.approx(1.0, rel=0.02)  # it did zoom
    assert (changed["image"].sum() * changed["voxel_size"]).item() == pytest.approx(area, rel=0.01)
    assert changed["spacing"].shape == (2,)
    assert changed["spacing"].prod().item() == pytest.approx(changed["voxel_size"].item(), rel=1e-4)


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match="per must be one of"):
        VoxelSize("image")
    with pytest.raises(TypeError, match="MetaTensor"):
        VoxelSize()(torch.zeros(1, 2, 2, 2))
    with pytest.raises(ValueError, match=r"\[4, 4\], got \[3, 3\]"):
        VoxelSpacing()(MetaTensor(torch.zeros(1, 2, 2), affine=torch.eye(3)))
    with pytest.raises(ValueError, match="as many as keys"):
        VoxelSized(keys=["image", "label"])
