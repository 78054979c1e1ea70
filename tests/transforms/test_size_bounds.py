import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import Compose, RandFlipd, ResizeWithPadOrCropd, Spacingd

from sizeloss_monai import transforms
from sizeloss_monai.data import split_slices
from sizeloss_monai.sizes import common_size_bounds
from sizeloss_monai.transforms import LabelToSizeBounds, LabelToSizeBoundsd

INF = math.inf


@st.composite
def labels(draw, dims=(2, 3), num_classes=(2, 5)):
    """Class ids ``[1, *spatial]`` in which some classes may be absent, and the number of classes."""
    classes = draw(st.integers(*num_classes))
    spatial = draw(st.lists(st.integers(1, 6), min_size=dims[0], max_size=dims[1]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    present = draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=classes))
    return rng.choice(present, size=(1, *spatial)).astype(np.uint8), classes


def count(label, class_id):
    return sum(1 for value in np.asarray(label).ravel().tolist() if value == class_id)


@settings(deadline=None, max_examples=80)
@given(labels(), st.sampled_from(["tags", "common", "individual"]))
def test_every_mode_class_by_class(case, mode):
    label, classes = case
    common = [[0, INF]] + [[2.0 * k, 3.0 * k + 1] for k in range(1, classes)]
    transform = LabelToSizeBounds(mode, classes, common if mode == "common" else None)
    bounds = transform(label)
    assert type(bounds) is torch.Tensor
    assert bounds.dtype == torch.float32
    assert bounds.shape == (classes, 2)
    assert bounds[0].tolist() == [0, INF]
    for class_id in range(1, classes):
        size = count(label, class_id)
        expected = {
            "tags": [1, label.size],
            "common": common[class_id],
            "individual": [0.9 * size, 1.1 * size],
        }[mode]
        assert bounds[class_id].tolist() == pytest.approx(expected if size else [0, 0], rel=1e-6)


@settings(deadline=None, max_examples=60)
@given(labels(), st.floats(0, 1), st.floats(1, 5), st.sampled_from(["tags", "individual"]))
def test_true_size_lies_within_its_bounds(case, lower_factor, upper_factor, mode):
    label, classes = case
    bounds = LabelToSizeBounds(mode, classes, lower_factor=lower_factor, upper_factor=upper_factor)(label)
    for class_id in range(classes):
        lower, upper = bounds[class_id].tolist()
        assert lower <= count(label, class_id) <= upper


@settings(deadline=None, max_examples=40)
@given(labels(dims=(3, 3)))
def test_volume_is_individual_of_the_whole(case):
    label, classes = case
    bounds = LabelToSizeBounds("individual", classes)(label)
    sizes = [sum(count(label[..., k], c) for k in range(label.shape[-1])) for c in range(1, classes)]
    np.testing.assert_allclose(bounds[1:], [[0.9 * n, 1.1 * n] for n in sizes], rtol=1e-6)


def test_tags_are_one_and_the_number_of_voxels():
    label = np.zeros((1, 256, 256), dtype=np.uint8)
    label[0, 3, 4] = 1
    assert LabelToSizeBounds("tags", 3)(label).tolist() == [[0, INF], [1, 65536], [0, 0]]


def test_large_sizes_are_exact():
    label = torch.ones(1, 4096, 2049, dtype=torch.uint8)
    bounds = LabelToSizeBounds("individual", 2, lower_factor=1, upper_factor=1)(label)
    assert bounds[1].tolist() == [4096 * 2049] * 2


def test_background_is_unconstrained_even_where_absent():
    label = np.ones((1, 4, 4), dtype=np.uint8)
    for mode, common in [("tags", None), ("individual", None), ("common", [[3, 4], [1, 2]])]:
        assert LabelToSizeBounds(mode, 2, common)(label)[0].tolist() == [0, INF]


