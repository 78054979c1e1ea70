"""Metrics of predictions on cases without full masks."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from scipy import ndimage

from sizeloss_monai.losses import gated_crf_energy
from sizeloss_monai.metrics import (
    AnnotatedDiceMetric,
    CRFEnergyMetric,
    SizeViolationMetric,
    WeakScoreMetric,
    size_violation,
)

INF = math.inf


def one_hot(ids, num_classes):
    ids = torch.as_tensor(ids)
    return torch.stack([ids == c for c in range(num_classes)]).float()


def draw(seed, num_classes, spatial=(6, 5, 4), annotated=0.3):
    """A prediction and an annotation of some voxels, class ids."""
    rng = np.random.default_rng(seed)
    prediction, truth = rng.integers(0, num_classes, size=(2, *spatial))
    weak_label = np.where(rng.random(spatial) < annotated, truth, 255)
    return prediction, weak_label


# ---- Dice over annotated voxels


def dice_of_annotated(prediction, weak_label, class_id):
    pairs = [(p, w) for p, w in zip(prediction.flat, weak_label.flat, strict=True) if w != 255]
    both = sum(p == w == class_id for p, w in pairs)
    total = sum(p == class_id for p, _ in pairs) + sum(w == class_id for _, w in pairs)
    return 2 * both / total if any(w == class_id for _, w in pairs) else math.nan


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3),
    st.integers(2, 4),
    st.sampled_from([0.02, 0.3, 1.0]),
    st.booleans(),
)
def test_annotated_dice_counts_annotated_voxels_only(seeds, num_classes, annotated, as_list):
    drawn = [draw(seed, num_classes, annotated=annotated) for seed in seeds]
    expected = np.array([[dice_of_annotated(p, w, c) for c in range(1, num_classes)] for p, w in drawn])
    metric = AnnotatedDiceMetric(reduction="none")
    predictions = [one_hot(p, num_classes) for p, _ in drawn]
    weak_labels = [MetaTensor(torch.from_numpy(w)[None].to(torch.uint8)) for _, w in drawn]
    if as_list:
        metric(predictions, weak_labels)
    else:
        metric(torch.stack(predictions), torch.stack(weak_labels))
    np.testing.assert_allclose(metric.aggregate(), expected, rtol=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.permutations(range(4)))
def test_annotated_dice_does_not_depend_on_the_order_of_classes_or_voxels(seed, order):
    prediction, weak_label = draw(seed, 4)
    table = np.append(np.array(order), np.zeros(252, dtype=int))
    table[255] = 255
    shuffled = np.random.default_rng(seed).permutation(prediction.size)
    other = [table[ids].flatten()[shuffled].reshape(ids.shape) for ids in (prediction, weak_label)]
    metric = AnnotatedDiceMetric(include_background=True, reduction="none")
    metric(one_hot(prediction, 4)[None], torch.from_numpy(weak_label)[None, None])
    metric(one_hot(other[0], 4)[None], torch.from_numpy(other[1])[None, None])
    before, after = metric.aggregate()
    torch.testing.assert_close(after[list(order)], before, equal_nan=True)


def test_what_is_not_annotated_does_not_count():
    weak_label = torch.full((1, 1, 4, 4), 255)
    weak_label[..., 0, :2], weak_label[..., 3, :] = 1, 0
    right = torch.zeros(4, 4, dtype=torch.long)
    right[0, :2] = 1
    elsewhere = right.clone()
    elsewhere[1:3] = 1
    wrong = right.clone()
    wrong[3, 0] = 1
    metric = AnnotatedDiceMetric(reduction="none")
    for prediction in (right, elsewhere, wrong, torch.ones(4, 4), torch.zeros(4, 4)):
        metric(one_hot(prediction, 2)[None], weak_label)
    torch.testing.assert_close(metric.aggregate().flatten(), torch.tensor([1, 1, 4 / 5, 4 / 8, 0]))


def test_a_class_annotated_nowhere_is_left_out_of_the_mean():
    weak_label = torch.full((1, 1, 4, 4), 255)
    weak_label[..., 0, 0] = 1
    metric = AnnotatedDiceMetric()
    metric(one_hot(torch.ones(4, 4), 3)[None], weak_label)  # class 2 is not there
    assert metric.aggregate().item() == 1
    metric(one_hot(torch.ones(4, 4), 3)[None], torch.full((1, 1, 4, 4), 255))  # nothing is
    assert metric.aggregate().item() == 1


def test_nothing_annotated_at_all_is_nan_not_zero():
    metric = AnnotatedDiceMetric()
    metric(one_hot(torch.ones(4, 4), 2)[None], torch.full((1, 1, 4, 4), 255))
    assert math.isnan(metric.aggregate().item())


def test_annotated_dice_refuses_one_hot_annotation():
    with pytest.raises(ValueError, match=r"y must hold class ids, shape \[1, 1, 4, 4\], got \[1, 2, 4, 4\]"):
        AnnotatedDiceMetric()(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4))


# ---- violation of bounds

positive = st.floats(1e-3, 1e6)


@pytest.mark.parametrize(
    ("size", "bounds", "expected"),
    [
        (5, (2, 8), 0),
        (2, (2, 8), 0),
        (8, (2, 8), 0),
        (1, (2, 8), 1 / 3),
        (16, (2, 8), 1 / 3),
        (0, (2, 8), 1),
        (0, (0, 0), 0),
        (3, (0, 0), 1),
        (9, (0, 3), 1 / 2),
        (1, (3, INF), 1 / 2),
        (4, (0, INF), math.nan),
    ],
)
def test_violation(size, bounds, expected):
    found = size_violation(torch.tensor(float(size)), torch.tensor(bounds, dtype=torch.float32))
    assert found.item() == pytest.approx(expected, nan_ok=True)


@settings(deadline=None)
@given(positive, positive, positive, positive)
def test_violation_has_no_unit_and_is_the_dice_that_is_lost_at_least(size, first, second, unit):
    bounds = torch.tensor(sorted((first, second)), dtype=torch.float64)
    value = torch.tensor(size, dtype=torch.float64)
    found = size_violation(value, bounds).item()
    assert size_violation(value * unit, bounds * unit).item() == pytest.approx(found, rel=1e-9, abs=1e-12)
    # no mask within the bounds has a higher Dice with one of this size than where the smaller lies in the larger
    allowed = np.linspace(*bounds.tolist(), 200)
    highest = (2 * np.minimum(size, allowed) / (size + allowed)).max()
    assert 1 - found >= highest - 1e-9
    assert 0 <= found < 1


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 10))
def test_sizes_are_measured_in_the_unit_of_the_bounds(seed, voxel_size):
    prediction, _ = draw(seed, 3)
    bounds = torch.tensor([[0, INF], [5, 20], [0, 0]], dtype=torch.float32)
    first, second = ((prediction == c).sum() * voxel_size for c in (1, 2))
    nearest = min(max(first, 5), 20)
    expected = [abs(first - nearest) / (first + nearest), float(second > 0)]
    metric = SizeViolationMetric(reduction="none")
    metric(one_hot(prediction, 3)[None], bounds[None], voxel_size=torch.tensor([voxel_size]))
    np.testing.assert_allclose(metric.aggregate()[0], expected, rtol=1e-5, atol=1e-7)


def test_every_case_has_its_own_voxels():
    mask = one_hot(torch.ones(2, 2, 2), 2)
    metric = SizeViolationMetric(reduction="none")
    bounds = torch.tensor([[0, INF], [8, 8]], dtype=torch.float32).expand(3, 2, 2)
    metric(torch.stack([mask] * 3), bounds, voxel_size=torch.tensor([1.0, 3.0, 1 / 3]))
    torch.testing.assert_close(metric.aggregate().flatten(), torch.tensor([0, 0.5, 0.5]))


def test_bounds_of_slices():
    mask = torch.zeros(1, 2, 4, 4, 4)
    mask[0, 1, :2, :, 0] = 1  # 8 voxels
    mask[0, 1, 0, :2, 2] = 1  # 2
    mask[0, 1, 0, 0, 3] = 1  # 1, where nothing is known
    of_class = torch.tensor([[2, 4], [1, 4], [0, 0], [0, INF]], dtype=torch.float32).T
    bounds = torch.stack([torch.tensor([[0.0] * 4, [INF] * 4]), of_class])[None]
    metric = SizeViolationMetric(per="slice")
    metric(mask, bounds)
    assert metric.aggregate().item() == pytest.approx((1 / 3 + 1 + 1) / 3)


def test_shares_of_slices_add_up_to_the_bounds_of_their_volume():
    mask = torch.zeros(1, 2, 4, 4, 3)
    mask[0, 1, :, :, 0] = 1  # 16 voxels, all in one slice
    bounds = torch.tensor([[0, INF], [4, 8]], dtype=torch.float32)[None]
    metric = SizeViolationMetric(reduction="none")
    metric(mask, bounds)
    metric(mask, (bounds / 3)[..., None].expand(-1, -1, -1, 3))
    torch.testing.assert_close(metric.aggregate().flatten(), torch.tensor([1 / 3, 1 / 3]))


def test_no_bounds_at_all_are_nan_not_kept():
    metric = SizeViolationMetric()
    metric(torch.ones(1, 2, 4, 4), torch.tensor([[[0, INF], [0, INF]]]))
    assert math.isnan(metric.aggregate().item())


@pytest.mark.parametrize(
    ("per", "shape", "message"),
    [
        ("volume", (1, 2), r"bounds must have shape \[1, 2, 2\] or \[1, 2, 2, 3\], got \[1, 2\]"),
        ("volume", (1, 2, 2, 4), "got .1, 2, 2, 4"),
        ("slice", (1, 2, 2), r"bounds must have shape \[1, 2, 2, 3\], got \[1, 2, 2\]"),
    ],
)
def test_bounds_of_another_shape(per, shape, message):
    with pytest.raises(ValueError, match=message):
        SizeViolationMetric(per=per)(torch.zeros(1, 2, 4, 4, 3), torch.zeros(shape))


def test_options_of_violation():
    with pytest.raises(ValueError, match="per must be one of"):
        SizeViolationMetric(per="patient")
    with pytest.raises(ValueError, match=r"voxel_size must have shape \[1\]"):
        SizeViolationMetric()(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 2), voxel_size=torch.ones(2))


# ---- CRF energy


def test_energy_of_a_boundary_on_an_edge_and_off_it():
    image = torch.zeros(1, 1, 6, 6, 2)
    image[:, :, 3:] = 1
    on, off = torch.zeros(2, 6, 6, 2)
    on[3:], off[2:] = 1, 1
    metric = CRFEnergyMetric(radius=(1, 1, 0), reduction="none")
    for mask in (on, off):
        metric(one_hot(mask, 2)[None], image)
    found = metric.aggregate().flatten()
    assert found[0].item() == pytest.approx(math.exp(-0.5 / 0.1**2), abs=1e-12)
    assert found[1].item() == pytest.approx(1)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.permutations(range(3)))
def test_energy_does_not_depend_on_the_order_of_classes(seed, order):
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(rng.random((1, 1, 6, 5, 3))).float()
    ids, _ = draw(seed, 3, spatial=(6, 5, 3))
    metric = CRFEnergyMetric(reduction="none")
    metric(one_hot(ids, 3)[None], image)
    metric(one_hot(np.array(order)[ids], 3)[None], image)
    first, second = metric.aggregate().flatten().tolist()
    assert 0 <= first <= 1
    assert first == pytest.approx(second, rel=1e-5)


def test_energy_is_that_of_the_gated_crf_over_that_without_contrast():
    rng = np.random.default_rng(0)
    image = MetaTensor(
        torch.from_numpy(rng.random((1, 8, 8, 3))).float(), affine=torch.diag(torch.tensor([1.5, 2, 9, 1]))
    )
    mask = one_hot(ndimage.gaussian_filter(rng.random((8, 8, 3)), 1) > 0.5, 2)
    spacing = torch.tensor([[1.5, 2, 9]])
    energies = [
        gated_crf_energy(mask[None], torch.as_tensor(guide)[None], (2, 2, 1), spacing)
        for guide in (image, torch.zeros_like(image))
    ]
    metric = CRFEnergyMetric(radius=(2, 2, 1))
    metric([mask], [image])
    assert metric.aggregate().item() == pytest.approx((energies[0] / energies[1]).item(), rel=1e-5)


def test_items_of_a_batch_have_their_own_spacing():
    rng = np.random.default_rng(1)
    data = torch.from_numpy(rng.random((1, 8, 8, 3))).float()
    mask = one_hot(rng.random((8, 8, 3)) > 0.5, 2)
    images = [MetaTensor(data, affine=torch.diag(torch.tensor([s, s, 9.0, 1.0]))) for s in (1.0, 4.0)]
    metric = CRFEnergyMetric(reduction="none")
    metric([mask, mask], images)
    one, other = metric.aggregate().flatten().tolist()
    assert one != pytest.approx(other, rel=1e-3)


def test_no_boundary_has_no_edge_to_speak_for_it():
    metric = CRFEnergyMetric()
    metric(one_hot(torch.zeros(6, 6, 2), 2)[None], torch.rand(1, 1, 6, 6, 2))
    assert metric.aggregate().item() == 1


# ---- the score


def score_case(seed, num_classes=3):
    prediction, weak_label = draw(seed, num_classes)
    rng = np.random.default_rng(seed)
    return {
        "y_pred": one_hot(prediction, num_classes)[None],
        "y": torch.from_numpy(weak_label)[None, None],
        "size_bounds": torch.tensor([[[0, INF], [10, 20], [0, INF]]], dtype=torch.float32),
        "voxel_size": torch.tensor([0.5]),
        "image": torch.from_numpy(rng.random((1, 1, 6, 5, 4))).float(),
    }


def separate_parts(cases):
    """The means that the three metrics of their own give."""
    dice, violation, energy = AnnotatedDiceMetric(), SizeViolationMetric(), CRFEnergyMetric()
    for case in cases:
        dice(case["y_pred"], case["y"])
        violation(case["y_pred"], case["size_bounds"], voxel_size=case["voxel_size"])
        energy(case["y_pred"], case["image"])
    return [metric.aggregate().item() for metric in (dice, violation, energy)]


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3, unique=True), st.floats(0.1, 3), st.floats(0.1, 3))
def test_score_is_the_weighted_sum_of_its_parts(seeds, size_weight, crf_weight):
    cases = [score_case(seed) for seed in seeds]
    dice, violation, energy = separate_parts(cases)
    metric = WeakScoreMetric(size_weight=size_weight, crf_weight=crf_weight)
    for case in reversed(cases):  # the order of cases is of no account
        metric(**case)
    assert metric.parts() == pytest.approx(
        {"annotated_dice": dice, "size_violation": violation, "crf_energy": energy}, rel=1e-5
    )
    expected = dice - size_weight * violation - crf_weight * energy
    assert metric.aggregate().item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_term_of_weight_0_is_neither_computed_nor_logged():
    case = score_case(0)
    metric = WeakScoreMetric(size_weight=0, crf_weight=0)
    metric(**{**case, "size_bounds": torch.zeros(7), "image": torch.zeros(7)})  # would be refused
    assert metric.parts().keys() == {"annotated_dice"}
    assert metric.aggregate().item() == pytest.approx(separate_parts([case])[0])
    assert metric.measured == ["annotated_dice"]


def test_cases_annotated_in_different_ways():
    scribbled, bounded = score_case(0), score_case(1)
    metric = WeakScoreMetric(crf_weight=0)
    metric(scribbled["y_pred"], scribbled["y"])
    metric(bounded["y_pred"], size_bounds=bounded["size_bounds"], voxel_size=bounded["voxel_size"])
    dice, _, _ = separate_parts([scribbled])
    _, violation, _ = separate_parts([bounded])
    assert metric.parts() == pytest.approx({"annotated_dice": dice, "size_violation": violation})
    assert metric.get_buffer().shape == (2, 3)


def test_bounds_tell_a_right_mask_from_one_that_covers_everything():
    weak_label = torch.full((1, 1, 8, 8, 1), 255)
    weak_label[..., 3:5, 3:5, :] = 1  # and nothing is annotated as background
    right = torch.zeros(8, 8, 1)
    right[2:6, 2:6] = 1
    bounds = torch.tensor([[[0, INF], [12, 20]]], dtype=torch.float32)
    scores = []
    for mask in (right, torch.ones(8, 8, 1), torch.zeros(8, 8, 1)):
        metric = WeakScoreMetric(crf_weight=0)
        metric(one_hot(mask, 2)[None], weak_label, size_bounds=bounds)
        scores.append(metric.aggregate().item())
    assert scores == pytest.approx([1, 1 - (64 - 20) / (64 + 20), 0 - 1])


def test_nothing_annotated_has_no_score():
    metric = WeakScoreMetric()
    case = score_case(0)
    metric(**{**case, "y": torch.full_like(case["y"], 255)})
    assert math.isnan(metric.aggregate().item())
    assert metric.parts().keys() == {"size_violation", "crf_energy"}


def test_a_score_starts_anew():
    metric = WeakScoreMetric()
    metric(**score_case(0))
    metric.reset()
    metric(**score_case(1))
    assert metric.parts()["annotated_dice"] == pytest.approx(separate_parts([score_case(1)])[0])


def test_negative_weights():
    with pytest.raises(ValueError, match="size_weight and crf_weight must be >= 0, got -1"):
        WeakScoreMetric(size_weight=-1)
