"""Faults of the machine and names that are read amiss: each ends in the right result or in one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sizeloss_monai.bundle import OutputDirError
from sizeloss_monai.data.whole_files import UNFINISHED
from sizeloss_monai.errors import DataError
from tests.support import ROOT
from tests.support.bundle_runs import BUNDLE, CINE, Run, make_workflow

CONFIGS = ROOT / BUNDLE
COSINE = """
lr_scheduler: {_target_: torch.optim.lr_scheduler.CosineAnnealingLR, optimizer: "@optimizer", T_max: "@epochs"}
"""


def succeeded(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout + result.stderr


def failed(result: subprocess.CompletedProcess[str]) -> str:
    """The line that a run ended with."""
    assert result.returncode == 1
    assert "Traceback" not in result.stdout + result.stderr
    return result.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def cosine(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("configs") / "cosine.yaml"
    file.write_text(COSINE)
    return str(file)


@pytest.fixture(scope="module")
def trained(phantoms: Path, tiny: str, cosine: str, run_bundle: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs in a folder `@home`, from scans in a folder `scans#2`."""
    folder = tmp_path_factory.mktemp("names")
    shutil.copytree(phantoms, folder / "scans#2")
    (folder / "scans").mkdir()  # to be taken for the other one
    options = {"bundle_root": CONFIGS.parent, "dataset_dir": "scans#2", "output_dir": "@home", "epochs": 2}
    succeeded(run_bundle(str(CONFIGS / "train.yaml"), tiny, cosine, cwd=folder, batch_size=8, **options))
    assert {path.name for path in folder.iterdir()} == {"scans", "scans#2", "@home"}
    return folder


def test_evaluation_and_inference_of_names_that_are_read_amiss(
    trained: Path, tiny: str, cosine: str, run_bundle: Run
) -> None:
    shutil.copytree(trained / "scans#2", trained / "20240115")
    options = {"bundle_root": CONFIGS.parent, "dataset_dir": "20240115"}
    files = (str(CONFIGS / "train.yaml"), tiny, cosine, str(CONFIGS / "evaluate.yaml"))
    succeeded(run_bundle(*files, cwd=trained, output_dir="@home", section="test", **options))
    evaluation = trained / "@home" / "evaluation" / "test"
    assert {"cases.json", "sizes.csv", "metrics.csv", "run.json", "val_mean_dice_raw.csv"} <= set(
        os.listdir(evaluation)
    )
    assert not list(evaluation.rglob(".*"))
    shutil.copy(trained / "@home" / "checkpoints" / "model.pt", trained / "a,b")
    files = (str(CONFIGS / "inference.yaml"), tiny)
    succeeded(run_bundle(*files, cwd=trained, output_dir="$é {x}", pattern="*_ED.nii.gz", checkpoint="a,b", **options))
    assert len(list((trained / "$é {x}").iterdir())) == 4


def test_more_epochs_than_the_schedule_was_made_for(
    trained: Path, tiny: str, cosine: str, run_bundle: Run, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(trained / "@home", tmp_path / "run"))
    left = run / "checkpoints" / f"{UNFINISHED}1234-model.pt"
    left.touch()
    options = {"dataset_dir": trained / "scans#2", "output_dir": run, "resume": "true", "epochs": 6, "batch_size": 8}
    told = succeeded(run_bundle(str(CONFIGS / "train.yaml"), tiny, cosine, cwd=tmp_path, **options))
    assert "the learning rate goes on at 0.000375, not at 0:" in told
    state = torch.load(run / "checkpoints" / "checkpoint_epoch=6.pt", weights_only=True)
    assert state["lr_scheduler"]["T_max"] == 6
    assert state["lr_scheduler"]["last_epoch"] == 6
    assert not left.exists()
    assert not (run / ".lock").exists()


