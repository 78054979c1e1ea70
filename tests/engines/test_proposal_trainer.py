"""Training on proposals: what is made, what is learnt from, what is logged."""

import math
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset, MetaTensor
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sizeloss_monai.engines import LagrangianProposalTrainer, PrepareBatchTargets, proposal_trainer
from sizeloss_monai.handlers import LossTermsHandler, ProposalImagesHandler
from sizeloss_monai.losses import PartialCrossEntropyLoss, WeakSupervisionLoss
from sizeloss_monai.proposals import LagrangianProposals, NonFiniteLogitsError

INF = math.inf
EDGE = 12


def make_items(count=6):
    """A bright square on noise, its centre annotated; one item without it."""
    generator = torch.Generator().manual_seed(0)
    items = []
    for index in range(count):
        label = torch.zeros(1, EDGE, EDGE, dtype=torch.uint8)
        if index:
            label[0, 3 + index % 3 : 8 + index % 3, 4:9] = 1
        weak_label = torch.full_like(label, 255)
        if index:
            weak_label[0, 5 + index % 3, 6] = 1
        size = float(label.sum())
        image = label.float() + 0.1 * torch.rand(1, EDGE, EDGE, generator=generator)
        bounds = torch.tensor([(0.0, INF), (0.9 * size, 1.1 * size)])
        items.append({"image": MetaTensor(image), "label": label, "weak_label": weak_label, "size_bounds": bounds})
    return items


def make_trainer(hard=True, handlers=(), epochs=1, items=None, **proposals):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 2, 1))
    cross_entropy = PartialCrossEntropyLoss() if hard else torch.nn.CrossEntropyLoss()
    loss = WeakSupervisionLoss({"proposal_ce": {"loss": cross_entropy, "target": "proposal"}})
    return LagrangianProposalTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(Dataset(items or make_items()), batch_size=3),
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), 0.02),
        loss_function=loss,
        proposals=LagrangianProposals(**proposals),
        hard=hard,
        prepare_batch=PrepareBatchTargets(),
        train_handlers=[LossTermsHandler(loss), *handlers],
        decollate=False,
    )


@pytest.mark.parametrize("hard", [True, False])
def test_the_loss_is_cross_entropy_on_the_proposals_of_the_same_output(hard):
    seen = []
    trainer = make_trainer(hard)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: seen.append(engine.state.output))
    trainer.run()
    assert len(seen) == 2
    for output in seen:
        targets = output["label"]
        made = LagrangianProposals()(output["pred"].detach(), targets["weak_label"], targets["size_bounds"])
        expected = made.labels() if hard else made.probabilities
        torch.testing.assert_close(output["proposal"], expected)
        assert not output["proposal"].requires_grad
        target = expected[:, 0] if hard else expected
        torch.testing.assert_close(output["loss"], torch.nn.functional.cross_entropy(output["pred"], target))
        assert output["proposal_seconds"] > 0
        assert output["proposal_iterations"] >= 1
        assert "proposal" not in targets, "the batch's own targets were changed"


def test_seconds_are_those_of_the_proposals_alone(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(proposal_trainer, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def taking(seconds, call):
        def later(*arguments):
            now[0] += seconds
            return call(*arguments)

        return later

    trainer = make_trainer()
    for name, seconds in {"inferer": 1.0, "proposals": 2.0, "supervision": 4.0}.items():
        monkeypatch.setattr(trainer, name, taking(seconds, getattr(trainer, name)))
    trainer.run()
    assert trainer.state.output["proposal_seconds"] == 2.0


def test_another_device_is_not_waited_for_until_its_time_is_read(monkeypatch):
    log = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing
            self.number = sum(what == "record" for what, _ in log)

        def record(self, stream):
            assert stream == "the device's"
            log.append(("record", self.number))

        def synchronize(self):
            log.append(("wait", self.number))

        def elapsed_time(self, end):
            return 250.0 * (end.number - self.number)  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "the device's")
    clock = proposal_trainer._Clock(torch.device("cuda", 1))
    clock.stop()
    assert log == [("record", 0), ("record", 1)]
    assert clock.seconds() == 0.25
    assert log[2:] == [("wait", 1)]


def test_proposals_keep_to_the_annotation_and_the_bounds():
    trainer = make_trainer(hard=False)
    trainer.run()
    output = trainer.state.output
    sizes = output["proposal"].sum(dim=(2, 3))[:, 1]
    lower, upper = output["label"]["size_bounds"][:, 1].unbind(-1)
    assert (sizes >= lower - 0.01).all()
    assert (sizes <= upper + 0.01).all()
    assert output["proposal_violation"] < 0.01


def test_it_learns_the_target_from_one_pixel_and_its_size():
    trainer = make_trainer(hard=False, epochs=60)  # hard ones of a hesitant network are empty, and teach that
    trainer.run()
    items = make_items()
    image = torch.stack([item["image"].as_tensor() for item in items])
    label = torch.stack([item["label"] for item in items])
    found = trainer.network(image).argmax(dim=1, keepdim=True)
    assert 2 * (found * label).sum() / (found.sum() + label.sum()) > 0.9


def test_the_published_early_stop_ends_at_once_below_the_upper_bound():
    items = make_items()
    for item in items:
        item["size_bounds"] = torch.tensor([(0.0, INF), (140.0, 144.0)])  # more than half of the image
    options = {"solver": "gradient_ascent", "early_stop": "as_published"}
    trainer = make_trainer(items=items, **options)
    trainer.run()
    assert trainer.state.output["proposal_iterations"] == 1
    assert trainer.state.output["proposal_violation"] > 1


def test_tensorboard_shows_the_proposals(tmp_path):
    make_trainer(handlers=[ProposalImagesHandler(str(tmp_path), num_items=2)], epochs=2).run()
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    assert events.Tags()["images"] == ["proposal/0", "proposal/1"]
    shown = events.Images("proposal/0")
    assert [image.step for image in shown] == [1, 2]
    # image, weak label, proposal, prediction, truth
    assert (shown[0].width, shown[0].height) == (5 * EDGE, EDGE)


@pytest.mark.parametrize("value", [math.nan, INF, -INF])
def test_a_network_that_diverged_stops_the_training_in_one_line(value):
    trainer = make_trainer()
    with torch.no_grad():
        trainer.network[2].bias[1] = value
    with pytest.raises(
        NonFiniteLogitsError, match=r"^logits must be finite, got .* lower the learning rate, or .* amp\.$"
    ):
        trainer.run()
    assert trainer.state.iteration == 1
