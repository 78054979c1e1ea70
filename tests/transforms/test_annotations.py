from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import ResizeWithPadOrCropd

from sizeloss_monai.constraints import VolumeSizeConstraintLoss
from sizeloss_monai.datalist import Annotation
from sizeloss_monai.transforms import AnnotatedCornersd, AnnotatedInsided, AnnotationToTargetsd

AFFINE = np.array([[1.2, 0.1, 0, 3], [-0.1, 1.2, 0, -7], [0, 0.2, 10, 1], [0, 0, 0, 1]])
VOXEL_ML = abs(np.linalg.det(AFFINE)) / 1000
PIXEL_MM2 = np.linalg.norm(np.cross(AFFINE[:3, 0], AFFINE[:3, 1]))
FREE = (0.0, math.inf)


def item(per: str, bounds: tuple[float, float] = FREE, tags: Any = None, unit: str = "", **rest: Any) -> dict[str, Any]:
    unit = unit or {"volume": "mL", "slice": "mm2"}[per]
    annotation = Annotation(per, unit, (FREE, bounds), tags or {}, **rest)
    image = MetaTensor(torch.rand(1, 8, 8, 5), affine=AFFINE)
    weak_label = MetaTensor(torch.full((1, 8, 8, 5), 255, dtype=torch.uint8), affine=AFFINE)
    weak_label[0, 3:5, 3:5, 2] = 1
    weak_label[0, :2, :, 2:4] = 0  # slice 3 has background only, slices 0, 1, 4 nothing
    return {"image": image, "weak_label": weak_label, "annotation": annotation, "case": "a"}


def bounds_of(data: dict[str, Any], **options: Any) -> torch.Tensor:
    return AnnotationToTargetsd(**options)(data)["size_bounds"]


def test_bounds_of_a_volume_are_shared_by_its_slices() -> None:
    bounds = bounds_of(item("volume", (20, 40)))
    assert bounds.shape == (2, 2, 5)
    torch.testing.assert_close(bounds[1], torch.tensor([[4.0] * 5, [8.0] * 5]))
    assert torch.equal(bounds[0], torch.tensor([[0.0] * 5, [math.inf] * 5]))


def test_slices_known_to_lack_the_class_have_no_share() -> None:
    bounds = bounds_of(item("volume", (20, 40)), scribbles_complete=True)
    torch.testing.assert_close(bounds[1], torch.tensor([[5.0, 5, 5, 0, 5], [10.0, 10, 10, 0, 10]]))
    bounds = bounds_of(item("volume", (20, 40), {1: (1, 2)}))
    torch.testing.assert_close(bounds[1], torch.tensor([[0.0, 10, 10, 0, 0], [0.0, 20, 20, 0, 0]]))


@pytest.mark.parametrize("per", ["volume", "slice"])
def test_a_tag_that_lists_a_slice_holds_although_the_class_has_no_scribble_there(per: str) -> None:
    data = item(per, (20, 40), {1: (2, 3)})  # slice 3 has a scribble, of the background only
    bounds = bounds_of(data, scribbles_complete=True)
    shares = [[0.0, 0, 10, 10, 0], [0.0, 0, 20, 20, 0]] if per == "volume" else [[0, 0, 20, 20, 0], [0, 0, 40, 40, 0]]
    torch.testing.assert_close(bounds[1], torch.tensor(shares, dtype=torch.float32))


def test_a_negative_tag_holds_for_every_slice_without_the_class() -> None:
    data = item("volume", (20, 40), {1: False})
    data["weak_label"][:] = 255
    assert torch.equal(bounds_of(data)[1], torch.zeros(2, 5))


def test_a_class_that_is_known_to_be_there_has_one_voxel_at_least() -> None:
    assert bounds_of(item("volume"))[1, 0].sum().item() == pytest.approx(VOXEL_ML)
    data = item("volume", tags={1: True})
    data["weak_label"][:] = 255
    assert bounds_of(data)[1, 0].sum().item() == pytest.approx(VOXEL_ML)
    data = item("volume")
    data["weak_label"][:] = 255
    assert torch.equal(bounds_of(data)[1, 0], torch.zeros(5))


def test_bounds_of_slices() -> None:
    bounds = bounds_of(item("slice", (30, 90)))
    torch.testing.assert_close(bounds[1], torch.tensor([[0.0, 0, 30, 0, 0], [90.0] * 5]))
    bounds = bounds_of(item("slice", (30, 90), {1: (1, 2)}))
    torch.testing.assert_close(bounds[1], torch.tensor([[0.0, 30, 30, 0, 0], [0.0, 90, 90, 0, 0]]))
    assert bounds_of(item("slice"))[1, 0, 2].item() == pytest.approx(PIXEL_MM2)


