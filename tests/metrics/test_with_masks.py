import math

import numpy as np
import pytest
import SimpleITK
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import DiceMetric
from scipy import ndimage

from sizeloss_monai.metrics import HausdorffDistanceMMMetric, SliceDiceMetric


def one_hot(ids, num_classes):
    return torch.from_numpy(np.stack([ids == c for c in range(num_classes)])).float()


def draw_volumes(seed, num_classes, spatial=(5, 4, 6)):
    """Prediction and truth; some slices empty in one or both."""
    rng = np.random.default_rng(seed)
    pair = rng.integers(0, num_classes, size=(2, *spatial))
    pair[:, ..., 0] = 0
    pair[0, ..., 1] = 0
    pair[1, ..., 2] = 0
    return pair


def slice_dice(prediction, truth):
    """Mean over slices of 2 |A & B| / (|A| + |B|), 1 where both are empty."""
    values = []
    for k in range(truth.shape[-1]):
        both = int((prediction[..., k] & truth[..., k]).sum())
        total = int(prediction[..., k].sum()) + int(truth[..., k].sum())
        values.append(2 * both / total if total else 1.0)
    return math.fsum(values) / len(values)


# ---- Dice of slices


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3), st.integers(2, 4), st.booleans(), st.booleans())
def test_slice_dice_equals_the_mean_over_slices(seeds, num_classes, include_background, as_list):
    pairs = [draw_volumes(seed, num_classes) for seed in seeds]
    classes = range(0 if include_background else 1, num_classes)
    expected = np.array([[slice_dice(p == c, t == c) for c in classes] for p, t in pairs])
    metric = SliceDiceMetric(include_background=include_background, reduction="none")
    predictions = [one_hot(p, num_classes) for p, _ in pairs]
    truths = [MetaTensor(one_hot(t, num_classes)) for _, t in pairs]
    if as_list:
        metric(predictions, truths)
    else:
        metric(torch.stack(predictions), torch.stack(truths))
    np.testing.assert_allclose(metric.aggregate(), expected, rtol=1e-6)
    assert metric.aggregate("mean").item() == pytest.approx(expected.mean(), rel=1e-6)
    np.testing.assert_allclose(metric.aggregate("mean_batch"), expected.mean(0), rtol=1e-6)


def test_slice_dice_of_empty_slices():
    truth = torch.zeros(1, 2, 4, 4, 4)
    prediction = torch.zeros(1, 2, 4, 4, 4)
    truth[0, 1, :2, :2, 1] = 1  # missed: 0
    prediction[0, 1, :2, :2, 2] = 1  # invented: 0
    truth[0, 1, :2, :2, 3] = prediction[0, 1, :2, :3, 3] = 1  # 2 * 4 / (4 + 6)
    metric = SliceDiceMetric()
    metric(prediction, truth)
    assert metric.aggregate().item() == pytest.approx((1 + 0 + 0 + 0.8) / 4)
    volume = DiceMetric(include_background=False)
    volume(prediction, truth)
    assert volume.aggregate().item() != pytest.approx(metric.aggregate().item())


def test_slice_dice_of_an_empty_volume_is_one_not_nan():
    metric = SliceDiceMetric()
    metric(torch.zeros(1, 2, 4, 4, 3), torch.zeros(1, 2, 4, 4, 3))
    assert metric.aggregate().item() == 1


def test_slice_dice_accumulates_and_resets():
    metric = SliceDiceMetric()
    full, empty = torch.ones(1, 2, 4, 4, 2), torch.zeros(1, 2, 4, 4, 2)
    metric(full, full)
    metric(empty, full)
    assert metric.aggregate().item() == 0.5
    metric.reset()
    metric(full, full)
    assert metric.aggregate().item() == 1


@pytest.mark.parametrize("shape", [(1, 2, 4, 4), (2, 4)])
def test_slice_dice_refuses_what_is_no_volume(shape):
    with pytest.raises(ValueError, match="y_pred must have shape"):
        SliceDiceMetric()(torch.zeros(shape), torch.zeros(shape))


# ---- Hausdorff distance


def affine_of(spacing, permuted=False):
    """Voxel spacing in an affine, with axes swapped and one of them turned where asked for."""
    directions = np.eye(3)
    if permuted:
        angle = 0.4
        turn = np.array(
            [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]], dtype=float
        )
        directions = turn @ np.array([[0, -1, 0], [0, 0, 1], [-1, 0, 0]], dtype=float)
    affine = np.eye(4)
    affine[:3, :3] = directions @ np.diag(spacing)
    affine[:3, 3] = (3, -20, 7)
    return torch.from_numpy(affine)


def surface_distances(mask, other, spacing):
    """Distances in mm from the surface voxels of ``mask`` to those of ``other``."""

    def surface(m):
        return m & ~ndimage.binary_erosion(m)

    return ndimage.distance_transform_edt(~surface(other), sampling=spacing)[surface(mask)]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 95, 50]), st.booleans())