def test_results_do_not_share_memory():
    transform = LabelToSizeBounds("common", 2, [[0, INF], [60, 2000]])
    label = np.ones((1, 4, 4), dtype=np.uint8)
    transform(label).zero_()
    assert transform(0 * label).tolist() == [[0, INF], [0, 0]]
    assert transform(label).tolist() == [[0, INF], [60, 2000]]


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x,
        lambda x: x.astype(np.int64),
        lambda x: x.astype(np.float32),
        torch.from_numpy,
        lambda x: torch.from_numpy(x).float(),
        lambda x: MetaTensor(torch.from_numpy(x)),
    ],
)
def test_any_container(convert):
    label = np.zeros((1, 6, 6), dtype=np.uint8)
    label[0, :2, :5] = 1
    bounds = LabelToSizeBounds("individual", 2)(convert(label))
    assert type(bounds) is torch.Tensor
    assert bounds[1].tolist() == [9, 11]


@pytest.mark.parametrize("class_id", [2, 255, -1])
@pytest.mark.parametrize("mode", ["tags", "individual"])
def test_id_out_of_range(class_id, mode):
    label = np.zeros((1, 4, 4), dtype=np.int16)
    label[0, 1, 1] = class_id
    with pytest.raises(ValueError, match=rf"ids must lie in 0\.\.1.*{class_id}"):
        LabelToSizeBounds(mode, 2)(label)
    with pytest.raises(ValueError, match="ids must lie"):
        common_size_bounds([label[..., None]], 2)


@pytest.mark.parametrize(
    "common",
    [
        None,
        [[0, INF]],
        [[0, INF], [1, 2], [1, 2]],
        [0, INF],
        [[0, INF], [2, 1]],
        [[0, INF], [-1, 1]],
        [[0, INF], [math.nan, 1]],
        [[0, INF], [1, math.nan]],
        [[0, INF], [INF, INF]],
        [[0, INF], [-INF, INF]],
        [[0, INF, 3], [1, 2, 3]],
        [[0, INF], [1]],
        [],
    ],
)
def test_wrong_common_bounds(common):
    with pytest.raises(ValueError, match=r"common_bounds|inhomogeneous"):
        LabelToSizeBounds("common", 2, common)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"mode": "precise"},
        {"mode": ""},
        {"num_classes": 1},
        {"num_classes": 0},
        {"lower_factor": -0.1},
        {"lower_factor": 1.2},
        {"upper_factor": 0.8},
        {"upper_factor": math.nan},
        {"lower_factor": math.nan},
    ],
)
def test_wrong_arguments(kwargs):
    with pytest.raises(ValueError, match=r"mode|num_classes|factor"):
        LabelToSizeBounds(**{"mode": "individual", "num_classes": 2, **kwargs})


# ---- common bounds from one patient


@settings(deadline=None, max_examples=60)
@given(st.lists(labels(dims=(3, 3), num_classes=(3, 3)), min_size=1, max_size=3), st.booleans())
def test_common_bounds_are_the_extremes_over_positive_slices(cases, as_tensor):
    volumes = [label for label, _ in cases]
    sizes = {c: [count(v[..., k], c) for v in volumes for k in range(v.shape[-1])] for c in (1, 2)}
    present = {c: [n for n in sizes[c] if n] for c in (1, 2)}
    given_labels = [MetaTensor(torch.from_numpy(v)) for v in volumes] if as_tensor else volumes
    if not all(present.values()):
        absent = 1 if not present[1] else 2
        with pytest.raises(ValueError, match=f"class {absent}"):
            common_size_bounds(given_labels, 3)
        return
    bounds = common_size_bounds(given_labels, 3)
    assert bounds[0] == [0, INF]
    for c in (1, 2):
        assert bounds[c] == pytest.approx([0.9 * min(present[c]), 1.1 * max(present[c])])
    # every slice of that patient lies within its bounds
    transform = LabelToSizeBounds("common", 3, bounds)
    for volume in volumes:
        for k in range(volume.shape[-1]):
            for c, (lower, upper) in enumerate(transform(volume[..., k]).tolist()):
                assert lower <= count(volume[..., k], c) <= upper


def test_common_bounds_with_other_factors():
    label = np.zeros((1, 10, 10, 3), dtype=np.uint8)
    label[0, :2, :5, 0] = label[0, :4, :5, 1] = 1
    assert common_size_bounds([label], 2, 0.5, 2) == [[0, INF], [5, 40]]


