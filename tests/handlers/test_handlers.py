import io
import math

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.inferers import SimpleInferer, SliceInferer
from monai.transforms import AsDiscreted
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sizeloss_monai.constraints import SizeConstraintLoss
from sizeloss_monai.engines import PrepareBatchTargets
from sizeloss_monai.handlers import LossTermsHandler, OverlayImagesHandler, ProgressBarHandler, overlay_row
from sizeloss_monai.losses import PartialCrossEntropyLoss, WeakSupervisionLoss


def make_trainer(loss, handlers, num_items=5, epochs=2):
    generator = torch.Generator().manual_seed(0)
    items = []
    for _ in range(num_items):
        weak_label = torch.full((1, 6, 6), 255, dtype=torch.uint8)
        weak_label[0, 2:4, 2:4] = 1
        items.append(
            {
                "image": MetaTensor(torch.rand(1, 6, 6, generator=generator)),
                "weak_label": MetaTensor(weak_label),
                "size_bounds": torch.tensor([(0.0, math.inf), (1.0, 6.0)]),
            }
        )
    torch.manual_seed(0)
    network = torch.nn.Conv2d(1, 2, 3, padding=1)
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(Dataset(items), batch_size=2),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.1),
        loss_function=loss,
        inferer=SimpleInferer(),
        prepare_batch=PrepareBatchTargets(),
        train_handlers=handlers,
        decollate=False,
    )


class Recorder:
    """Keeps what later handlers see after every iteration and epoch."""

    def __init__(self):
        self.steps, self.epochs = [[]], []

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.epoch)

    def step(self, engine):
        output = engine.state.output
        self.steps[-1].append({"loss": output["loss"].item(), **{k: v.item() for k, v in output["loss_terms"].items()}})

    def epoch(self, engine):
        self.epochs.append(dict(engine.state.metrics))
        self.steps.append([])


# ---- terms of the loss


def test_terms_add_up_and_epoch_means_are_of_that_epoch():
    loss = WeakSupervisionLoss(
        {
            "partial_ce": {"loss": PartialCrossEntropyLoss(), "target": "weak_label"},
            "size": {"loss": SizeConstraintLoss(scale="image"), "target": "size_bounds", "weight": 0.1},
        }
    )
    recorder = Recorder()
    trainer = make_trainer(loss, [LossTermsHandler(loss), recorder])
    trainer.run()
    first, second, _ = recorder.steps
    assert len(first) == len(second) == 3
    for step in first + second:
        assert step.keys() == {"loss", "partial_ce", "size"}
        assert step["partial_ce"] > 0
        assert step["size"] > 0
        assert step["partial_ce"] + step["size"] == pytest.approx(step["loss"], rel=1e-6)
    for steps, metrics in zip((first, second), recorder.epochs, strict=True):
        for name in ("partial_ce", "size"):
            mean = math.fsum(step[name] for step in steps) / len(steps)
            assert metrics[f"train_{name}"] == pytest.approx(mean, rel=1e-6)
    assert recorder.epochs[0]["train_size"] != recorder.epochs[1]["train_size"]


def test_terms_of_a_step_do_not_change_later():
    loss = WeakSupervisionLoss({"partial_ce": {"loss": PartialCrossEntropyLoss(), "target": "weak_label"}})
    kept, values = [], []

    class Keeper(Recorder):
        def step(self, engine):
            kept.append(engine.state.output["loss_terms"])
            values.append(kept[-1]["partial_ce"].item())

    make_trainer(loss, [LossTermsHandler(loss), Keeper()]).run()
    assert len(set(values)) == len(values) == 6
    assert [terms["partial_ce"].item() for terms in kept] == values


# ---- overlays


def test_overlay_row_colours_the_mask_only():
    image = torch.linspace(0, 5, 48).reshape(1, 6, 8)
    mask = torch.zeros(1, 6, 8, dtype=torch.int64)
    mask[0, 1:3, 2:5] = 1
    row = overlay_row(image, mask, 0 * mask)
    assert row.shape == (3, 6, 24)
    assert row.dtype == torch.float32
    assert row.min() >= 0
    assert row.max() <= 1
    plain, coloured, empty = row.split(8, dim=-1)
    torch.testing.assert_close(plain, (image / 5).expand(3, 6, 8))
    torch.testing.assert_close(empty, plain)
    changed = (coloured - plain).abs().amax(0) > 1e-3
    assert torch.equal(changed, mask[0] == 1)


def test_a_class_has_one_colour_whatever_else_a_mask_holds():
    image = torch.rand(1, 4, 4)
    alone, beside = torch.zeros(2, 1, 4, 4, dtype=torch.int64)
    alone[0, 0, 0] = beside[0, 0, 0] = 1
    beside[0, 2, 2] = 2
    _, first, second, full = overlay_row(image, alone, beside, torch.ones_like(alone), num_classes=3).split(4, dim=-1)
    torch.testing.assert_close(first[:, 0, 0], second[:, 0, 0])
    torch.testing.assert_close(full[:, 0, 0], first[:, 0, 0])
    one, two = (2 * second[:, i, i] - image[0, i, i] for i in (0, 2))  # alpha is 1/2
    assert (one - two).abs().max() > 0.3


