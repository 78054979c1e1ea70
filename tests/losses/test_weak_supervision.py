import copy
import math

import pytest
import torch
from monai.losses import DiceLoss

from sizeloss_monai.constraints import SizeConstraintLoss, VolumeSizeConstraintLoss
from sizeloss_monai.losses import PartialCrossEntropyLoss, WeakSupervisionLoss

INF = math.inf


def make_loss(weight=0.01):
    return WeakSupervisionLoss(
        {
            "partial_ce": {"loss": PartialCrossEntropyLoss(reduction="sum"), "target": "weak_label"},
            "size": {"loss": SizeConstraintLoss(reduction="sum"), "target": "size_bounds", "weight": weight},
        }
    )


def make_batch():
    logits = torch.zeros(1, 2, 4, 4)
    weak_label = torch.full((1, 1, 4, 4), 255)
    weak_label[0, 0, 1, 1:3] = 1
    return logits, {"weak_label": weak_label, "size_bounds": torch.tensor([[(0.0, INF), (1.0, 6.0)]])}


def test_weighted_sum_by_hand():
    loss = make_loss()
    value = loss(*make_batch())
    # two annotated voxels of log 2 each; V = 8 > 6, (8 - 6)^2 = 4
    assert value.shape == ()
    assert value.item() == pytest.approx(2 * math.log(2) + 0.01 * 4, rel=1e-6)
    assert loss.values.keys() == {"partial_ce", "size"}
    assert loss.values["partial_ce"].item() == pytest.approx(2 * math.log(2), rel=1e-6)
    assert loss.values["size"].item() == pytest.approx(0.04, rel=1e-6)


def test_values_add_up_are_detached_and_follow_the_last_call():
    loss = make_loss(weight=0.3)
    logits, targets = make_batch()
    for _ in range(3):
        value = loss(torch.randn(1, 2, 4, 4, requires_grad=True), targets)
        assert sum(v.item() for v in loss.values.values()) == pytest.approx(value.item(), rel=1e-6)
        assert value.requires_grad
        assert not any(v.requires_grad for v in loss.values.values())
    before = dict(loss.values)
    loss(logits, targets)
    assert before["size"].item() != loss.values["size"].item()


def test_gradient_is_the_weighted_sum_of_gradients():
    _, targets = make_batch()
    values = torch.randn(1, 2, 4, 4, dtype=torch.float64)

    def gradient(loss, target):
        logits = values.clone().requires_grad_()
        loss(logits, target).backward()
        return logits.grad

    expected = gradient(PartialCrossEntropyLoss(reduction="sum"), targets["weak_label"]) + 0.25 * gradient(
        SizeConstraintLoss(reduction="sum"), targets["size_bounds"]
    )
    torch.testing.assert_close(gradient(make_loss(0.25), targets), expected)
    logits = values.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: make_loss(0.25)(z, targets), logits)


def test_weight_zero_and_default_weight():
    logits, targets = make_batch()
    assert make_loss(0)(logits, targets).item() == pytest.approx(2 * math.log(2), rel=1e-6)
    assert WeakSupervisionLoss({"a": {"loss": SizeConstraintLoss(), "target": "size_bounds"}})(
        logits, targets
    ).item() == pytest.approx(4)


def test_terms_may_share_a_target_and_be_monais():
    logits = torch.randn(2, 3, 8, 8)
    label = torch.randint(0, 3, (2, 1, 8, 8))
    dice = DiceLoss(softmax=True, to_onehot_y=True)
    loss = WeakSupervisionLoss(
        {
            "ce": {"loss": PartialCrossEntropyLoss(), "target": "label", "weight": 2},
            "dice": {"loss": dice, "target": "label"},
        }
    )
    expected = 2 * torch.nn.functional.cross_entropy(logits, label[:, 0]) + dice(logits, label)
    assert loss(logits, {"label": label, "other": torch.zeros(1)}).item() == pytest.approx(expected.item(), rel=1e-6)


def test_nothing_annotated_leaves_the_constraint():
    logits, targets = make_batch()
    logits.requires_grad_()
    targets["weak_label"].fill_(255)
    loss = make_loss()
    value = loss(logits, targets)
    value.backward()
    assert value.item() == pytest.approx(0.04)
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().max() > 0


def test_missing_target_is_named():
    logits, targets = make_batch()
    del targets["size_bounds"]
    with pytest.raises(KeyError, match=r"'size': expected the target 'size_bounds', found .*weak_label"):
        make_loss()(logits, targets)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({}, "at least one"),
        ({"size": {"loss": SizeConstraintLoss()}}, "size"),
        ({"size": {"target": "size_bounds"}}, "size"),
        ({"size": {"loss": SizeConstraintLoss(), "target": "size_bounds", "lambda": 1}}, "lambda"),
        ({"size": {"loss": SizeConstraintLoss(), "target": "size_bounds", "weight": -1}}, "weight"),
        ({"size": {"loss": SizeConstraintLoss(), "target": "size_bounds", "weight": INF}}, "weight"),
        ({"size": {"loss": SizeConstraintLoss(), "target": "size_bounds", "weight": math.nan}}, "weight"),
    ],
)
def test_wrong_terms(terms, message):
    with pytest.raises(ValueError, match=message):
        WeakSupervisionLoss(terms)


def test_terms_with_parameters_are_trained_and_moved_with_it():
    class Shift(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.shift = torch.nn.Parameter(torch.zeros(()))

        def forward(self, logits, target):
            return (logits.mean() - self.shift - target) ** 2

    loss = WeakSupervisionLoss({"shift": {"loss": Shift(), "target": "t"}})
    assert len(list(loss.parameters())) == 1
    assert loss.double()(torch.zeros(1, 2, 2).double(), {"t": torch.tensor(3.0)}).item() == 9
    assert copy.deepcopy(loss)(torch.zeros(1, 2, 2).double(), {"t": torch.tensor(2.0)}).item() == 4


def test_deterministic():
    logits, targets = torch.randn(1, 2, 4, 4), make_batch()[1]
    loss = make_loss()
    assert len({loss(logits, targets).item() for _ in range(5)}) == 1


def test_a_term_may_take_several_targets():
    loss = WeakSupervisionLoss(
        {"size": {"loss": VolumeSizeConstraintLoss(reduction="sum"), "target": ["size_bounds", "volume"]}}
    )
    logits = torch.zeros(2, 2, 4, 4)
    bounds = torch.tensor([[(0.0, INF), (1.0, 6.0)]]).expand(2, 2, 2)
    assert loss(logits, {"size_bounds": bounds, "volume": torch.tensor([0, 1])}).item() == 8
    assert loss(logits, {"size_bounds": bounds, "volume": torch.tensor([0, 0])}).item() == 16
    with pytest.raises(KeyError, match="expected the target 'volume'"):
        loss(logits, {"size_bounds": bounds})
