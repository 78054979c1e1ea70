import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.transforms import Compose, EnsureTyped, Flip, RandFlipd

from sizeloss_monai.data import SliceDataset, split_slices
from sizeloss_monai.transforms import LabelToDiscSeedd, LabelToSizeBoundsd

AFFINE = torch.tensor([[1.5, 0, 0, 3], [0, 1.5, 0, -7], [0, 0, 8, 1], [0, 0, 0, 1]], dtype=torch.float64)
KEYS = ("image", "label", "weak_label")


def make_volume(case, depth, meta=True):
    generator = torch.Generator().manual_seed(depth)
    image = torch.rand(1, 9, 7, depth, generator=generator)
    label = (image > 0.5).to(torch.uint8)
    if meta:
        image, label = MetaTensor(image, affine=AFFINE), MetaTensor(label, affine=AFFINE)
    return {"image": image, "label": label, "case": case, "volume_bounds": [1, 2]}


@pytest.mark.parametrize("meta", [True, False])
def test_slices_in_order_with_everything_else_handed_through(meta):
    volume = make_volume("a", 5, meta)
    slices = split_slices(volume, KEYS)
    assert [item["slice"] for item in slices] == [0, 1, 2, 3, 4]
    for index, item in enumerate(slices):
        assert item.keys() == {"image", "label", "case", "volume_bounds", "slice"}
        assert item["case"] == "a"
        assert item["volume_bounds"] is volume["volume_bounds"]
        for key in ("image", "label"):
            assert item[key].shape == (1, 9, 7)
            assert item[key].dtype == volume[key].dtype
            assert item[key].is_contiguous()
            assert type(item[key]) is type(volume[key])
            np.testing.assert_array_equal(item[key].numpy(), volume[key].numpy()[..., index])
    assert "slice" not in volume


def test_affine_of_a_meta_tensor_is_kept():
    volume = make_volume("a", 3)
    volume["image"] = Flip(0)(volume["image"])
    for item in split_slices(volume, KEYS):
        torch.testing.assert_close(item["image"].affine, volume["image"].affine)
        torch.testing.assert_close(item["label"].affine, AFFINE)
        # the volume's record of operations does not hold for a slice
        assert item["image"].applied_operations == []


def test_numpy_volumes():
    array = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    slices = split_slices({"image": array}, ("image",))
    assert len(slices) == 4
    np.testing.assert_array_equal(slices[2]["image"], array[..., 2])


def test_only_the_keys_asked_for_are_split():
    volume = make_volume("a", 3)
    slices = split_slices(volume, ("image",))
    assert slices[1]["image"].shape == (1, 9, 7)
    assert slices[1]["label"].shape == (1, 9, 7, 3)


@pytest.mark.parametrize(
    "changed",
    [
        {"label": torch.zeros(1, 9, 7, 4)},
        {"label": torch.zeros(1, 9, 7)},
        {"label": torch.zeros(9, 7, 3)},
        {"image": torch.zeros(1, 1, 9, 7, 3)},
    ],
)
def test_mismatch_names_the_case_and_the_shapes(changed):
    with pytest.raises(ValueError, match=r"case 'patient7'.*label"):
        split_slices({**make_volume("patient7", 3), **changed}, KEYS)


def test_values_of_slices_are_split_too():
    bounds = torch.arange(30.0).reshape(3, 2, 5)
    slices = split_slices({**make_volume("a", 5), "size_bounds": bounds}, KEYS, value_keys=["size_bounds", "absent"])
    for index, item in enumerate(slices):
        assert torch.equal(item["size_bounds"], bounds[..., index])
    with pytest.raises(ValueError, match=r"case 'a', key 'size_bounds': expected values of 4 slices"):
        split_slices({**make_volume("a", 4), "size_bounds": bounds}, KEYS, value_keys=["size_bounds"])


def test_nothing_to_split():
    with pytest.raises(ValueError, match="case 'a'"):
        split_slices({"case": "a"}, KEYS)


class Counted:
    """An identity that remembers what it was given."""

    def __init__(self):
        self.cases = []

    def __call__(self, item):
        self.cases.append(item["case"])
        return item


