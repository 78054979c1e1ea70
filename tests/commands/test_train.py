"""The commands ``train``, ``evaluate``, ``predict`` and ``list``: the lines they print, and that these lines run."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai.bundle.__main__
import nibabel as nib
import pytest
import torch
import yaml
from fire.parser import DefaultParseValue
from hypothesis import given
from hypothesis import strategies as st

from sizeloss_monai.bundle.guard import typed_settings
from sizeloss_monai.cli.bundles import bundles, find_overlay
from sizeloss_monai.cli.main import main
from sizeloss_monai.cli.run import _for_fire
from sizeloss_monai.phantoms import write_cine_phantoms
from tests.support import ROOT
from tests.support.bundle_runs import BUNDLES, CINE, SCRIBBLES, VOLUMES

PROGRAM = monai.bundle.__main__.__file__
TINY = {
    "slice_size": [64, 64],
    "pixdim": [3.0, 3.0, -1.0],
    "network_def": {"_target_": "UNet", "spatial_dims": 2, "in_channels": 1, "out_channels": "@num_classes"}
    | {"channels": [8, 16], "strides": [2], "norm": "batch"},
}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., dict[str, Any]]:
    """The settings of the line that a command prints and hands over, which is not run."""
    handed: list[list[str]] = []
    monkeypatch.setattr("runpy.run_module", lambda name, **_: handed.append([name, *sys.argv[1:]]))
    monkeypatch.chdir(ROOT)

    def run(*argv: str | Path) -> dict[str, Any]:
        handed.clear()
        before = sys.argv
        assert main([str(word) for word in argv]) == 0
        assert sys.argv is before
        printed = capsys.readouterr().out.splitlines()[-1]
        (words,) = handed
        assert shlex.split(printed) == ["python", "-m", *words]
        settings: dict[str, Any] = dict(typed_settings([PROGRAM, *words[1:]]))
        settings["config_file"] = DefaultParseValue(settings["config_file"])
        return settings

    return run


def write_run(folder: Path, command: list[str], **noted: Any) -> Path:
    """A run's folder whose training was started by this command."""
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps([{"command": command, **noted}]))
    return folder


def training(*files: str | Path, **settings: object) -> list[str]:
    """The command of a training, as run.json has it."""
    options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    return [PROGRAM, "run", "--config_file", str([str(file) for file in files]), *options]


def train_yaml(bundle: str) -> str:
    return f"bundles/{bundle}/configs/train.yaml"


def overlay(name: str) -> str:
    return str(find_overlay(name, "supervision").relative_to(ROOT))


# ------------------------------------------------------------------------------------------------------------- train


def test_train_orders_files_as_the_readme_does(command: Callable) -> None:
    settings = command(
        *("train", CINE, "--supervision", "common_bounds", "lagrangian", "--protocol", "small"),
        *("--dataset_dir", "data/acdc", "--output_dir", "runs/a b", "--resume", "--use_x", "--seed", "-1"),
    )
    files = settings.pop("config_file")
    assert files == [train_yaml(CINE), *map(overlay, ("small", "common_bounds", "lagrangian"))]
    assert settings == {
        **{"output_dir": "runs/a b", "resume": "True", "dataset_dir": "data/acdc"},
        **{"use_x": None, "seed": "-1"},
    }


@pytest.mark.parametrize("folder", ["scans#2", "20240115", "@home", "$x", "-scans", "a'b", 'a"b', "a b", "None", "1e5"])
def test_train_hands_over_what_was_typed(folder: str, command: Callable) -> None:
    assert command("train", CINE, f"--dataset_dir={folder}")["dataset_dir"] == folder


