"""Agreement with values that the authors' published code returned, up to the scale factors the file states."""

import math

import numpy as np
import pytest
import torch

from sizeloss_monai.constraints import SizeConstraintLoss, VolumeSizeConstraintLoss, class_probabilities, soft_size
from sizeloss_monai.losses import PartialCrossEntropyLoss, WeakSupervisionLoss

INF = math.inf
TOLERANCE = 1e-6


@pytest.fixture(scope="module", params=["over", "batch", "volume"])
def tensor(request, reference):
    return reference[request.param]


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def logits(request, tensor):
    # the file's logits are float32 numbers
    return torch.tensor(tensor["logits"], dtype=torch.float32).to(request.param).requires_grad_()


@pytest.fixture
def bounds(tensor):
    return torch.tensor(tensor["bounds_bc_lo_hi"], dtype=torch.float32)


def foreground_only(tensor, unannotated):
    """The weak label ``[B, 1, W, H]``; the file has 0 where nobody annotated."""
    weak = torch.tensor(tensor["weak_label"])[:, None]
    return torch.where(weak == 0, unannotated, weak)


def through_softmax(grad_probabilities, probabilities):
    """Chain rule from probabilities to logits: S (g - sum_k g_k S_k)."""
    g, s = np.asarray(grad_probabilities, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    return s * (g - (g * s).sum(1, keepdims=True))


def assert_same(found, expected):
    assert found == pytest.approx(expected, rel=TOLERANCE, abs=0)


def assert_same_gradient(logits, expected):
    np.testing.assert_allclose(logits.grad.numpy(), expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


def test_the_file_holds_what_is_tested(reference):
    assert reference.keys() >= {"over", "batch", "volume"}
    assert all(tensor["idc"] == [1] for tensor in reference.values())


def test_probabilities_and_soft_size(tensor, logits):
    probabilities = class_probabilities(logits)
    np.testing.assert_allclose(probabilities.detach().numpy(), tensor["probs"], rtol=TOLERANCE)
    expected = np.array(tensor["authors"]["soft_size"])[..., 0]
    np.testing.assert_allclose(
        soft_size(probabilities)[:, tensor["idc"]].detach().numpy().reshape(expected.shape), expected, rtol=TOLERANCE
    )


@pytest.mark.parametrize(("unannotated", "include_background"), [(255, True), (0, False)])
def test_partial_cross_entropy(tensor, logits, unannotated, include_background):
    target = foreground_only(tensor, unannotated)
    loss = PartialCrossEntropyLoss(include_background=include_background)(logits, target)
    loss.backward()
    assert_same(loss.item(), tensor["authors"]["partial_ce"])
    assert_same_gradient(logits, through_softmax(tensor["authors"]["partial_ce_grad_probs"], tensor["probs"]))
    total = PartialCrossEntropyLoss(include_background=include_background, reduction="sum")(logits, target)
    assert_same(total.item(), tensor["authors"]["partial_ce"] * np.count_nonzero(tensor["weak_label"]))


def test_full_cross_entropy(tensor, logits):
    loss = PartialCrossEntropyLoss()(logits, torch.tensor(tensor["full_label"])[:, None])
    assert_same(loss.item(), tensor["authors"]["full_ce"])


def test_naive_penalty(tensor, logits, bounds):
    loss = SizeConstraintLoss(classes=tensor["idc"], scale="image", reduction="mean")(logits, bounds)
    loss.backward()
    assert_same(loss.item(), tensor["authors"]["naive_penalty"])
    assert_same_gradient(logits, through_softmax(tensor["authors"]["naive_penalty_grad_probs"], tensor["probs"]))


def test_naive_penalty_in_the_papers_unit(tensor, logits, bounds):
    batch, _, width, height = tensor["shape_bcwh"]
    factor = width * height * batch * len(tensor["idc"])
    loss = SizeConstraintLoss(classes=tensor["idc"], scale="voxels", reduction="sum")(logits, bounds)
    loss.backward()
    assert_same(loss.item(), tensor["authors"]["naive_penalty"] * factor)
    gradient = through_softmax(tensor["authors"]["naive_penalty_grad_probs"], tensor["probs"])
    assert_same_gradient(logits, gradient * factor)


def test_naive_penalty_of_each_image(tensor, logits, bounds):
    each = SizeConstraintLoss(classes=tensor["idc"], scale="image", reduction="none")(logits, bounds)
    expected = np.array(tensor["authors"]["naive_penalty_of_each_alone"])
    # the smallest, (V - b)^2 / 64 with V = 27.3 and b = 25, magnifies their float32 rounding of V: 2 V / (V - b) = 24
    np.testing.assert_allclose(each.detach().numpy(), expected, rtol=2e-6)


def test_total_as_trained(tensor, logits, bounds):
    loss = WeakSupervisionLoss(
        {
            "partial_ce": {"loss": PartialCrossEntropyLoss(), "target": "weak_label"},
            "size": {"loss": SizeConstraintLoss(scale="image"), "target": "size_bounds", "weight": 1e-2},
        }
    )
    value = loss(logits, {"weak_label": foreground_only(tensor, 255), "size_bounds": bounds})
    assert_same(value.item(), tensor["authors"]["total_as_trained"])


@pytest.mark.parametrize("margin", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batch_naive_penalty_is_the_constraint_on_the_volume(reference, margin, dtype):
    tensor = reference["volume"]
    authors = tensor["authors"]
    _, _, width, height = tensor["shape_bcwh"]
    logits = torch.tensor(tensor["logits"], dtype=torch.float32).to(dtype).requires_grad_()
    sizes = [np.count_nonzero(label) for label in tensor["full_label"]]
    bounds = torch.tensor([[(0.0, INF), ((1 - margin) * n, (1 + margin) * n)] for n in sizes], dtype=torch.float64)
    loss = VolumeSizeConstraintLoss(classes=tensor["idc"], scale="voxels", reduction="sum")(logits, bounds)
    loss.backward()
    factor = width * height * len(tensor["idc"])
    assert_same(loss.item(), authors[f"batch_naive_penalty_margin_{margin}"] * factor)
    gradient = through_softmax(authors[f"batch_naive_penalty_margin_{margin}_grad_probs"], tensor["probs"])
    assert_same_gradient(logits, gradient * factor)


def test_the_conventions_on_an_example_worked_out_by_hand():
    # Two images of 2 x 4 pixels, one foreground class. Every pixel of the first has S = 3/4, so V = 6 with bounds
    # (1, 4); every pixel of the second has S = 1/4, so V = 2 with bounds (3, 8). Three annotated pixels.
    logits = torch.zeros(2, 2, 2, 4, dtype=torch.float64)
    logits[0, 1], logits[1, 1] = math.log(3), -math.log(3)
    weak_label = torch.full((2, 1, 2, 4), 255)
    weak_label[0, 0, 0, :2] = weak_label[1, 0, 1, 3] = 1
    bounds = torch.tensor([[(0, INF), (1, 4)], [(0, INF), (3, 8)]])

    # the authors: a mean over annotated pixels, (2 log 4/3 + log 4) / 3; the paper: a sum
    log_likelihood = 2 * math.log(4 / 3) + math.log(4)
    assert_same(PartialCrossEntropyLoss()(logits, weak_label).item(), log_likelihood / 3)
    assert_same(PartialCrossEntropyLoss(reduction="sum")(logits, weak_label).item(), log_likelihood)
    # the authors: ((6 - 4)^2 + (2 - 3)^2) / (W H) / (B |idc|) = 5 / 8 / 2; the paper: 5
    assert_same(SizeConstraintLoss(scale="image")(logits, bounds).item(), 5 / 16)
    assert_same(SizeConstraintLoss(reduction="sum")(logits, bounds).item(), 5)
    # as one volume of 8 voxels with bounds (4, 7): the authors (8 - 7)^2 / 8, one W H in the divisor; the paper 1
    volume, pair = logits.movedim(0, -1)[None], torch.tensor([[(0.0, INF), (4.0, 7.0)]])
    assert_same(SizeConstraintLoss(reduction="sum")(volume, pair).item(), 1)
    loss = WeakSupervisionLoss(
        {
            "partial_ce": {"loss": PartialCrossEntropyLoss(), "target": "weak_label"},
            "size": {"loss": SizeConstraintLoss(scale="image"), "target": "size_bounds", "weight": 1e-2},
        }
    )
    value = loss(logits, {"weak_label": weak_label, "size_bounds": bounds})
    assert_same(value.item(), log_likelihood / 3 + 1e-2 * 5 / 16)