def test_data_set_is_in_order_and_prepares_each_volume_once():
    volumes = [make_volume("b", 3), make_volume("a", 1), make_volume("c", 2)]
    prepare = Counted()
    dataset = SliceDataset(volumes, prepare, num_workers=1, progress=False)
    for _ in range(3):
        found = [(dataset[i]["case"], dataset[i]["slice"]) for i in range(len(dataset))]
        assert found == [("b", 0), ("b", 1), ("b", 2), ("a", 0), ("c", 0), ("c", 1)]
    assert sorted(prepare.cases) == ["a", "b", "c"]
    np.testing.assert_array_equal(dataset[4]["image"].numpy(), volumes[2]["image"].numpy()[..., 0])


def test_slice_transform_is_drawn_anew_and_leaves_the_cache_alone():
    dataset = SliceDataset(
        [make_volume("a", 2)],
        lambda item: item,
        slice_transform=Compose([RandFlipd(("image", "label"), prob=0.5, spatial_axis=0)]).set_random_state(0),
        progress=False,
    )
    original = make_volume("a", 2)["image"].numpy()[..., 1]
    seen = [dataset[1]["image"].numpy() for _ in range(20)]
    flipped = [np.array_equal(image, original[:, ::-1]) for image in seen]
    assert set(flipped) == {True, False}
    assert all(np.array_equal(image, original) or np.array_equal(image, original[:, ::-1]) for image in seen)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_weak_labels_are_the_same_in_every_epoch_and_run(num_workers):
    def make():
        return SliceDataset(
            [make_volume("a", 4), make_volume("b", 4), make_volume("c", 3)],
            Compose([EnsureTyped(KEYS, allow_missing_keys=True), LabelToDiscSeedd(max_radius=2, seed=4)]),
            slice_transform=LabelToSizeBoundsd(),
            num_workers=num_workers,
            progress=False,
        )

    def epoch(dataset, generator):
        loader = DataLoader(dataset, batch_size=2, shuffle=True, generator=generator)
        return {
            (case, int(index)): (weak.numpy().tobytes(), bounds.numpy().tobytes())
            for batch in loader
            for case, index, weak, bounds in zip(
                batch["case"], batch["slice"], batch["weak_label"], batch["size_bounds"], strict=True
            )
        }

    dataset, generator = make(), torch.Generator().manual_seed(0)
    first = epoch(dataset, generator)
    assert len(first) == 11
    assert len({weak for weak, _ in first.values()}) > 5
    assert epoch(dataset, generator) == first
    assert epoch(make(), generator) == first


def test_slices_collate():
    dataset = SliceDataset([make_volume("a", 3)], lambda item: item, progress=False)
    batch = next(iter(DataLoader(dataset, batch_size=3)))
    assert batch["image"].shape == (3, 1, 9, 7)
    assert batch["slice"].tolist() == [0, 1, 2]
    assert batch["case"] == ["a"] * 3


def test_mismatch_is_raised_when_the_data_set_is_made():
    volume = {**make_volume("patient7", 3), "label": torch.zeros(1, 9, 7, 2)}
    with pytest.raises(ValueError, match="patient7"):
        SliceDataset([volume], lambda item: item, progress=False)


def test_per_volume_a_batch_is_whole_volumes():
    depths = [3, 5, 2]
    items = [{"image": torch.full((1, 4, 4, depth), float(depth)), "case": str(depth)} for depth in depths]
    dataset = SliceDataset(items, lambda item: item, lambda item: {**item, "seen": 1}, progress=False, per="volume")
    assert len(dataset) == 3
    batch = next(iter(DataLoader(dataset, batch_size=2)))
    assert batch["image"].shape == (8, 1, 4, 4)
    first, second = batch["volume"][0].item(), batch["volume"][3].item()
    assert first != second
    assert batch["volume"].tolist() == [first] * 3 + [second] * 5
    assert batch["slice"].tolist() == [0, 1, 2, 0, 1, 2, 3, 4]
    assert batch["seen"].tolist() == [1] * 8
    plain = SliceDataset(items, lambda item: item, progress=False, per="volume")
    assert len({item["volume"] for item in plain[2]}) == 1
    assert plain[2][0]["volume"] != plain[2][0]["volume"], "two draws of a volume are two volumes"