def test_hausdorff_equals_scipys_surface_distances_in_mm(seed, percentile, permuted):
    rng = np.random.default_rng(seed)
    spacing = rng.uniform(0.3, 12, size=3)
    noise = rng.random((2, 9, 8, 6))
    smooth = np.stack([ndimage.gaussian_filter(n, 1) for n in noise])
    masks = smooth > np.quantile(smooth, 0.7, axis=(1, 2, 3), keepdims=True)
    sides = [surface_distances(masks[i], masks[1 - i], spacing) for i in (0, 1)]
    expected = max(np.percentile(side, 100 if percentile is None else percentile) for side in sides)
    metric = HausdorffDistanceMMMetric(percentile=percentile)
    prediction, truth = (one_hot(m.astype(int), 2)[None] for m in masks)
    metric(prediction, MetaTensor(truth, affine=affine_of(spacing, permuted)))
    assert metric.aggregate().item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("permuted", [False, True])
def test_hausdorff_equals_simpleitks_for_separate_boxes(permuted):
    spacing = (1.25, 0.8, 9.0)
    masks = np.zeros((2, 16, 14, 7), dtype=np.uint8)
    masks[0, 2:6, 3:8, 1:3] = 1
    masks[1, 8:11, 9:11, 4:5] = 1
    images = [SimpleITK.GetImageFromArray(mask.transpose(2, 1, 0)) for mask in masks]
    for image in images:
        image.SetSpacing(spacing)
    judge = SimpleITK.HausdorffDistanceImageFilter()
    judge.Execute(*images)
    metric = HausdorffDistanceMMMetric()
    prediction, truth = (one_hot(m, 2) for m in masks)
    metric([prediction], [MetaTensor(truth, affine=affine_of(spacing, permuted))])
    assert metric.aggregate().item() == pytest.approx(judge.GetHausdorffDistance(), rel=1e-5)


def test_every_volume_has_its_own_spacing():
    mask = torch.zeros(2, 5, 5, 5)
    mask[1, 1, 2, 1] = 1
    shifted = torch.roll(mask, (1, 2), dims=(1, 3))
    metric = HausdorffDistanceMMMetric(reduction="none")
    spacings = [(1, 1, 1), (3, 1, 2), (1.5, 1.5, 8)]
    metric([shifted] * 3, [MetaTensor(mask, affine=affine_of(s)) for s in spacings])
    expected = [math.hypot(s[0], 2 * s[2]) for s in spacings]
    np.testing.assert_allclose(metric.aggregate()[:, 0], expected, rtol=1e-6)


def test_a_slice_takes_the_spacing_in_plane():
    mask = torch.zeros(2, 8, 8)
    mask[1, 2, 2] = 1
    metric = HausdorffDistanceMMMetric()
    metric([torch.roll(mask, (3, 2), dims=(1, 2))], [MetaTensor(mask, affine=affine_of((1.5, 2.0, 10)))])
    assert metric.aggregate().item() == pytest.approx(math.hypot(4.5, 4.0))


@pytest.mark.filterwarnings("error")
def test_empty_masks_are_nan_and_left_out_of_the_mean():
    mask = torch.zeros(2, 5, 5, 5)
    mask[1, 1, 2, 1] = 1
    shifted, empty = torch.roll(mask, 1, dims=1), torch.zeros_like(mask)
    affine = affine_of((2, 1, 1))
    metric = HausdorffDistanceMMMetric(reduction="none")
    metric(
        [empty, mask, empty, shifted, mask], [MetaTensor(m, affine=affine) for m in (mask, empty, empty, mask, mask)]
    )
    values = metric.aggregate()[:, 0]
    assert torch.isnan(values[:3]).all()
    assert values[3:].tolist() == [2, 0]
    assert metric.aggregate("mean").item() == 1


def test_truth_without_affine():
    with pytest.raises(TypeError, match="MetaTensor"):
        HausdorffDistanceMMMetric()(torch.ones(1, 2, 4, 4, 4), torch.ones(1, 2, 4, 4, 4))


def test_as_handlers_of_an_evaluator():
    truth = np.zeros((6, 6, 3), dtype=int)
    truth[1:4, 1:4, 1] = 1
    prediction = np.roll(truth, 1, axis=0)
    output = [{"pred": one_hot(prediction, 2), "label": MetaTensor(one_hot(truth, 2), affine=affine_of((2, 1, 5)))}]
    engine = Engine(lambda engine, batch: output)
    transform = from_engine(["pred", "label"])
    IgniteMetricHandler(metric_fn=SliceDiceMetric(), output_transform=transform).attach(engine, "dice")
    IgniteMetricHandler(metric_fn=HausdorffDistanceMMMetric(), output_transform=transform).attach(engine, "hd")
    engine.run([0, 1])
    assert engine.state.metrics["dice"] == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert engine.state.metrics["hd"] == pytest.approx(2)


def test_no_distance_at_all_is_nan_not_zero() -> None:
    empty = torch.zeros(1, 2, 4, 4, 4)
    truth = MetaTensor(empty.clone(), affine=torch.eye(4))
    truth[:, 1, 1:3, 1:3, 1:3] = 1
    metric = HausdorffDistanceMMMetric(percentile=95)
    metric(empty, truth)
    assert torch.isnan(metric.aggregate()).all()
