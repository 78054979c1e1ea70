from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ignite.engine import Engine
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.inferers import SliceInferer
from monai.transforms import (
    Activationsd,
    Compose,
    CopyItemsd,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    ResizeWithPadOrCropd,
    Spacingd,
)
from skimage.measure import label as skimage_label

from sizeloss_monai.data.components import component_sizes
from sizeloss_monai.datalist import ClassMap
from sizeloss_monai.errors import DataError
from sizeloss_monai.handlers import MasksSaver, SizesSaver
from sizeloss_monai.handlers.savers import bounds_in_ml, touched_faces
from sizeloss_monai.phantoms import make_affine
from sizeloss_monai.sizes.bounds import SizeBounds
from sizeloss_monai.sizes.table import SizeRow, read_sizes
from sizeloss_monai.transforms import ThroughPlaneLastd

IDS = {"classes": ClassMap([0, 1, 2, 3], [0, 1, 0, 2])}
AFFINE = make_affine((2.0, 2.5, 8.0), seed=3)
VOXEL_ML = 2.0 * 2.5 * 8.0 / 1000


def make_list(**further: Any) -> dict[str, Any]:
    items = [{"case": name, "image": f"/scans/{name}.nii.gz"} for name in ("a", "b")]
    items[0]["label"] = "/scans/a_gt.nii.gz"
    return {"labels": {"0": "background", "1": "ball", "3": "cube"}, "validation": items, **further}


def bounds(**by_id: Any) -> dict[str, Any]:
    return {"per": "volume", "unit": "mL", "bounds": {key[1:]: value for key, value in by_id.items()}}


def make_probability(mask: np.ndarray, num_classes: int = 3, certainty: float = 0.8, affine=AFFINE) -> MetaTensor:
    """The mask's class has that probability, the others share the rest."""
    one_hot = torch.nn.functional.one_hot(torch.as_tensor(mask).long(), num_classes).movedim(-1, 0)
    rest = (1 - certainty) / (num_classes - 1)
    return MetaTensor(rest + (certainty - rest) * one_hot, affine=torch.as_tensor(affine))


def run(handlers: list[Any], outputs: dict[str, dict[str, Any]]) -> None:
    """An evaluation, one case a batch, whose postprocessing gave these outputs."""
    engine = Engine(lambda engine, batch: [outputs[item["case"]] for item in batch])
    for handler in handlers:
        handler.attach(engine)
    engine.run([[{"case": case}] for case in outputs])


def make_mask() -> np.ndarray:
    mask = np.zeros((10, 12, 6), dtype=np.uint8)
    mask[2:5, 3:7, 1:3] = 1
    mask[7:9, 8:10, 3:6] = 2
    return mask


def measured(folder: Path) -> dict[tuple[str, int], SizeRow]:
    return {(row.case, row.class_id): row for row in read_sizes(folder / "sizes.csv")}


# ---- sizes


def test_sizes_are_in_ml(tmp_path: Path) -> None:
    mask, truth = make_mask(), make_mask()
    truth[0, 0, 0] = 1
    label = torch.nn.functional.one_hot(torch.as_tensor(truth).long(), 3).movedim(-1, 0)
    outputs = {
        "a": {"probability": make_probability(mask), "label": label},
        "b": {"probability": make_probability(0 * mask)},
    }
    run([SizesSaver(str(tmp_path / "new"), make_list(), **IDS)], outputs)
    rows = measured(tmp_path / "new")
    assert list(rows) == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert [rows["a", 1].name, rows["a", 2].name] == ["ball", "cube"]
    for class_id, voxels in ((1, 24), (2, 12)):
        row = rows["a", class_id]
        assert row.hard_ml == pytest.approx(VOXEL_ML * voxels)
        assert row.soft_ml == pytest.approx(VOXEL_ML * (0.8 * voxels + 0.1 * (mask.size - voxels)), rel=1e-6)
        assert row.true_ml == pytest.approx(VOXEL_ML * (voxels + (class_id == 1)))
        assert row.components == 1
        assert row.violation_ml is None
    assert (rows["a", 1].touches_border, rows["a", 2].touches_border) == ("", "S")
    assert (rows["b", 1].hard_ml, rows["b", 1].components, rows["b", 1].true_ml) == (0, 0, None)


def test_a_label_of_none_is_no_truth(tmp_path: Path) -> None:
    outputs = {"a": {"probability": make_probability(make_mask()), "label": None}}
    run([SizesSaver(str(tmp_path), make_list(), **IDS)], outputs)
    assert measured(tmp_path)["a", 1].true_ml is None


