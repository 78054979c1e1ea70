import json
import subprocess
import sys

import pytest
import torch

from sizeloss_monai.bundle import (
    OutputDirError,
    check_checkpoint,
    latest_checkpoint,
    prepare_output_dir,
    record_run,
    release_output_dir,
)
from sizeloss_monai.data.whole_files import UNFINISHED
from sizeloss_monai.errors import DataError


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
        torch.save({"a": torch.ones(2)}, tmp_path / name)
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
    torch.save({"a": torch.ones(2)}, tmp_path / "checkpoint_epoch=1.pt")
    assert latest_checkpoint(tmp_path, required=True) == str(tmp_path / "checkpoint_epoch=1.pt")


def test_nothing_to_resume_from_is_said(tmp_path, caplog):
    assert latest_checkpoint(tmp_path / "typo") is None
    assert caplog.messages == [f"resume: found no checkpoint in {str(tmp_path / 'typo')!r}: starting from epoch 1."]


def torn(path, keep):
    """A checkpoint of which only a share was written."""
    torch.save({"a": torch.arange(1000)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.99])
def test_a_torn_checkpoint_is_passed_over(tmp_path, caplog, keep):
    whole, part = tmp_path / "checkpoint_epoch=24.pt", tmp_path / "checkpoint_epoch=25.pt"
    torch.save({"a": torch.ones(2)}, whole)
    torn(part, keep)
    assert latest_checkpoint(tmp_path) == str(whole)
    (message,) = caplog.messages
    assert str(whole) in message
    assert str(part) in message


def test_a_checkpoint_with_a_changed_byte_is_passed_over(tmp_path):
    torn(tmp_path / "checkpoint_epoch=2.pt", 1)
    content = bytearray((tmp_path / "checkpoint_epoch=2.pt").read_bytes())
    content[content.index(bytes([9, 0, 0, 0, 0, 0, 0, 0, 10]))] = 7
    (tmp_path / "checkpoint_epoch=2.pt").write_bytes(content)
    torch.save({"a": torch.ones(2)}, tmp_path / "checkpoint_epoch=1.pt")
    assert latest_checkpoint(tmp_path) == str(tmp_path / "checkpoint_epoch=1.pt")


def test_torn_checkpoints_alone_are_no_reason_to_start_again(tmp_path):
    torn(tmp_path / "checkpoint_epoch=2.pt", 0.5)
    with pytest.raises(OutputDirError, match=r"epoch=2\.pt', which cannot be read"):
        latest_checkpoint(tmp_path)


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
    assert sorted(path for path in folder.iterdir() if path.name != ".lock") == before
    release_output_dir(folder)
    assert sorted(folder.iterdir()) == before


def test_a_file_in_its_place_is_an_error(tmp_path):
    file = tmp_path / "run"
    file.touch()
    with pytest.raises(OSError, match="run"):
        prepare_output_dir(file)


def classifier(num_classes, width=8):
    return torch.nn.Sequential(torch.nn.Conv2d(1, width, 3), torch.nn.Conv2d(width, num_classes, 1))


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_checkpoint_of_another_number_of_classes(tmp_path, wrapped):
    state, path = classifier(3).state_dict(), tmp_path / "model.pt"
    torch.save({"model": state} if wrapped else state, path)
    check_checkpoint(path, classifier(3), num_classes=3)
    with pytest.raises(OutputDirError, match=r"found 3 classes in .*model\.pt', expected 4: give --num_classes 3\.$"):
        check_checkpoint(path, classifier(4), num_classes=4)
    with pytest.raises(OutputDirError, match=r"found weights of another network .*'0\.weight' is \[8, 1, 3, 3\]"):
        check_checkpoint(path, classifier(3, width=4), num_classes=3)


