"""Key and additional metrics of cases that are annotated in different ways."""

import logging
import math

import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler, from_engine
from monai.inferers import SimpleInferer
from monai.metrics import DiceMetric
from monai.transforms import AsDiscreted, Compose
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sizeloss_monai.errors import DataError
from sizeloss_monai.handlers import LabelledMetricHandler, OverlayImagesHandler, WeakScoreHandler
from sizeloss_monai.metrics import AnnotatedDiceMetric, CRFEnergyMetric, SizeViolationMetric, WeakScoreMetric

PIXEL = 0.02  # mL


class Threshold(torch.nn.Module):
    """A network that finds what is bright."""

    def forward(self, image):
        return torch.cat([0.5 - image, image - 0.5], dim=1)


def make_items(num_cases=3, keys=("weak_label", "size_bounds", "voxel_size")):
    items = []
    for index in range(num_cases):
        generator = torch.Generator().manual_seed(index)
        image = torch.rand(1, 8, 8, 3, generator=generator)
        weak_label = torch.where(torch.rand(1, 8, 8, 3, generator=generator) < 0.2, (image > 0.4).byte(), 255)
        item = {
            "weak_label": MetaTensor(weak_label),
            "size_bounds": torch.tensor([[0, math.inf], [0.5, 1.5]]),
            "voxel_size": torch.tensor(PIXEL),
            "label": MetaTensor((image > 0.3).byte()),
        }
        given = {key: item[key] for key in keys}
        items.append({"image": MetaTensor(image), "case": f"case{index}", **given})
    return items


def evaluate(items, key_metric, additional=None, handlers=None, batch_size=1):
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=batch_size),
        network=Threshold(),
        inferer=SimpleInferer(),
        postprocessing=Compose([AsDiscreted(keys="pred", argmax=True, to_onehot=2)]),
        key_val_metric=key_metric,
        additional_metrics=additional,
        val_handlers=handlers,
    )
    evaluator.run()
    return evaluator.state


def prediction_of(item):
    mask = torch.as_tensor(item["image"]) > 0.5
    return torch.cat([~mask, mask]).float()[None]


def weak_score(**options):
    return {"val_weak_score": WeakScoreHandler(WeakScoreMetric(**options))}


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_score_sees_what_batch_and_output_hold(batch_size):
    items = make_items()
    state = evaluate(items, weak_score(), batch_size=batch_size)
    dice, violation, energy = AnnotatedDiceMetric(), SizeViolationMetric(), CRFEnergyMetric()
    for item in items:
        dice(prediction_of(item), torch.as_tensor(item["weak_label"])[None])
        violation(prediction_of(item), item["size_bounds"][None], voxel_size=torch.tensor([PIXEL]))
        energy(prediction_of(item), item["image"][None])
    expected = {
        "val_annotated_dice": dice.aggregate().item(),
        "val_size_violation": violation.aggregate().item(),
        "val_crf_energy": energy.aggregate().item(),
    }
    assert expected["val_size_violation"] > 0
    assert {name: state.metrics[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    d, v, e = expected.values()
    assert state.metrics["val_weak_score"] == pytest.approx(d - v - 0.25 * e, rel=1e-5)
    assert state.best_metric == state.metrics["val_weak_score"]
    assert state.metric_details["val_weak_score"].shape == (3, 3)


def test_without_any_mask_the_true_dice_is_not_logged():
    additional = {"val_mean_dice": LabelledMetricHandler(DiceMetric(include_background=False))}
    state = evaluate(make_items(), weak_score(), additional)
    assert "val_mean_dice" not in state.metrics
    assert "val_weak_score" in state.metrics


def test_masks_are_compared_in_one_process(monkeypatch):
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 2)
    key = {"val_mean_dice": LabelledMetricHandler(DiceMetric(include_background=False))}
    with pytest.raises(RuntimeError, match="in one process only: leave out watch_masks"):
        evaluate(make_items(keys=("weak_label", "label")), key)


def test_as_the_key_metric_it_is_nan_without_any_mask():
    key = {"val_mean_dice": LabelledMetricHandler(DiceMetric(include_background=False), is_key=True)}
    assert math.isnan(evaluate(make_items(), key).metrics["val_mean_dice"])


def test_the_true_dice_is_of_the_cases_with_masks():
    masked = make_items(keys=("weak_label", "label"))[:2]
    without = make_items()[2:]
    additional = {"val_mean_dice": LabelledMetricHandler(DiceMetric(include_background=False))}
    state = evaluate([*masked, *without], weak_score(), additional)
    plain = DiceMetric(include_background=False)
    for item in masked:
        plain(prediction_of(item), torch.as_tensor(item["label"])[None])
    assert state.metrics["val_mean_dice"] == pytest.approx(plain.aggregate().item())
    assert len(state.metric_details["val_mean_dice"]) == 2
    # a metric of its own takes the same cases where all have masks
    both = {
        "here": LabelledMetricHandler(DiceMetric(include_background=False)),
        "monai": IgniteMetricHandler(
            DiceMetric(include_background=False), output_transform=from_engine(["pred", "label"])
        ),
    }
    metrics = evaluate(masked, weak_score(), both).metrics
    assert metrics["here"] == metrics["monai"]


def test_a_part_that_cannot_be_measured_is_named_once(caplog):
    handler = WeakScoreHandler(WeakScoreMetric())
    with caplog.at_level(logging.WARNING, logger="sizeloss_monai"):
        state = evaluate(make_items(keys=("weak_label",)), {"val_weak_score": handler})
        handler.completed(handler._engine, "val_weak_score")
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("sizeloss_monai")]
    assert messages == ["val_weak_score leaves out ['size_violation']: no validation case has the annotation for it."]
    assert "val_size_violation" not in state.metrics
    caplog.clear()
    evaluate(make_items(keys=("weak_label",)), weak_score(size_weight=0))
    assert not [record for record in caplog.records if record.name.startswith("sizeloss_monai")]


def test_nothing_annotated_is_an_error():
    with pytest.raises(DataError, match="key 'weak_label': found no annotated voxel of a target class in any case"):
        evaluate(make_items(keys=("size_bounds", "voxel_size")), weak_score())


def test_keys_of_other_names():
    items = [{**item, "scribble": item["weak_label"]} for item in make_items(keys=("weak_label",))]
    for item in items:
        item["weak_label"] = torch.full_like(item["weak_label"], 255)
    handler = WeakScoreHandler(WeakScoreMetric(size_weight=0), keys={"weak_label": "scribble"}, prefix="held_out_")
    metrics = evaluate(items, {"score": handler}).metrics
    assert metrics["held_out_annotated_dice"] > 0
    with pytest.raises(ValueError, match="keys must be among"):
        WeakScoreHandler(WeakScoreMetric(), keys={"scribble": "weak_label"})


@pytest.mark.parametrize(("keys", "panels"), [(("weak_label",), 3), ((), 2), (("weak_label", "label"), 4)])
def test_overlays_of_cases_without_masks(tmp_path, keys, panels):
    key_metric = weak_score(size_weight=0) if keys else None
    evaluate(make_items(keys=keys), key_metric, handlers=[OverlayImagesHandler(str(tmp_path))])
    (file,) = tmp_path.iterdir()
    events = EventAccumulator(str(file)).Reload()
    (image,) = events.Images("overlay/case0")
    assert (image.height, image.width) == (8, 8 * panels)