def test_violations_are_signed(tmp_path: Path) -> None:
    hard = VOXEL_ML * 24
    datalist = make_list(size_bounds=bounds(_1=[0, hard - 0.5], _3=[2.0, None]))
    datalist["validation"][1]["size_bounds"] = {"1": [0.1, None]}
    outputs = {name: {"probability": make_probability(make_mask())} for name in ("a", "b")}
    run([SizesSaver(str(tmp_path), datalist, **IDS)], outputs)
    rows = measured(tmp_path)
    assert rows["a", 1].violation_ml == pytest.approx(0.5)
    assert rows["a", 2].violation_ml == pytest.approx(VOXEL_ML * 12 - 2)
    assert rows["b", 1].violation_ml == 0
    assert rows["b", 1].upper_ml == math.inf


@pytest.mark.parametrize(
    ("given_bounds", "ids", "expected"),
    [
        (None, [1], None),
        (SizeBounds("volume", "mL", {1: (2.0, 5.0)}), [1], (2.0, 5.0)),
        (SizeBounds("volume", "mL", {1: (2.0, 5.0)}), [3], None),
        (SizeBounds("volume", "mL", {1: (2.0, 5.0), 2: (1.0, 3.0)}), [1, 2], (3.0, 8.0)),
        (SizeBounds("volume", "mL", {1: (2.0, 5.0)}), [1, 2], (2.0, math.inf)),  # nothing bounds the other part
        (SizeBounds("volume", "voxels", {1: (200.0, math.inf)}), [1], (8.0, math.inf)),
        (SizeBounds("slice", "mm2", {1: (2.0, 5.0)}), [1], None),
    ],
)
def test_bounds_of_a_class(given_bounds: SizeBounds | None, ids: list[int], expected: object) -> None:
    assert bounds_in_ml(given_bounds, {}, ids, 0.04) == expected


def test_a_class_that_is_absent_by_a_tag_must_be_empty(tmp_path: Path) -> None:
    datalist = make_list(size_bounds=bounds(_1=[1.5, 9], _3=[0.1, 9]))
    for item in datalist["validation"]:
        item["tags"] = {"1": False, "3": [0, 1]}
    outputs = {
        "a": {"probability": make_probability(0 * make_mask())},
        "b": {"probability": make_probability(make_mask())},
    }
    run([SizesSaver(str(tmp_path), datalist, **IDS)], outputs)
    rows = measured(tmp_path)
    assert (rows["a", 1].lower_ml, rows["a", 1].upper_ml, rows["a", 1].violation_ml) == (0, 0, 0)
    assert rows["b", 1].violation_ml == pytest.approx(VOXEL_ML * 24)
    assert (rows["a", 2].lower_ml, rows["a", 2].upper_ml) == (0.1, 9)


def test_an_absent_part_of_a_class_has_no_share_in_its_bounds() -> None:
    given_bounds = SizeBounds("volume", "mL", {1: (2.0, 5.0), 2: (1.0, 3.0)})
    assert bounds_in_ml(given_bounds, {1: False}, [1, 2], 0.04) == (1.0, 3.0)


def test_bad_bounds_are_an_error_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="case 'a', key 'size_bounds'"):
        SizesSaver(str(tmp_path / "new"), make_list(size_bounds=bounds(_1=[5, 2])), **IDS)
    assert not (tmp_path / "new").exists()


def test_a_tensor_without_affine_has_no_size(tmp_path: Path) -> None:
    outputs = {"a": {"probability": torch.zeros(3, 4, 4, 4)}}
    with pytest.raises(TypeError, match="'probability' must be a MetaTensor"):
        run([SizesSaver(str(tmp_path), make_list(), **IDS)], outputs)


masks = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).random((4, 5, 3)) < 0.25)


@given(mask=masks)
def test_components_are_skimages(mask: np.ndarray) -> None:
    assert len(component_sizes(mask)) == skimage_label(mask, connectivity=3).max()


@settings(deadline=None)
@given(mask=masks, axes=st.permutations(range(3)), flip=st.sets(st.sampled_from(range(3))))
def test_measures_do_not_depend_on_how_a_volume_is_stored(mask: np.ndarray, axes: list[int], flip: set[int]) -> None:
    image = nib.Nifti1Image(mask.astype(np.uint8), AFFINE)
    turned = image.as_reoriented(np.array([[axis, -1 if axis in flip else 1] for axis in axes]))
    other = np.asarray(turned.dataobj) > 0
    assert len(component_sizes(other)) == len(component_sizes(mask))
    assert set(touched_faces(other, turned.affine)) == set(touched_faces(mask, AFFINE))