HOLD = """
import sys, time
from sizeloss_monai.bundle import prepare_output_dir
prepare_output_dir(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


def test_another_process_holds_the_folder_until_it_is_killed(tmp_path):
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "held\n"
            for resume in (False, True):
                with pytest.raises(OutputDirError, match=r"run': another run writes into it"):
                    prepare_output_dir(folder, resume)
            (folder / "result").touch()
            with pytest.raises(OutputDirError, match=r"another run writes into it"):
                prepare_output_dir(folder)
        finally:
            other.kill()
    with pytest.raises(OutputDirError, match="not empty"):
        prepare_output_dir(folder)
    prepare_output_dir(folder, resume=True)
    release_output_dir(folder)
    assert [path.name for path in folder.iterdir()] == ["result"]
    release_output_dir(folder)  # nothing to do


def test_what_a_killed_run_left_is_removed(tmp_path):
    folder = tmp_path / "run"
    for sub in ("checkpoints", "evaluation/test", "evaluation/validation", f"evaluation/{UNFINISHED}tables"):
        (folder / sub).mkdir(parents=True)
        (folder / sub / f"{UNFINISHED}1234-a.pt").touch()
        (folder / sub / "tmpabcd").touch()  # of another program
    (folder / "evaluation" / "test" / ".lock").touch()  # an evaluation perhaps goes on
    with pytest.raises(OutputDirError, match="not empty"):
        prepare_output_dir(folder)
    assert len(list(folder.rglob("*1234*"))) == 4, "a refused run has removed something"
    prepare_output_dir(folder, resume=True)
    release_output_dir(folder)
    assert [path.parent.name for path in folder.rglob(f"{UNFINISHED}*")] == ["test"]
    assert len(list(folder.rglob("tmpabcd"))) == 3


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("file", "File exists|Not a directory"),
        ("file/run", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("/proc/run", "No such file|Permission|not permitted"),
    ],
)
def test_a_folder_that_cannot_be(tmp_path, place, reason, resume):
    (tmp_path / "file").touch()
    with pytest.raises(OutputDirError, match=f"(?s)cannot be written to: .*({reason})") as caught:
        prepare_output_dir(tmp_path / place, resume)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_lock_that_cannot_be_made(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(OutputDirError, match="cannot be written to"):
        prepare_output_dir(tmp_path)


STATE = classifier(3).state_dict()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "found a list in"),
        ("weights", "found a str in"),
        (torch.zeros(3), "found a Tensor in"),
        ({"model": [1]}, "found a list in"),
        ({"epoch": 3, **STATE}, "found a int 'epoch' in"),
        ({"model": {"0.weight": "text"}}, "found a str '0.weight' in"),
        ({}, "'0.bias' is not among them, 0 in all, expected 4"),
        ({"0.weight": STATE["0.weight"]}, "'0.bias' is not among them, 1 in all, expected 4"),
        ({**STATE, "2.weight": torch.zeros(2)}, "'2.weight' is among them, 5 in all, expected 4"),
        ({**STATE, "1.bias": torch.tensor([0.0, float("nan"), 0.0])}, "found NaN or infinite weights .*'1.bias'"),
        ({"model": {**STATE, "1.bias": torch.tensor([0.0, float("inf"), 0.0])}}, "found NaN or infinite weights"),
        (torch.nn.Linear(1, 1), "cannot be read"),
        ({1: torch.zeros(3)}, "found a Tensor 1 in"),
        ({**STATE, "1.bias": STATE["1.bias"].to("meta")}, "found a Tensor '1.bias' in"),
        ({**STATE, "1.bias": STATE["1.bias"].long()}, "found '1.bias' of type torch.int64 .*, expected torch.float32"),
        ({**STATE, "1.bias": STATE["1.bias"] + 1j}, "found '1.bias' of type torch.complex64 .*, expected"),
    ],
)
def test_a_file_of_no_weights(tmp_path, content, words):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(OutputDirError, match=words) as caught:
        check_checkpoint(tmp_path / "model.pt", classifier(3), num_classes=3)
    assert "\n" not in str(caught.value)
    assert "model.pt" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"text\n", b"PK\x03\x04", b"\x80\x02}q\x00", b"\0" * 500])
def test_a_file_of_another_kind(tmp_path, content):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(OutputDirError, match=r"model\.pt' cannot be read, expected") as caught:
        check_checkpoint(tmp_path / "model.pt", classifier(3), num_classes=3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_weights_cut_off(tmp_path, share):
    torch.save(STATE, tmp_path / "model.pt")
    content = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(OutputDirError, match=r"model\.pt' cannot be read, expected"):
        check_checkpoint(tmp_path / "model.pt", classifier(3))


def test_run_json_that_was_cut_off(tmp_path):
    record_run(tmp_path, seed=0)
    record_run(tmp_path, seed=1)
    file = tmp_path / "run.json"
    assert [start["seed"] for start in json.loads(file.read_text())] == [0, 1]
    for content in (file.read_text()[:200], "", "{}", "[1]", "null"):
        file.write_text(content)
        with pytest.raises(DataError, match=r"run\.json'.*Move the file away to go on") as caught:
            record_run(tmp_path, seed=2)
        assert "\n" not in str(caught.value)
        assert file.read_text() == content
