"""Which checkpoints there are while a run is going on, interrupted and resumed."""

import pytest
import torch
from ignite.engine import Engine
from monai.handlers import CheckpointLoader

from sizeloss_monai.handlers import LastCheckpointSaver


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


def test_processes_but_the_first_touch_nothing(tmp_path, monkeypatch):
    run(tmp_path, epochs=1)
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    run(tmp_path, epochs=2, resume_from="checkpoint_epoch=1.pt")
    assert names(tmp_path) == ["checkpoint_epoch=1.pt"]
