"""Which checkpoints there are while a run is going on, interrupted and resumed."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from monai.handlers import CheckpointLoader
from monai.optimizers import WarmupCosineSchedule
from torch.optim import lr_scheduler as schedules

from sizeloss_monai.errors import DataError
from sizeloss_monai.handlers import CheckpointHandler, ResumeHandler


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def run(folder, epochs, resume_from=None):
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)

    def step(engine, batch):
        with torch.no_grad():
            network.weight += 1

    trainer = Engine(step)
    items = {"model": network, "trainer": trainer}
    if resume_from is not None:
        CheckpointLoader(str(folder / resume_from), items).attach(trainer)
    CheckpointHandler(str(folder), items).attach(trainer)
    trainer.run([0], max_epochs=epochs)
    return network.weight.item()


def test_the_last_epoch_alone_is_kept(tmp_path):
    (tmp_path / "model.pt").touch()
    run(tmp_path, epochs=12)
    assert names(tmp_path) == ["checkpoint_epoch=12.pt", "model.pt"]
    assert torch.load(tmp_path / "checkpoint_epoch=12.pt", weights_only=True)["model"]["weight"].item() == 12


def test_so_it_is_after_a_resumption(tmp_path):
    run(tmp_path, epochs=2)
    assert run(tmp_path, epochs=3, resume_from="checkpoint_epoch=2.pt") == 3
    assert names(tmp_path) == ["checkpoint_epoch=3.pt"]


def test_a_resumption_without_an_epoch_to_go_leaves_the_file(tmp_path):
    run(tmp_path, epochs=2)
    run(tmp_path, epochs=2, resume_from="checkpoint_epoch=2.pt")
    assert names(tmp_path) == ["checkpoint_epoch=2.pt"]


def test_the_old_file_is_there_until_the_new_one_is_written(tmp_path, monkeypatch):
    run(tmp_path, epochs=1)

    def full_disk(*arguments, **options):
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        run(tmp_path, epochs=2, resume_from="checkpoint_epoch=1.pt")
    assert names(tmp_path) == ["checkpoint_epoch=1.pt"]


@pytest.mark.parametrize("best", [False, True])
def test_an_interruption_while_writing_leaves_the_old_file_whole(tmp_path, monkeypatch, best):
    """Ctrl-C in the middle of a file, in epoch 3 of training."""
    network = torch.nn.Linear(1, 1)
    whole_save = torch.save

    def step(engine, batch):
        with torch.no_grad():
            network.weight.fill_(engine.state.epoch)

    def half_a_file(content, file, **options):
        with open(file, "wb") if isinstance(file, (str, Path)) else nullcontext(file) as opened:
            opened.write(b"PK")
        raise KeyboardInterrupt

    def interrupt(engine):
        engine.state.metrics, engine.state.key_metric_name = {"score": engine.state.epoch}, "score"
        monkeypatch.setattr(torch, "save", half_a_file if engine.state.epoch == 3 else whole_save)

    trainer = Engine(step)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, interrupt)
    CheckpointHandler(str(tmp_path), {"model": network}, evaluator=trainer if best else None).attach(trainer)
    with pytest.raises(KeyboardInterrupt):
        trainer.run([0], max_epochs=4)
    assert names(tmp_path) == ["checkpoint_epoch=2.pt", *["model.pt"] * best]
    for file in tmp_path.iterdir():
        state = torch.load(file, weights_only=True)
        assert state.get("model", state)["weight"].mean() == 2


def test_the_best_epoch_alone_is_kept_and_can_be_read_by_others(tmp_path):
    network = torch.nn.Linear(1, 1)
    scores = {1: 0.5, 2: 0.9, 3: 0.7}

    def step(engine, batch):
        with torch.no_grad():
            network.weight.fill_(engine.state.epoch)
        engine.state.metrics, engine.state.key_metric_name = {"score": scores[engine.state.epoch]}, "score"

    trainer = Engine(step)
    CheckpointHandler(str(tmp_path), {"model": network}, evaluator=trainer).attach(trainer)
    trainer.run([0], max_epochs=3)
    assert names(tmp_path) == ["checkpoint_epoch=3.pt", "model.pt"]
    assert torch.load(tmp_path / "model.pt", weights_only=True)["weight"].item() == 2
    assert (tmp_path / "model.pt").stat().st_mode & 0o044 == 0o044


def test_processes_but_the_first_touch_nothing(tmp_path, monkeypatch):
    run(tmp_path, epochs=1)
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    run(tmp_path, epochs=2, resume_from="checkpoint_epoch=1.pt")
    assert names(tmp_path) == ["checkpoint_epoch=1.pt"]


SCHEDULES = {
    "cosine": lambda optimizer, epochs: schedules.CosineAnnealingLR(optimizer, T_max=epochs),
    "one cycle": lambda optimizer, epochs: schedules.OneCycleLR(optimizer, max_lr=0.5, total_steps=epochs),
    "linear": lambda optimizer, epochs: schedules.LinearLR(optimizer, 1.0, 0.1, total_iters=epochs),
    "polynomial": lambda optimizer, epochs: schedules.PolynomialLR(optimizer, total_iters=epochs, power=0.9),
    "milestones": lambda optimizer, epochs: schedules.MultiStepLR(optimizer, milestones=[epochs // 2, epochs - 1]),
    "function": lambda optimizer, epochs: schedules.LambdaLR(optimizer, lambda epoch: 1 - epoch / epochs),
    "warm-up": lambda optimizer, epochs: schedules.SequentialLR(
        optimizer,
        [schedules.LinearLR(optimizer, 0.1, total_iters=2), schedules.CosineAnnealingLR(optimizer, epochs - 2)],
        milestones=[2],
    ),
    "MONAI's warm-up": lambda optimizer, epochs: WarmupCosineSchedule(optimizer, 1, epochs),
}


def rates(folder, make, epochs, lr=0.1, resume=False, optimizer_class=torch.optim.Adam):
    """The rate of each epoch of a run, and its weights."""
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(network.weight)
    optimizer = optimizer_class(network.parameters(), lr=lr)
    scheduler = make(optimizer, epochs)
    used = {}

    def step(engine, batch):
        used[engine.state.epoch] = optimizer.param_groups[0]["lr"]
        optimizer.zero_grad()
        (network.weight**2).sum().backward()
        optimizer.step()

    trainer = Engine(step)
    items = {"model": network, "optimizer": optimizer, "lr_scheduler": scheduler, "trainer": trainer}
    is_plateau = isinstance(scheduler, schedules.ReduceLROnPlateau)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: scheduler.step(*[1.0] * is_plateau))
    if resume:
        (last,) = folder.glob("checkpoint_epoch=*.pt")
        ResumeHandler(str(last), items).attach(trainer)
    CheckpointHandler(str(folder), items).attach(trainer)
    trainer.run([0], max_epochs=epochs)
    return used, network.weight.item()


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_resumed_run_follows_the_schedule_of_its_new_length(tmp_path, name):
    make = SCHEDULES[name]
    whole, _ = rates(tmp_path / "whole", make, epochs=8)
    rates(tmp_path / "run", make, epochs=4)
    resumed, _ = rates(tmp_path / "run", make, epochs=8, resume=True)
    assert resumed == {epoch: whole[epoch] for epoch in (5, 6, 7, 8)}
    assert resumed[5] > 0.001


@pytest.mark.parametrize("name", SCHEDULES)
def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path, name):
    make = SCHEDULES[name]
    whole, weight = rates(tmp_path / "whole", make, epochs=8)
    rates(tmp_path / "run", lambda optimizer, epochs: make(optimizer, 8), epochs=3)
    resumed, resumed_weight = rates(tmp_path / "run", make, epochs=8, resume=True)
    assert resumed == {epoch: whole[epoch] for epoch in range(4, 9)}
    assert resumed_weight == weight


def test_a_resumed_run_takes_the_rate_of_its_config(tmp_path, caplog):
    rates(tmp_path, SCHEDULES["cosine"], epochs=4)
    resumed, _ = rates(tmp_path, SCHEDULES["cosine"], epochs=8, lr=0.2, resume=True)
    assert resumed[5] == pytest.approx(0.1)
    assert "the learning rate goes on at 0.1, not at 0:" in caplog.text


def test_a_rate_halved_on_a_plateau_stays_so(tmp_path):
    def make(patience):
        return lambda optimizer, epochs: schedules.ReduceLROnPlateau(optimizer, factor=0.5, patience=patience)

    rates(tmp_path, make(0), epochs=3)
    resumed, _ = rates(tmp_path, make(100), epochs=6, resume=True)
    assert resumed == {4: 0.025, 5: 0.025, 6: 0.025}


@pytest.mark.parametrize(("epochs", "words"), [(2, "epochs must be at least 4, .* got 2"), (4, None)])
def test_fewer_epochs_than_are_done(tmp_path, epochs, words):
    rates(tmp_path, SCHEDULES["cosine"], epochs=4)
    with pytest.raises(DataError, match=words) if words else nullcontext():
        rates(tmp_path, SCHEDULES["cosine"], epochs=epochs, resume=True)


def test_a_schedule_that_ends_before_the_checkpoint(tmp_path):
    rates(tmp_path, SCHEDULES["one cycle"], epochs=4)
    with pytest.raises(DataError, match="lr_scheduler must be made for more than the 4 steps"):
        rates(tmp_path, lambda optimizer, epochs: schedules.OneCycleLR(optimizer, 0.5, total_steps=2), 6, resume=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("optimizer"),
        lambda state: state.update(optimizer=[1]),
        lambda state: state.update(trainer={"epoch": "one"}),
        lambda state: state.update(model={"bias": torch.zeros(1)}),
    ],
)
def test_a_checkpoint_of_another_training(tmp_path, change):
    rates(tmp_path, SCHEDULES["cosine"], epochs=2)
    file = tmp_path / "checkpoint_epoch=2.pt"
    state = torch.load(file, weights_only=True)
    change(state)
    torch.save(state, file)
    with pytest.raises(DataError, match=r"epoch=2\.pt' cannot be resumed from") as caught:
        rates(tmp_path, SCHEDULES["cosine"], epochs=4, resume=True)
    assert "\n" not in str(caught.value)
