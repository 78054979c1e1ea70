"""Which checkpoints there are while a run is going on, interrupted and resumed."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from monai.handlers import CheckpointLoader

from sizeloss_monai.handlers import BestCheckpointSaver, LastCheckpointSaver


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
    LastCheckpointSaver(str(folder), items).attach(trainer)
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


@pytest.mark.parametrize("saver", [LastCheckpointSaver, BestCheckpointSaver])
def test_an_interruption_while_writing_leaves_the_old_file_whole(tmp_path, monkeypatch, saver):
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
    saver(str(tmp_path), {"model": network, "trainer": trainer}).attach(trainer)
    with pytest.raises(KeyboardInterrupt):
        trainer.run([0], max_epochs=4)
    (file,) = tmp_path.iterdir()
    assert file.name == ("model.pt" if saver is BestCheckpointSaver else "checkpoint_epoch=2.pt")
    assert torch.load(file, weights_only=True)["model"]["weight"].item() == 2


def test_the_best_epoch_alone_is_kept_and_can_be_read_by_others(tmp_path):
    network = torch.nn.Linear(1, 1)
    scores = {1: 0.5, 2: 0.9, 3: 0.7}

    def step(engine, batch):
        with torch.no_grad():
            network.weight.fill_(engine.state.epoch)
        engine.state.metrics, engine.state.key_metric_name = {"score": scores[engine.state.epoch]}, "score"

    trainer = Engine(step)
    BestCheckpointSaver(str(tmp_path), {"model": network}).attach(trainer)
    trainer.run([0], max_epochs=3)
    assert names(tmp_path) == ["model.pt"]
    assert torch.load(tmp_path / "model.pt", weights_only=True)["weight"].item() == 2
    assert (tmp_path / "model.pt").stat().st_mode & 0o044 == 0o044


def test_processes_but_the_first_touch_nothing(tmp_path, monkeypatch):
    run(tmp_path, epochs=1)
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    run(tmp_path, epochs=2, resume_from="checkpoint_epoch=1.pt")
    assert names(tmp_path) == ["checkpoint_epoch=1.pt"]