def test_train_takes_files_and_folders(tmp_path: Path, command: Callable) -> None:
    own = tmp_path / "own#1.yaml"
    own.write_text("epochs: 1")
    settings = command("train", ROOT / "bundles" / CINE, "--supervision", own, "--flag", "false", "--epochs=3")
    assert settings == {"config_file": [train_yaml(CINE), str(own)], "flag": "False", "epochs": "3"}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["cine_lv_segmentatio"], f"bundle: found 'cine_lv_segmentatio', did you mean {CINE}"),
        ([CINE, "--protocol", "smal"], "protocol: found 'smal', did you mean small"),
        ([CINE, "--supervision", "tags", "comon_bounds"], "supervision: found 'comon_bounds', did you mean common_bou"),
        (["xyz"], "expected one of cardiac_scribble_segmentation, "),
    ],
)
def test_unknown_names(argv: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["train", *argv]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("sizeloss-monai: error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["stray"], "found 'stray', expected settings as --name value"),
        (["--epochs", "3", "4"], "found '4', expected settings as --name value"),
        (["-e", "3"], "found '-e', expected settings as --name value"),
        (["--config_file", "x.yaml"], "config files are chosen by BUNDLE, --protocol and --supervision"),
    ],
)
def test_arguments_that_are_no_settings(options: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train", CINE, *options])
    assert message in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------- settings of the run


def test_evaluate_needs_no_setting_again(tmp_path: Path, command: Callable) -> None:
    files = [train_yaml(CINE), overlay("small"), overlay("common_bounds")]
    typed = {"dataset_dir": "20240115", "pixdim": "[1.0,1.0,-1.0]", "output_dir": "elsewhere"}
    line = training(*files, f"bundles/{CINE}/configs/multi_gpu_train.yaml", **typed, resume="True", tracking="mlflow")
    run = write_run(tmp_path / "run", line)
    expected = {"config_file": [*files, f"bundles/{CINE}/configs/evaluate.yaml"], **typed, "output_dir": str(run)}
    assert command("evaluate", run) == expected
    more = {"section": "test", "resume": "True", "dataset_dir": "other"}
    options = ["--section", "test", "--resume", "--dataset_dir", "other"]
    assert command("evaluate", run, *options) == {**expected, **more}


def test_paths_of_a_run_started_in_another_folder(tmp_path: Path, command: Callable) -> None:
    (tmp_path / "own.yaml").write_text("epochs: 1")
    files = [os.path.relpath(ROOT / train_yaml(CINE), tmp_path), "own.yaml"]
    line = training(*files, dataset_dir="data", datalist_file="$@dataset_dir + '/list.json'", pattern="a/b")
    settings = command("evaluate", write_run(tmp_path / "run", line, working_folder=str(tmp_path)))
    expected = [train_yaml(CINE), str(tmp_path / "own.yaml"), f"bundles/{CINE}/configs/evaluate.yaml"]
    assert settings["config_file"] == expected
    assert settings["dataset_dir"] == str(tmp_path / "data")
    assert settings["datalist_file"] == "$@dataset_dir + '/list.json'"
    assert settings["pattern"] == "a/b"


@pytest.mark.parametrize("name", ["evaluate", "predict"])
@pytest.mark.parametrize(
    "line", [None, [], ["train.py", "--epochs", "3"], [PROGRAM, "run", "--args_file", "x.json"], [PROGRAM, "run"]]
)
def test_run_that_says_no_command_of_monai(name: str, line: Any, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = write_run(tmp_path / "run", line)
    assert main([name, str(run), *(["scan.nii.gz"] if name == "predict" else [])]) == 1
    err = capsys.readouterr().err
    assert "run.json': found no line of 'monai.bundle run'" in err
    assert f"by hand, with {'evaluate' if name == 'evaluate' else 'inference'}.yaml" in err
    assert err.count("\n") == 1


def test_run_whose_config_files_are_gone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = write_run(tmp_path / "run", training("gone/train.yaml"))
    assert main(["evaluate", str(run)]) == 1
    assert "found no config file 'gone/train.yaml', expected that of the training" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path)]) == 1
    assert "found no run.json in it" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------------- predict


def test_predict_takes_over_what_differs_from_inference(tmp_path: Path, command: Callable) -> None:
    line = training(train_yaml(CINE), overlay("small"), pixdim="[1.0,1.0,-1.0]", dataset_dir="d", device="cpu", seed=3)
    settings = command("predict", write_run(tmp_path / "run", line), "scan.nii.gz", "--output_dir", "masks")
    small = yaml.safe_load(find_overlay("small", "protocol").read_text())
    assert settings.pop("config_file") == [f"bundles/{CINE}/configs/inference.yaml"]
    assert DefaultParseValue(settings.pop("network_def")) == small["network_def"]
    assert settings == {
        **{"dataset_dir": "scan.nii.gz", "output_dir": "masks"},
        **{"network": small["network"], "pixdim": "[1.0, 1.0, -1.0]", "resample": "False"},
        "checkpoint": str(tmp_path / "run" / "checkpoints" / "model.pt"),
    }


def test_predict_takes_the_number_of_classes_from_the_record(
    tmp_path: Path, command: Callable, capsys: pytest.CaptureFixture
) -> None:
    line = training(train_yaml(SCRIBBLES), dataset_dir="d", num_classes="$max(@target_ids) + 1")
    run = write_run(tmp_path / "run", line, num_classes=3)
    assert command("predict", run, "scan.nii.gz")["num_classes"] == "3"
    run = write_run(tmp_path / "run", line, num_classes=4)  # as in inference.yaml
    assert "num_classes" not in command("predict", run, "scan.nii.gz")
    run = write_run(tmp_path / "older", line)
    assert command("predict", run, "scan.nii.gz", "--num_classes", "2")["num_classes"] == "2"
    assert main(["predict", str(run), "scan.nii.gz"]) == 1
    assert "'num_classes' must be given as --num_classes" in capsys.readouterr().err