def test_common_bounds_of_volumes():
    small, large = (np.zeros((1, 10, 10, 3), dtype=np.uint8) for _ in range(2))
    small[0, :2, :5] = 1
    large[0, :4, :5] = 1
    bounds = common_size_bounds([small, large], 2, per="volume")
    assert bounds == [[0, INF], pytest.approx([0.9 * 30, 1.1 * 60])]
    with pytest.raises(ValueError, match="class 2 is in no volume"):
        common_size_bounds([small, large], 3, per="volume")


# ---- what the network sees


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(4, 24),
    st.integers(4, 24),
    st.sampled_from([0.7, 1.0, 1.9]),
    st.sampled_from(["individual", "tags"]),
)
def test_bounds_after_resampling_and_cropping_hold_for_the_network(random_seed, height, width, pixdim, mode):
    rng = np.random.default_rng(random_seed)
    label = np.zeros((1, 16, 14, 2), dtype=np.uint8)
    top, left = rng.integers(0, 12, size=2)
    label[0, top : top + rng.integers(1, 9), left : left + rng.integers(1, 9), 0] = 1
    prepare = Compose(
        [
            Spacingd("label", pixdim=(pixdim, pixdim, -1), mode="nearest"),
            ResizeWithPadOrCropd("label", spatial_size=(height, width, -1)),
            LabelToSizeBoundsd(mode=mode, num_classes=2, lower_factor=1, upper_factor=1),
        ]
    )
    out = prepare({"label": MetaTensor(torch.from_numpy(label), affine=torch.eye(4, dtype=torch.float64))})
    seen = out["label"].numpy()
    assert seen.shape[1:] == (height, width, 2)
    size = int((seen == 1).sum())
    expected = [0, 0] if size == 0 else [size, size] if mode == "individual" else [1, seen.size]
    assert out["size_bounds"][1].tolist() == expected


def test_dictionary_keys_and_arguments():
    label = np.zeros((1, 10, 10), dtype=np.uint8)
    label[0, :2, :5] = 1
    item = {"label": label}
    out = LabelToSizeBoundsd()(item)
    assert item.keys() == {"label"}
    assert out["size_bounds"].tolist() == [[0, INF], [9, 11]]
    assert out["label"] is label
    kwargs = {"keys": "truth", "output_key": "b", "mode": "common", "num_classes": 3}
    out = LabelToSizeBoundsd(**kwargs, common_bounds=[[0, INF], [3, 5], [4, 6]])({"truth": 2 * label})
    assert out["b"].tolist() == [[0, INF], [0, 0], [4, 6]]
    out = LabelToSizeBoundsd(lower_factor=0.5, upper_factor=2.0)({"label": label})
    assert out["size_bounds"][1].tolist() == [5, 20]


def test_dictionary_aliases_and_one_key():
    assert transforms.LabelToSizeBoundsD is transforms.LabelToSizeBoundsDict is LabelToSizeBoundsd
    with pytest.raises(ValueError, match="one key"):
        LabelToSizeBoundsd(keys=["a", "b"])
    with pytest.raises(KeyError, match="label"):
        LabelToSizeBoundsd()({})


def test_collated_with_random_transforms():
    label = torch.zeros(1, 8, 8, dtype=torch.uint8)
    label[0, :2, :5] = 1
    items = [{"label": MetaTensor(label)}, {"label": MetaTensor(0 * label)}]
    transform = Compose([RandFlipd("label", prob=0.5), LabelToSizeBoundsd()])
    batch = next(iter(DataLoader(Dataset(items, transform), batch_size=2)))
    assert batch["size_bounds"].shape == (2, 2, 2)
    assert batch["size_bounds"][:, 1].tolist() == [[9, 11], [0, 0]]


@settings(deadline=None, max_examples=20)
@given(labels(num_classes=(2, 3)))
def test_deterministic(case):
    label, classes = case
    assume(label.size)
    first, second = (LabelToSizeBounds("individual", classes)(label) for _ in range(2))
    assert torch.equal(first, second)


