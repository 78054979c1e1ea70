import pytest
import torch
from monai.data import MetaTensor

from sizeloss_monai.engines import PrepareBatchTargets


def make_batch():
    return {
        "image": torch.rand(2, 1, 4, 4),
        "label": MetaTensor(torch.ones(2, 1, 4, 4, dtype=torch.uint8)),
        "weak_label": torch.full((2, 1, 4, 4), 255),
        "size_bounds": torch.rand(2, 2, 2),
        "case": ["a", "b"],
    }


def test_image_for_the_network_and_targets_for_the_loss():
    batch = make_batch()
    image, targets = PrepareBatchTargets()(batch)
    assert torch.equal(image, batch["image"])
    assert targets.keys() == {"image", "label", "weak_label", "size_bounds"}
    assert targets["image"] is image  # for losses that look at it, such as a CRF
    for key, value in targets.items():
        assert torch.equal(value, batch[key])
        assert value.dtype == batch[key].dtype
    assert isinstance(targets["label"], MetaTensor)


def test_a_target_the_batch_lacks_is_left_out():
    batch = make_batch()
    del batch["label"]
    assert PrepareBatchTargets()(batch)[1].keys() == {"image", "weak_label", "size_bounds"}


def test_other_keys():
    batch = {**make_batch(), "scan": torch.zeros(1, 1, 2, 2)}
    image, targets = PrepareBatchTargets(target_keys=["size_bounds"], image_key="scan")(batch)
    assert image.shape == (1, 1, 2, 2)
    assert targets.keys() == {"scan", "size_bounds"}


def test_moved_to_the_device_and_converted():
    batch = make_batch()
    image, targets = PrepareBatchTargets()(batch, device="meta", non_blocking=True)
    assert image.device.type == "meta"
    assert {value.device.type for value in targets.values()} == {"meta"}
    image, _ = PrepareBatchTargets()(batch, device="cpu", dtype=torch.float64)
    assert image.dtype == torch.float64


def test_missing_image():
    with pytest.raises(KeyError, match="image"):
        PrepareBatchTargets()({"label": torch.zeros(1)})
