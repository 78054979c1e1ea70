import pytest

from sizeloss_monai.bundle import OutputDirError, latest_checkpoint, prepare_output_dir


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["checkpoint_epoch=9.pt", "checkpoint_epoch=10.pt"], "checkpoint_epoch=10.pt"),
        (["checkpoint_epoch=2.pt", "checkpoint_epoch=100.pt", "checkpoint_epoch=11.pt"], "checkpoint_epoch=100.pt"),
        (["net_epoch=1.pt"], "net_epoch=1.pt"),
        (
            ["checkpoint_epoch=3.pt", "checkpoint_key_metric=0.9.pt", "model.pt", "model_final_iteration=99.pt"],
            "checkpoint_epoch=3.pt",
        ),
        (["checkpoint_epoch=3.pt", "checkpoint_epoch=4.pt.tmp", "checkpoint_epoch=x.pt"], "checkpoint_epoch=3.pt"),
    ],
)
def test_latest_checkpoint_is_that_of_the_last_epoch(tmp_path, names, expected):
    for name in names:
        (tmp_path / name).touch()
    assert latest_checkpoint(tmp_path) == str(tmp_path / expected)
    assert latest_checkpoint(str(tmp_path)) == str(tmp_path / expected)


def test_no_checkpoint(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "absent") is None
    (tmp_path / "model.pt").touch()
    assert latest_checkpoint(tmp_path) is None


def test_checkpoints_do_not_matter_unless_resumed(tmp_path):
    (tmp_path / "checkpoint_epoch=1.pt").touch()
    assert latest_checkpoint(tmp_path, resume=False) is None
    assert latest_checkpoint(tmp_path, resume=False, required=True) is None


def test_required_checkpoint(tmp_path):
    with pytest.raises(OutputDirError, match="checkpoint"):
        latest_checkpoint(tmp_path, required=True)
    (tmp_path / "checkpoint_epoch=1.pt").touch()
    assert latest_checkpoint(tmp_path, required=True) == str(tmp_path / "checkpoint_epoch=1.pt")


@pytest.mark.parametrize("resume", [False, True])
def test_folder_is_made_with_its_parents(tmp_path, resume):
    folder = tmp_path / "a" / "b"
    prepare_output_dir(str(folder), resume)
    assert folder.is_dir()
    prepare_output_dir(folder, resume)  # still empty


@pytest.mark.parametrize("content", ["file", "folder", ".hidden"])
def test_folder_with_results_is_refused_unless_resumed(tmp_path, content):
    folder = tmp_path / "run"
    folder.mkdir()
    if content == "folder":
        (folder / "tensorboard").mkdir()
    else:
        (folder / content).write_text("result")
    before = sorted(folder.iterdir())
    with pytest.raises(OutputDirError, match=r"run.*not empty.*--resume"):
        prepare_output_dir(folder)
    prepare_output_dir(folder, resume=True)
    assert sorted(folder.iterdir()) == before


def test_a_file_in_its_place_is_an_error(tmp_path):
    file = tmp_path / "run"
    file.touch()
    with pytest.raises(OSError, match="run"):
        prepare_output_dir(file)