def make_volumes(num_cases=3):
    items = []
    for index in range(num_cases):
        generator = torch.Generator().manual_seed(index)
        image = torch.rand(1, 16, 16, 4, generator=generator)
        label = torch.zeros(1, 16, 16, 4, dtype=torch.uint8)
        label[0, 4:9, 4:9, 2] = 1  # the largest
        label[0, 4:6, 4:6, 1] = 1
        weak_label = torch.where(label == 1, 1, 255)
        items.append(
            {
                "image": MetaTensor(image),
                "label": MetaTensor(label),
                "weak_label": MetaTensor(weak_label),
                "case": f"patient{index}",
            }
        )
    return items


@pytest.mark.parametrize(("with_weak", "panels"), [(True, 4), (False, 3)])
def test_overlays_are_written(tmp_path, with_weak, panels):
    items = make_volumes()
    if not with_weak:
        for item in items:
            del item["weak_label"]
    network = torch.nn.Conv2d(1, 2, 1)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=1),
        network=network,
        inferer=SliceInferer(roi_size=(16, 16), spatial_dim=2, sw_batch_size=4),
        postprocessing=AsDiscreted(["pred", "label"], argmax=[True, False], to_onehot=2),
        val_handlers=[OverlayImagesHandler(str(tmp_path), num_cases=2)],
    )
    for epoch in (1, 2):
        evaluator.run(global_epoch=epoch)
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    assert events.Tags()["images"] == ["overlay/patient0", "overlay/patient1"]
    for index, tag in enumerate(events.Tags()["images"]):
        images = events.Images(tag)
        assert [image.step for image in images] == [1, 2]
        assert (images[0].width, images[0].height) == (16 * panels, 16)
        pixels = np.asarray(Image.open(io.BytesIO(images[0].encoded_image_string))).astype(float) / 255
        # the slice with the largest truth, its grey values scaled to 0..1
        grey = items[index]["image"].numpy()[0, ..., 2]
        grey = (grey - grey.min()) / (grey.max() - grey.min())
        np.testing.assert_allclose(pixels[:, :16], np.repeat(grey[..., None], 3, axis=-1), atol=0.01)
        # truth is the last panel, the weak label the first of the masks
        truth = items[index]["label"].numpy()[0, ..., 2] == 1
        coloured = np.abs(pixels[:, -16:] - pixels[:, :16]).max(-1) > 0.02
        np.testing.assert_array_equal(coloured, truth)
        if with_weak:
            coloured = np.abs(pixels[:, 16:32] - pixels[:, :16]).max(-1) > 0.02
            np.testing.assert_array_equal(coloured, truth)


# ---- progress bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("every", "updates"), [(1, 6), (3, 2)])
def test_progress_bar_shows_the_values_of_a_step(every, updates):
    asked = []

    def transform(output):
        asked.append(output)
        return {"loss": output / 4}

    stream = Terminal()
    engine = Engine(lambda engine, batch: batch)
    ProgressBarHandler(transform, every=every, file=stream, mininterval=0, ncols=80, desc="training").attach(engine)
    engine.run(range(3), max_epochs=2)
    assert len(asked) == updates
    text = stream.getvalue()
    assert "training" in text
    assert "loss=0.5" in text  # 2 / 4


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["file", "terminal"])
def test_progress_bar_without_values(stream):
    engine = Engine(lambda engine, batch: batch)
    ProgressBarHandler(file=stream, mininterval=0).attach(engine)
    engine.run(range(3), max_epochs=1)
    assert "3/3" in stream.getvalue()


def make_engines(stream):
    """A trainer of 3 epochs, validated every 2, whose handlers make metrics as MONAI's do."""
    validator = Engine(lambda engine, batch: batch)
    validator.state.key_metric_name = "val_score"
    trainer = Engine(lambda engine, batch: batch)

    @trainer.on(Events.EPOCH_COMPLETED)
    def make_metrics(engine):
        engine.state.metrics = {"train_size": engine.state.epoch / 8, "train_vector": torch.ones(2)}
        if engine.state.epoch == 2:
            validator.state.metrics["val_score"] = 0.75
            validator.state.epoch = 2  # as MONAI's evaluators count

    ProgressBarHandler(validator=validator, file=stream, ncols=120).attach(trainer)
    return trainer


def test_progress_is_a_line_an_epoch_where_there_is_no_terminal():
    stream = io.StringIO()
    make_engines(stream).run(range(4), max_epochs=3)
    lines = [line.partition(";")[0] for line in stream.getvalue().splitlines()]
    assert lines == [
        "epoch 1/3: size 0.125",
        "epoch 2/3: size 0.25, val_score 0.75",
        "epoch 3/3: size 0.375",
    ]
    assert stream.getvalue().endswith("gone, 00:00 left\n")


def test_progress_on_a_terminal_is_one_line():
    stream = Terminal()
    make_engines(stream).run(range(4), max_epochs=3)
    assert stream.getvalue().count("\n") == 1
    last = stream.getvalue().strip().split("\r")[-1]
    assert last.startswith("epoch 3/3: 100%")
    assert "12/12" in last
    assert "size=0.375, val_score=0.75" in last


def test_time_left_of_a_resumed_run_counts_its_own_steps(monkeypatch):
    clock = iter([100.0, 110.0, 120.0])
    monkeypatch.setattr("sizeloss_monai.handlers.progress.time.monotonic", lambda: next(clock))
    stream = io.StringIO()
    engine = make_engines(stream)

    @engine.on(Events.STARTED)
    def resume(engine):
        engine.state.epoch, engine.state.iteration = 8, 8 * 4

    engine.run(range(4), max_epochs=10)
    assert [line.partition("; ")[2] for line in stream.getvalue().splitlines()] == [
        "00:10 gone, 00:10 left",
        "00:20 gone, 00:00 left",
    ]