@pytest.mark.parametrize(("per", "voxel"), [("volume", VOXEL_ML), ("slice", PIXEL_MM2)])
def test_bounds_in_voxels_are_those_of_the_file(per: str, voxel: float) -> None:
    bounds = bounds_of(item(per, (50, 90), unit="voxels"))
    expected = 90 * voxel / (5 if per == "volume" else 1)
    torch.testing.assert_close(bounds[1, 1], torch.full((5,), expected))


def test_whole_volumes_keep_one_pair() -> None:
    bounds = bounds_of(item("volume", (20, 40)), per="volume")
    torch.testing.assert_close(bounds, torch.tensor([[0.0, math.inf], [20.0, 40.0]]))


def test_what_a_full_mask_leaves_unpainted_is_background() -> None:
    data = item("volume", complete=True)
    given = data["weak_label"].clone()
    made = AnnotationToTargetsd()(data)["weak_label"]
    assert isinstance(made, MetaTensor)
    assert made.dtype == torch.uint8
    assert torch.equal(made == 1, given == 1)
    assert (made[given != 1] == 0).all()
    assert torch.equal(data["weak_label"], given), "the item given is not changed"


def test_complete_annotation_needs_no_bounds() -> None:
    bounds = bounds_of(item("volume", (20, 40), {1: (2,)}, complete=True))
    assert torch.equal(bounds, torch.tensor([0.0, math.inf])[None, :, None].expand(2, 2, 5))


def test_an_item_without_a_weak_label_gets_one_without_annotation() -> None:
    data = item("volume")
    del data["weak_label"]
    made = AnnotationToTargetsd()(data)["weak_label"]
    assert made.shape == data["image"].shape
    assert made.dtype == torch.uint8
    assert (made == 255).all()
    assert isinstance(made, MetaTensor)
    torch.testing.assert_close(made.affine, data["image"].affine)


def test_a_tag_against_complete_scribbles() -> None:
    data = item("volume", tags={1: True})
    data["weak_label"][:] = 0
    assert bounds_of(data)[1, 1].isinf().all()
    with pytest.raises(ValueError, match="case 'a', key 'tags': found true for class 1, but every slice is annotated"):
        AnnotationToTargetsd(scribbles_complete=True)(
            data | {"annotation": item("volume", tags={1: True})["annotation"]}
        )


def test_a_slice_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"case 'a', key 'tags': found slice 5, expected below 5"):
        AnnotationToTargetsd()(item("volume", tags={1: (4, 5)}))


@given(st.floats(0, 50), st.floats(1, 50), st.sets(st.integers(0, 4), min_size=1))
def test_shares_give_the_penalty_of_the_volume(lower: float, width: float, slices: set[int]) -> None:
    data = item("volume", (lower + 1, lower + 1 + width), {1: tuple(slices | {2})})
    bounds = bounds_of(data).movedim(-1, 0)
    logits = torch.randn(5, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    size = torch.softmax(logits, dim=1)[:, 1].sum().item()
    gap = max(lower + 1 - size, 0) + max(size - lower - 1 - width, 0)
    assert VolumeSizeConstraintLoss()(logits, bounds).item() == pytest.approx(gap**2, rel=1e-3, abs=1e-3)


def cropped(size: list[int]) -> dict[str, Any]:
    data = AnnotatedCornersd()(item("volume"))
    return AnnotatedInsided()(ResizeWithPadOrCropd("image", size)(data))


def test_a_crop_that_keeps_the_annotated_voxels() -> None:
    assert "annotated_corners" not in cropped([2, 2, 5])
    assert cropped([12, 2, 9])["image"].shape == (1, 12, 2, 9)


def test_a_crop_that_cuts_annotated_voxels() -> None:
    with pytest.raises(ValueError, match=r"case 'a', key 'image': found annotated voxels from \[-1, 0, 2\]"):
        cropped([1, 2, 5])


def test_nothing_annotated_can_be_cropped() -> None:
    data = item("volume")
    data["weak_label"] = torch.full((1, 8, 8, 5), 255)
    corners = AnnotatedCornersd()(data)
    assert corners["annotated_corners"].shape == (0, 3)
    AnnotatedInsided()(ResizeWithPadOrCropd("image", [1, 1, 1])(corners))