@pytest.mark.parametrize("bundle", BUNDLES)
def test_predict_needs_nothing_for_a_bundle_as_it_is(bundle: str, tmp_path: Path, command: Callable) -> None:
    classes = yaml.safe_load((ROOT / "bundles" / bundle / "configs" / "inference.yaml").read_text())["num_classes"]
    run = write_run(tmp_path / "run", training(train_yaml(bundle)), num_classes=classes)
    settings = command("predict", run, "scan.nii.gz")
    same = settings.keys() - {"config_file", "checkpoint", "dataset_dir", "output_dir", "network"}
    # windows are smaller than the slices of training where inference.yaml says so
    assert same <= {"slice_size"}


def test_predict_with_the_weights_of_a_bundle(
    tmp_path: Path, command: Callable, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {"config_file": [f"bundles/{CINE}/configs/inference.yaml"], "dataset_dir": "x", "output_dir": "masks"}
    assert command("predict", CINE, "x", "--output_dir", "masks") == expected
    monkeypatch.chdir(tmp_path)
    settings = command("predict", CINE, "x")
    assert settings["bundle_root"] == str(ROOT / "bundles" / CINE)
    assert main(["predict", VOLUMES, "x"]) == 1
    assert "expected models/model.pt" in capsys.readouterr().err


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_fire_reads_what_it_is_given(value: Any) -> None:
    assert DefaultParseValue(_for_fire(value)) == value


# -------------------------------------------------------------------------------------------------------------- list


def test_list_has_every_bundle_and_overlay(capsys: pytest.CaptureFixture) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = {line.split()[0] for line in lines if line.startswith("  ")}
    assert names == {*BUNDLES, *(file.stem for file in (ROOT / "configs").rglob("*.yaml"))}
    assert set(bundles()) == set(BUNDLES)
    assert all(line.endswith((".", ").")) for line in lines if line.startswith("  "))  # whole sentences
    (line,) = (line for line in lines if line.startswith(f"  {CINE} "))
    assert line.endswith("without full masks (with released weights).")


# ------------------------------------------------------------------------------------------------------- a whole run


def test_train_evaluate_predict_and_the_printed_line(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    write_cine_phantoms(tmp_path / "scans#2", num_patients=4, seed=0, splits=(0.5, 0.25, 0.25))

    def run(*words: str) -> list[str]:
        done = subprocess.run(
            words,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()

    def command(*words: str) -> list[str]:
        return run(sys.executable, "-m", "sizeloss_monai", *words)

    options = ["--dataset_dir", "scans#2", "--epochs", "2", "--batch_size", "8", "--device", "$torch.device('cpu')"]
    trained = command(
        *("train", CINE, "--supervision", "common_bounds", "--protocol", "tiny.yaml", "--output_dir", "runs/first"),
        *options,
    )
    line, *told = trained
    assert line.startswith('python -m monai.bundle run --config_file "[')
    epochs = [text for text in told if text.startswith("epoch ")]
    assert [text.split(":")[0] for text in epochs] == ["epoch 1/2", "epoch 2/2"]
    assert all(f" {name} " in epochs[0] for name in ("partial_ce", "size", "val_mean_dice"))
    # besides them our own notes alone
    assert all("sizeloss_monai" in text for text in told if text not in epochs)

    # the line by itself gives the same weights
    first, second = tmp_path / "runs" / "first", tmp_path / "runs" / "second"
    run(sys.executable, *shlex.split(line.replace("runs/first", "runs/second"))[1:])
    weights = [torch.load(folder / "checkpoints" / "checkpoint_epoch=2.pt")["model"] for folder in (first, second)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    starts = [json.loads((folder / "run.json").read_text()) for folder in (first, second)]
    commands = [" ".join(start[0]["command"]) for start in starts]
    assert commands[0].replace("first", "second") == commands[1]

    *_, scores = command("evaluate", "runs/first")
    assert scores.startswith("2/2: ")
    assert "val_hd95_mm" in scores
    assert (first / "evaluation" / "validation" / "metrics.csv").is_file()

    scan = tmp_path / "scans#2" / "patient004_ED.nii.gz"
    chosen, *_ = command("predict", "runs/first", "scans#2/patient004_ED.nii.gz", "--output_dir", "masks")
    assert "model.pt, best by val_mean_dice: epoch" in chosen
    mask = nib.load(tmp_path / "masks" / "patient004_ED_seg.nii.gz")
    assert mask.shape == nib.load(scan).shape
