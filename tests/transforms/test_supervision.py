"""Targets follow the mark."""

import math

import pytest
import torch
from monai.data import MetaTensor

from sizeloss_monai.constraints import SizeConstraintLoss
from sizeloss_monai.losses import PartialCrossEntropyLoss
from sizeloss_monai.transforms import SupervisionToTargetsd

INF = math.inf


def make_item(mark=None):
    label = MetaTensor(torch.zeros(1, 4, 6, dtype=torch.uint8), affine=torch.diag(torch.tensor([2.0, 2, 2, 1])))
    label[:, 1:3, 1:4] = 1
    weak_label = torch.full_like(label, 255)
    weak_label[:, 1, 1] = 1
    bounds = torch.tensor([[0.0, INF], [5.4, 6.6], [0.0, 0.0]])
    item = {"label": label, "weak_label": weak_label, "size_bounds": bounds}
    return item if mark is None else {**item, "supervision": mark}


@pytest.mark.parametrize("mark", [None, "weak"])
def test_weak_stays(mark):
    item = make_item(mark)
    out = SupervisionToTargetsd()(item)
    assert torch.equal(out["weak_label"], item["weak_label"])
    assert torch.equal(out["size_bounds"], item["size_bounds"])


def test_full_is_plain_cross_entropy():
    item = make_item("full")
    out = SupervisionToTargetsd()(item)
    assert torch.equal(out["weak_label"], item["label"])
    assert isinstance(out["weak_label"], MetaTensor)
    assert out["weak_label"] is not item["label"]
    assert out["size_bounds"].tolist() == [[0, INF]] * 3
    logits = torch.randn(1, 3, 4, 6)
    assert SizeConstraintLoss()(logits, out["size_bounds"][None]).item() == 0
    target = out["weak_label"].as_tensor()[None]
    expected = torch.nn.functional.cross_entropy(logits, target[:, 0].long())
    torch.testing.assert_close(PartialCrossEntropyLoss()(logits, target), expected)


def test_tags_say_present_or_absent_only():
    out = SupervisionToTargetsd()(make_item("tags"))
    assert (out["weak_label"] == 255).all()
    assert out["size_bounds"].tolist() == [[0, INF], [1, 24], [0, 0]]
    assert out["size_bounds"].dtype == torch.float32


def test_the_item_given_is_not_changed():
    for mark in ("full", "weak", "tags"):
        item = make_item(mark)
        SupervisionToTargetsd()(item)
        assert torch.equal(item["size_bounds"], make_item()["size_bounds"])
        assert torch.equal(item["weak_label"], make_item()["weak_label"])


def test_unknown_mark():
    with pytest.raises(ValueError, match="must be full, weak or tags, got 'none'"):
        SupervisionToTargetsd()(make_item("none"))
