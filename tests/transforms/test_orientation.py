from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from scipy.spatial.transform import Rotation
from skimage.draw import ellipse_perimeter, line

from sizeloss_monai.data.slice_axis import (
    SliceAxis,
    is_clearly_widest,
    painted_axis,
    parse_slice_axis,
    plane_of,
    slice_axis_of,
    through_plane_axis,
)
from sizeloss_monai.phantoms import write_cine_phantoms
from sizeloss_monai.transforms import ThroughPlaneLast, ThroughPlaneLastd

AXES = st.permutations([0, 1, 2])
SEEDS = st.integers(0, 2**32 - 1)


def affine_of(spacing: tuple[float, ...], order: list[int], signs: tuple[int, ...] = (1, 1, 1)) -> np.ndarray:
    """Of a volume whose voxel axis i runs along world axis order[i]."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, world in enumerate(order):
        affine[world, axis] = signs[axis] * spacing[axis]
    return affine


def strokes(rng: np.random.Generator, indices: list[int], width: int = 1, shape: tuple = (60, 50, 30)) -> np.ndarray:
    """Loops and lines on slices along the last axis."""
    paint = np.zeros(shape, bool)
    for index in indices:
        for _ in range(3):
            x, y = rng.integers(18, 32, 2)
            rows, columns = ellipse_perimeter(x, y, *rng.integers(6, 15, 2), shape=shape[:2])
            paint[rows, columns, index] = True
            rows, columns = line(*rng.integers(0, 50, 4))
            for shift in range(width):
                paint[np.minimum(rows + shift, 59), columns, index] = True
    return paint


def ball(centre: tuple[int, ...], radii: tuple[float, ...], shape: tuple = (40, 40, 40)) -> np.ndarray:
    squares = [((np.arange(n) - c) / r) ** 2 for n, c, r in zip(shape, centre, radii, strict=True)]
    return squares[0][:, None, None] + squares[1][:, None] + squares[2] <= 1


@pytest.mark.parametrize("name", get_args(SliceAxis))
def test_the_option_as_programs_and_command_lines_give_it(name: Any) -> None:
    assert parse_slice_axis(name) == parse_slice_axis(str(name)) == name


@pytest.mark.parametrize("value", ["Axial", "", "3", 3, -1, None, True, 1.0, [2], "xy"])
def test_an_unknown_option(value: Any) -> None:
    with pytest.raises(ValueError, match=r"slice_axis must be one of auto, widest, axial, .*, 2, got "):
        parse_slice_axis(value)


@given(AXES, st.tuples(*[st.sampled_from([-1, 1])] * 3), SEEDS)
def test_planes_follow_the_affine(order: list[int], signs: tuple[int, ...], seed: int) -> None:
    tilt = np.eye(4)
    tilt[:3, :3] = Rotation.from_rotvec(np.random.default_rng(seed).uniform(-0.2, 0.2, 3)).as_matrix()
    affine = tilt @ affine_of((1.95, 1.95, 1.0), order, signs)
    for world, plane in enumerate(("sagittal", "coronal", "axial")):
        axis = slice_axis_of((1.95, 1.95, 1.0), affine, parse_slice_axis(plane))
        assert axis == order.index(world)
        assert plane_of(affine, axis) == plane


@pytest.mark.parametrize(
    ("spacing", "widest", "clearly"),
    [
        ((1.0, 1.0, 1.0), 2, False),
        ((1.005, 1.0, 1.0), 2, False),
        ((1.05, 1.0, 1.0), 0, False),
        ((1.0, 1.2, 1.0), 1, True),
        ((1.95, 1.95, 1.0), 0, False),
        ((1.0, 1.0, 10.0), 2, True),
    ],
)
def test_the_widest_axis(spacing: tuple[float, ...], widest: int, clearly: bool) -> None:
    assert through_plane_axis(spacing) == widest
    assert slice_axis_of(spacing, np.eye(4), "auto") == slice_axis_of(spacing, np.eye(4), "widest") == widest
    assert is_clearly_widest(spacing) == clearly


@settings(max_examples=40, deadline=None)
@given(AXES, SEEDS, st.integers(1, 3), st.lists(st.integers(0, 29), min_size=1, max_size=12, unique=True))
def test_strokes_show_their_slices_however_axes_are_stored(
    order: list[int], seed: int, width: int, indices: list[int]
) -> None:
    apart = [index for index in sorted(indices) if index - 1 not in indices]
    paint = strokes(np.random.default_rng(seed), apart, width)
    assert painted_axis(paint.transpose(order)) == order.index(2)


@settings(max_examples=20, deadline=None)
@given(AXES, SEEDS)
def test_strokes_on_every_slice(order: list[int], seed: int) -> None:
    paint = strokes(np.random.default_rng(seed), list(range(30)))
    assert painted_axis(paint.transpose(order)) == order.index(2)


def test_scribbles_of_phantoms_show_their_slices_or_nothing(tmp_path: Path) -> None:
    # drawn on every slice, some of them mostly along one direction
    write_cine_phantoms(tmp_path, num_patients=6, seed=0, splits=(0.5, 0.5, 0), with_scribbles=True)
    found = []
    for file in sorted(tmp_path.rglob("*_scribble.nii.gz")):
        ids = np.asarray(nib.load(file).dataobj)
        paint = ids != ids.max()
        found.append(painted_axis(paint))
        assert painted_axis(paint.transpose(2, 0, 1)) == (None if found[-1] is None else 0)
    assert set(found) <= {2, None}
    assert found.count(2) >= 0.75 * len(found) > 0


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_paint_of_other_kinds_on_a_few_slices(order: tuple[int, ...]) -> None:
    axis = order.index(2)
    region, dots, lines = (np.zeros((40, 40, 40), bool) for _ in range(3))
    region[10:30, 12:25, [5, 20]] = True
    for index in (4, 9, 30):
        for x in range(5, 35, 5):
            dots[x, 40 - x - index // 5, index] = True
            lines[5:30, x + index // 9, index] = True
    for paint in (region, dots, lines):
        assert painted_axis(paint.transpose(order)) == axis


@settings(deadline=None)
@given(AXES, st.tuples(*[st.floats(2.0, 15.0)] * 3))
def test_solid_bodies_tell_nothing(order: list[int], radii: tuple[float, ...]) -> None:
    paint = ball((20, 20, 20), radii)
    assert painted_axis(paint.transpose(order)) is None


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.integers(1, 4), st.floats(1.0, 6.0))
def test_balls_of_several_classes_tell_nothing(seed: int, number: int, radius: float) -> None:
    rng = np.random.default_rng(seed)
    paint = np.any([ball(tuple(rng.integers(7, 33, 3)), (radius,) * 3) for _ in range(number)], axis=0)
    assert painted_axis(paint) is None


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.integers(6, 12), st.sampled_from([0.2, 0.5]))
def test_scattered_voxels_tell_nothing(seed: int, size: int, share: float) -> None:
    assert painted_axis(np.random.default_rng(seed).random((size,) * 3) < share) is None


def test_no_paint_and_nothing_but_paint() -> None:
    assert painted_axis(np.zeros((3, 4, 5), bool)) is None
    assert painted_axis(np.ones((3, 4, 5), bool)) is None
    single = np.zeros((3, 4, 5), bool)
    single[1, 1, 1] = True
    assert painted_axis(single) is None


@settings(max_examples=60, deadline=None)
@given(
    AXES,
    st.tuples(*[st.sampled_from([-1, 1])] * 3),
    st.tuples(*[st.floats(0.5, 8)] * 3),
    st.sampled_from(get_args(SliceAxis)),
)
def test_the_inverse_restores_the_grid(
    order: list[int], signs: tuple[int, ...], spacing: tuple[float, ...], slice_axis: Any
) -> None:
    affine = torch.tensor(affine_of(spacing, order, signs), dtype=torch.float64)
    affine[:3, 3] = torch.tensor([7.0, -11.0, 13.0])
    scan = MetaTensor(torch.arange(60.0).reshape(1, 3, 4, 5), affine=affine)
    transform = ThroughPlaneLast(slice_axis)
    moved = transform(scan)
    axis = slice_axis_of(scan.pixdim.tolist(), affine.numpy(), slice_axis)
    assert torch.equal(moved.as_tensor(), scan.as_tensor().movedim(axis + 1, -1))
    back = transform.inverse(moved)
    assert torch.equal(back.as_tensor(), scan.as_tensor())
    assert torch.equal(back.affine, affine)


def test_all_keys_are_cut_alike() -> None:
    affine = torch.diag(torch.tensor([1.95, 1.95, 1.0, 1.0], dtype=torch.float64))
    item = {key: MetaTensor(torch.zeros(1, 6, 5, 4), affine=affine) for key in ("image", "label")}
    transform = ThroughPlaneLastd(["image", "label", "weak_label"], "axial", allow_missing_keys=True)
    moved = transform(item)
    assert {tuple(moved[key].shape) for key in item} == {(1, 6, 5, 4)}
    assert tuple(ThroughPlaneLastd("image")(item)["image"].shape) == (1, 5, 4, 6), "by default, the widest voxels"
    back = transform.inverse(moved)
    assert {tuple(back[key].shape) for key in item} == {(1, 6, 5, 4)}