def test_two_runs_in_one_folder(phantoms: Path, tiny: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", f"['{CONFIGS / 'train.yaml'}','{tiny}']"]
    command += ["--dataset_dir", str(phantoms), "--output_dir", str(tmp_path / "run"), "--epochs", "40"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        try:
            end = time.monotonic() + 100
            while not (tmp_path / "run" / "run.json").is_file():
                assert first.poll() is None
                assert time.monotonic() < end
                time.sleep(0.1)
            second = subprocess.run([*command, "--resume", "true"], capture_output=True, text=True, check=False)
            assert first.poll() is None
        finally:
            first.kill()
    line = failed(second)
    assert line.startswith("OutputDirError: output_dir")
    assert "another run writes into it" in line
    assert len(json.loads((tmp_path / "run" / "run.json").read_text())) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 100 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("only a privileged user may make a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_training_on_a_full_disk(phantoms: Path, tiny: str, run_bundle: Run, small_disk: Path) -> None:
    options = {"dataset_dir": phantoms, "output_dir": small_disk / "run", "epochs": 3, "batch_size": 8}
    line = failed(run_bundle(str(CONFIGS / "train.yaml"), tiny, **options))
    assert "No space left on device" in line
    assert not list(small_disk.rglob(f"{UNFINISHED}*"))
    for file in small_disk.rglob("*.pt"):
        torch.load(file, weights_only=True)
    json.loads((small_disk / "run" / "run.json").read_text())


def test_inference_on_a_full_disk(trained: Path, tiny: str, run_bundle: Run, small_disk: Path) -> None:
    (small_disk / "fill").write_bytes(b"0" * 96 * 1024)
    options = {"dataset_dir": trained / "scans#2", "checkpoint": trained / "@home" / "checkpoints" / "model.pt"}
    line = failed(run_bundle(str(CONFIGS / "inference.yaml"), tiny, output_dir=small_disk / "masks", **options))
    assert "No space left on device" in line
    assert all(file.stat().st_size for file in (small_disk / "masks").glob("*.nii.gz"))


def test_a_file_in_the_place_of_the_folder(phantoms: Path, tiny: str, run_bundle: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    line = failed(run_bundle(str(CONFIGS / "train.yaml"), tiny, dataset_dir=phantoms, output_dir=tmp_path / "file/run"))
    assert line.startswith(f"OutputDirError: output_dir '{tmp_path}/file/run' cannot be written to: Not a directory")
    assert (tmp_path / "file").read_text() == "mine"


def nan(state: dict[str, Any]) -> dict[str, Any]:
    next(iter(state["model"].values())).fill_(float("nan"))
    return state


def first_bytes(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


def rewritten(make: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    return lambda file: torch.save(make(torch.load(file, weights_only=True)), file)


DAMAGES = {
    "list": (rewritten(lambda state: [1, 2]), "found a list in"),
    "text": (lambda file: file.write_text("weights"), "cannot be read"),
    "NaN": (rewritten(nan), "found NaN or infinite weights in"),
    "cut off": (first_bytes, "cannot be read"),
    "another network": (rewritten(lambda state: {**state, "model": {"a": torch.zeros(1)}}), "another network"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("what", ["inference", "evaluation", "resumption"])
def test_weights_that_are_none(trained: Path, tiny: str, tmp_path: Path, what: str, damage: str) -> None:
    change, words = DAMAGES[damage]
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    shutil.copy(trained / "@home" / "run.json", run)
    shutil.copy(trained / "@home" / "checkpoints" / "checkpoint_epoch=2.pt", run / "checkpoints")
    file = run / "checkpoints" / "checkpoint_epoch=2.pt"
    change(file)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    # MONAI's `#` cannot be in a path that Python gives
    data = Path(shutil.copytree(trained / "scans#2", tmp_path / "scans"))
    if what == "inference":
        workflow = make_workflow(
            CINE, ["inference.yaml", tiny], data, tmp_path / "masks", "infer", checkpoint=str(file)
        )  # fmt: skip
    else:
        files = ["train.yaml", tiny] if what == "resumption" else ["train.yaml", tiny, "evaluate.yaml"]
        workflow = make_workflow(CINE, files, data, run, resume=what == "resumption")
    with pytest.raises(Exception) as caught:  # noqa: PT011
        workflow.initialize()
    message = next(str(error) for error in chain(caught.value) if isinstance(error, OutputDirError))
    assert words in message
    assert "epoch=2.pt" in message
    assert "\n" not in message
    after = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != ".lock"}
    assert after == before
    assert not (tmp_path / "masks").exists()


def test_a_run_json_that_was_cut_off(trained: Path, phantoms: Path, tiny: str, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained / "@home", tmp_path / "run"))
    (run / "run.json").write_text((run / "run.json").read_text()[:300])
    workflow = make_workflow(CINE, ["train.yaml", tiny], phantoms, run, resume=True)
    with pytest.raises(RuntimeError) as caught:
        workflow.initialize()
    message = next(str(error) for error in chain(caught.value) if isinstance(error, DataError))
    assert "run.json' is not valid JSON" in message
    assert "Move the file away to go on" in message


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