AFFINE = torch.tensor([[1.5, 0.2, 0, 3], [-0.2, 1.5, 0, -7], [0, 0, 8, 1], [0, 0, 0, 1]], dtype=torch.float64)


@pytest.mark.parametrize("mode", ["tags", "individual", "common"])
def test_bounds_in_mm_are_those_in_voxels_times_a_voxel(mode):
    label = MetaTensor((torch.rand(1, 9, 7, 5) > 0.5).to(torch.uint8), affine=AFFINE)
    area = 1.5**2 + 0.2**2
    for item, voxel in ((label, area * 8 / 1000), (split_slices({"label": label}, ["label"])[2]["label"], area)):
        in_mm = {"common_bounds": [[0, math.inf], [60 * voxel, 90 * voxel]]} if mode == "common" else {}
        in_voxels = {"common_bounds": [[0, math.inf], [60, 90]]} if mode == "common" else {}
        unit = {"unit": "mL", "per": "volume"} if item is label else {"unit": "mm2"}
        found = LabelToSizeBoundsd(mode=mode, **unit, **in_mm)({"label": item})
        expected = LabelToSizeBoundsd(mode=mode, **in_voxels)({"label": item})
        torch.testing.assert_close(found["size_bounds"], expected["size_bounds"] * voxel)
        assert found["voxel_size"].item() == pytest.approx(voxel)
        assert expected["voxel_size"].item() == 1


def test_common_bounds_in_mm(caplog):
    label = MetaTensor(torch.zeros(1, 9, 7, 3, dtype=torch.uint8), affine=AFFINE)
    label[0, :2, :5, 0] = label[0, :4, :5, 1] = 1
    area = 1.5**2 + 0.2**2
    assert common_size_bounds([label], 2, unit="mm2")[1] == pytest.approx([9 * area, 22 * area])
    in_ml = common_size_bounds([label], 2, per="volume", unit="mL")[1]
    assert common_size_bounds([label], 2, per="volume", unit="mm")[1] == in_ml  # the old spelling
    assert "found the old spelling 'mm', 'mL' is taken" in caplog.text
    with pytest.raises(ValueError, match=r"unit must be one of \('voxels', 'mm2'\) per slice, got 'mL'"):
        common_size_bounds([label], 2, unit="mL")
    assert in_ml == pytest.approx([27 * area * 0.008, 33 * area * 0.008])


@pytest.mark.parametrize(("unit", "per"), [("mm2", "slice"), ("mL", "volume")])
def test_slices_add_up_to_their_volume_in_ml_alone(unit, per):
    label = MetaTensor((torch.rand(1, 9, 7, 5) > 0.5).to(torch.uint8), affine=AFFINE)
    transform = LabelToSizeBoundsd(unit=unit, per=per)
    slices = [transform(item) for item in split_slices({"label": label}, ["label"])]
    in_ml = LabelToSizeBounds("individual", 2, unit="mL", per="volume")(label)
    spacing = {"mm2": 8 / 1000, "mL": 1}[unit]
    torch.testing.assert_close(spacing * sum(item["size_bounds"][1] for item in slices), in_ml[1])
    voxel = (1.5**2 + 0.2**2) * 8 / 1000
    assert [item["voxel_size"].item() * spacing for item in slices] == pytest.approx([voxel] * 5)


def test_unknown_unit():
    with pytest.raises(ValueError, match="unit must be one of"):
        LabelToSizeBounds("tags", 2, unit="cm")
    with pytest.raises(ValueError, match="per must be one of"):
        LabelToSizeBounds("tags", 2, per="patient")
    with pytest.raises(ValueError, match="mode must be one of"):
        LabelToSizeBounds("volume", 2)


@pytest.mark.parametrize(("unit", "per"), [("mm2", "slice"), ("mL", "volume")])
def test_the_old_unit_is_read_with_a_warning(unit, per, caplog):
    label = MetaTensor(torch.ones(1, 9, 7, 5), affine=AFFINE)
    old, new = (LabelToSizeBounds("individual", 2, unit=name, per=per)(label) for name in ("mm", unit))
    assert f"found the old spelling 'mm', '{unit}' is taken" in caplog.text
    assert torch.equal(old, new)