def test_faces() -> None:
    mask = np.zeros((4, 4, 4), dtype=bool)
    assert touched_faces(mask, np.eye(4)) == ""
    mask[1, 1, 0] = True
    assert touched_faces(mask, np.eye(4)) == "I"
    assert touched_faces(mask, np.diag([1, 1, -1, 1])) == "S"
    mask[3, 1:, 1] = True
    assert touched_faces(mask, np.eye(4)) == "RAI"


# ---- masks


class ThresholdNet(torch.nn.Module):
    """Class 1 where the image is bright."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.5 - x, x - 0.5], dim=1) * 20


@pytest.fixture
def scans(tmp_path: Path) -> dict[str, Any]:
    """Two scans on grids of their own, the second stored with its slices along the first axis; one has a truth."""
    items = []
    for name, permute in (("a", None), ("b", (2, 0, 1))):
        data = np.zeros((20, 18, 7), dtype=np.float32)
        data[6:14, 5:12, 2:5] = 1
        affine = make_affine((1.3, 1.7, 6.1), seed=len(items))
        if permute:
            data, affine = data.transpose(permute), affine[:, [*permute, 3]]
        nib.save(nib.Nifti1Image(data, affine), tmp_path / f"{name}.nii.gz")
        items.append({"case": f"case_{name}.1", "image": str(tmp_path / f"{name}.nii.gz")})
    nib.save(nib.Nifti1Image(np.zeros((20, 18, 7), dtype=np.uint8), affine), tmp_path / "a_gt.nii.gz")
    items[0]["label"] = str(tmp_path / "a_gt.nii.gz")
    return {"labels": {"1": "box"}, "validation": items}


def evaluate(datalist: dict[str, Any], folder: Path) -> None:
    """As a bundle's evaluate.yaml does, without a truth."""
    preprocessing = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            ThroughPlaneLastd("image"),
            Spacingd("image", pixdim=(1.0, 1.0, -1.0)),
            ResizeWithPadOrCropd("image", (24, 24, -1)),
        ]
    )
    postprocessing = Compose(
        [
            Activationsd("pred", softmax=True),
            Invertd("pred", preprocessing, orig_keys="image", nearest_interp=False),
            CopyItemsd("pred", names="probability"),
            ThroughPlaneLastd("pred"),
        ]
    )
    items = [{key: item[key] for key in ("case", "image")} for item in datalist["validation"]]
    given_list = (str(folder), datalist, ClassMap([0, 1], [0, 1]))
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items, preprocessing), batch_size=1),
        network=ThresholdNet(),
        inferer=SliceInferer(roi_size=(24, 24), spatial_dim=2),
        postprocessing=postprocessing,
        val_handlers=[SizesSaver(*given_list), MasksSaver(*given_list)],
    ).run()


def test_masks_lie_on_the_grids_of_their_scans(scans: dict[str, Any], tmp_path: Path) -> None:
    evaluate(scans, tmp_path / "out")
    index = json.loads((tmp_path / "out" / "cases.json").read_text())
    assert index["target_ids"] == {"0": 0, "1": 1}
    assert [case["case"] for case in index["cases"]] == ["case_a.1", "case_b.1"]
    assert [case["label"] is None for case in index["cases"]] == [False, True]
    rows = measured(tmp_path / "out")
    for case in index["cases"]:
        scan, mask = nib.load(case["image"]), nib.load(tmp_path / "out" / case["mask"])
        assert mask.shape == scan.shape
        np.testing.assert_array_equal(mask.affine, scan.affine)
        assert mask.get_data_dtype() == np.uint8
        found, bright = np.asarray(mask.dataobj) == 1, scan.get_fdata() > 0.5
        assert 2 * (found & bright).sum() / (found.sum() + bright.sum()) > 0.9
        row = rows[case["case"], 1]
        assert row.hard_ml == pytest.approx(found.sum() * 1.3 * 1.7 * 6.1 / 1000, rel=1e-5)
        assert row.soft_ml == pytest.approx(row.hard_ml, rel=0.15)
        assert row.true_ml is None
    assert {path.name for path in (tmp_path / "out" / "masks").iterdir()} == {"case_a.1.nii.gz", "case_b.1.nii.gz"}


@pytest.mark.parametrize("case", ["../a", "a/b", "a\\b", ""])
def test_a_case_whose_name_no_file_can_have(tmp_path: Path, case: str) -> None:
    with pytest.raises(DataError, match="key 'case'"):
        MasksSaver(str(tmp_path / "new"), {"validation": [{"case": case, "image": "x"}]}, ClassMap([0, 1], [0, 1]))
    assert not (tmp_path / "new").exists()
