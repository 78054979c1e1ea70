"""The bundle from weak labels to a mask on a new scan, by `python -m monai.bundle run` in processes of its own."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from monai.bundle import ConfigParser
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sizeloss_monai.__main__ import main
from sizeloss_monai.sizes.table import read_sizes
from tests.support import ROOT
from tests.support.bundle_runs import BUNDLE, Run

TRAIN = f"{BUNDLE}/train.yaml"
EVALUATE = f"{BUNDLE}/evaluate.yaml"
INFERENCE = f"{BUNDLE}/inference.yaml"


def succeeded(result: subprocess.CompletedProcess[str]) -> None:
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]


@pytest.fixture(scope="module")
def trained(
    train_options: dict[str, object], tiny: str, run_bundle: Run, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("runs") / "individual"
    succeeded(run_bundle(TRAIN, tiny, "configs/supervision/individual_bounds.yaml", output_dir=output, **train_options))
    return output


@pytest.fixture(scope="module")
def resumed(
    trained: Path, train_options: dict[str, object], tiny: str, run_bundle: Run
) -> subprocess.CompletedProcess[str]:
    options = {**train_options, "output_dir": trained, "resume": "true", "epochs": 3}
    return run_bundle(TRAIN, tiny, "configs/supervision/individual_bounds.yaml", **options)


def test_training_leaves_best_and_last_checkpoint(trained: Path) -> None:
    files = {path.name for path in (trained / "checkpoints").iterdir()}
    assert "model.pt" in files
    assert sum(name.startswith("checkpoint_epoch=") for name in files) == 1
    torch.load(trained / "checkpoints" / "model.pt", weights_only=True)


def test_training_logs_every_term_and_overlays(trained: Path) -> None:
    scalars: dict[str, list[float]] = {}
    images: list[str] = []
    for file in (trained / "tensorboard").iterdir():
        events = EventAccumulator(str(file)).Reload()
        scalars |= {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
        images += events.Tags()["images"]
    assert {"partial_ce", "size", "loss", "val_mean_dice", "val_slice_dice", "train_size"} <= set(scalars)
    total = np.add(scalars["partial_ce"], scalars["size"])
    np.testing.assert_allclose(total, scalars["loss"], rtol=1e-5)
    assert any(tag.startswith("overlay/") for tag in images)


def test_resume_goes_on_from_the_last_epoch(trained: Path, resumed: subprocess.CompletedProcess[str]) -> None:
    succeeded(resumed)
    assert "Epoch[3]" in resumed.stdout + resumed.stderr
    assert "Epoch[1] Metrics" not in resumed.stdout
    assert {path.name for path in (trained / "checkpoints").iterdir()} == {"model.pt", "checkpoint_epoch=3.pt"}
    last = torch.load(trained / "checkpoints" / "checkpoint_epoch=3.pt", weights_only=True)
    assert {"model", "optimizer", "lr_scheduler", "trainer"} <= set(last)


def test_resume_keeps_the_best_epoch(
    trained: Path, resumed: object, train_options: dict[str, object], tiny: str, run_bundle: Run, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    best = (run / "checkpoints" / "model.pt").read_bytes()
    last = run / "checkpoints" / "checkpoint_epoch=3.pt"
    state = torch.load(last, weights_only=True)
    for tensor in state["model"].values():
        tensor.zero_()  # a network that segments nothing, and at this learning rate never will
    for group in state["optimizer"]["param_groups"]:
        group["lr"] = 0.0
    torch.save(state, last)
    options = {**train_options, "output_dir": run, "resume": "true", "epochs": 4}
    succeeded(run_bundle(TRAIN, tiny, "configs/supervision/individual_bounds.yaml", **options))
    assert (run / "checkpoints" / "checkpoint_epoch=4.pt").is_file()
    assert (run / "checkpoints" / "model.pt").read_bytes() == best


def test_a_finished_run_is_not_overwritten(
    trained: Path, train_options: dict[str, object], tiny: str, run_bundle: Run
) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()}
    result = run_bundle(TRAIN, tiny, output_dir=trained, **train_options)
    assert result.returncode != 0
    assert result.stderr.strip().splitlines()[-1].startswith("OutputDirError: output_dir")
    assert before == {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()}


def test_evaluate_writes_a_row_a_case(
    trained: Path, resumed: object, phantoms: Path, tiny: str, run_bundle: Run, tmp_path: Path
) -> None:
    datalist = json.loads((phantoms / "datalist.json").read_text())
    datalist["size_bounds"] = {"per": "volume", "unit": "mL", "bounds": {"3": [0, None]}}
    datalist["test"][1] |= {"size_bounds": {"3": [2000, None]}, "tags": {"3": True, "1": [1, 2]}}  # of one case only
    (tmp_path / "list.json").write_text(json.dumps(datalist))
    options = {"dataset_dir": phantoms, "datalist_file": tmp_path / "list.json", "section": "test"}
    succeeded(run_bundle(TRAIN, tiny, EVALUATE, output_dir=trained, **options))
    folder = trained / "evaluation" / "test"
    for metric in ("val_mean_dice", "val_slice_dice", "val_hd95_mm"):
        with (folder / f"{metric}_raw.csv").open() as file:
            rows = list(csv.reader(file))
        assert len(rows) == 1 + 2, rows  # a heading, both phases of one patient
        assert all(row[0].startswith("patient") for row in rows[1:])
    sizes = read_sizes(folder / "sizes.csv")
    assert [row.case for row in sizes] == [row[0] for row in rows[1:]]
    assert [row.lower_ml for row in sizes] == [0, 2000]
    assert [row.violation_ml for row in sizes] == [0, pytest.approx(sizes[1].hard_ml - 2000)]
    assert main(["report", str(trained)]) == 0
    page = (trained / "report.html").read_text()
    assert all(f"{row.hard_ml:.2f}" in page and f"{row.true_ml:.2f}" in page for row in sizes)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mhd"])
def test_released_weights_find_the_cavity_on_the_grid_of_any_scan(
    phantoms: Path, tmp_path: Path, run_bundle: Run, suffix: str
) -> None:
    source = phantoms / "patient001_ED.nii.gz"
    scan, truth = sitk.ReadImage(str(source)), sitk.ReadImage(str(source).replace("_ED", "_ED_gt")) == 3

    def views(image: sitk.Image) -> dict[str, sitk.Image]:
        # as stored, with the slices along the first axis, and mirrored; all oblique
        mirrored = sitk.Flip(image, (True, False, True))
        return {"plain": image, "permuted": sitk.PermuteAxes(image, (2, 0, 1)), "flipped": mirrored}

    scans = tmp_path / "scans"
    scans.mkdir()
    for name, image in views(scan).items():
        sitk.WriteImage(image, str(scans / f"{name}{suffix}"))
    succeeded(run_bundle(INFERENCE, dataset_dir=scans, output_dir=tmp_path / "masks"))
    masks = {}
    for name, image in views(scan).items():
        mask = masks[name] = sitk.ReadImage(str(tmp_path / "masks" / f"{name}_seg.nii.gz"))
        assert mask.GetSize() == image.GetSize()
        np.testing.assert_allclose(mask.GetSpacing(), image.GetSpacing(), rtol=1e-5)
        np.testing.assert_allclose(mask.GetOrigin(), image.GetOrigin(), atol=1e-3)
        np.testing.assert_allclose(mask.GetDirection(), image.GetDirection(), atol=1e-5)
        found, wanted = (sitk.GetArrayFromImage(volume) > 0 for volume in (mask, views(truth)[name]))
        assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.6, name
    plain = sitk.GetArrayFromImage(masks["plain"])
    np.testing.assert_array_equal(plain, sitk.GetArrayFromImage(sitk.PermuteAxes(masks["permuted"], (1, 2, 0))))


def test_the_best_epoch_segments_a_scan(
    trained: Path, phantoms: Path, tiny: str, run_bundle: Run, tmp_path: Path
) -> None:
    scan = phantoms / "patient001_ED.nii.gz"
    best = trained / "checkpoints" / "model.pt"
    succeeded(run_bundle(INFERENCE, tiny, dataset_dir=scan, checkpoint=best, output_dir=tmp_path / "masks"))
    assert (tmp_path / "masks" / "patient001_ED_seg.nii.gz").is_file()


def test_processes_train_together(train_options: dict[str, object], tiny: str, run_bundle: Run, tmp_path: Path) -> None:
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m")
    result = run_bundle(
        TRAIN, tiny, f"{BUNDLE}/multi_gpu_train.yaml", launcher=launcher, output_dir=tmp_path / "run", **train_options
    )
    succeeded(result)
    names = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert names == {"model.pt", "checkpoint_epoch=2.pt"}
    state = torch.load(tmp_path / "run" / "checkpoints" / "model.pt", weights_only=True)
    assert not any(key.startswith("module.") for key in state)


def test_released_weights_export_to_torchscript(tmp_path: Path) -> None:
    exported = tmp_path / "model.ts"
    command = [
        *(sys.executable, "-m", "monai.bundle", "ckpt_export", "--net_id", "network_def"),
        *("--filepath", str(exported), "--meta_file", f"{BUNDLE}/metadata.json", "--config_file", INFERENCE),
        *("--ckpt_file", "bundles/cine_lv_segmentation/models/model.pt"),
    ]
    succeeded(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600))
    parser = ConfigParser(ConfigParser.load_config_file(str(ROOT / INFERENCE)))
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(ROOT / "bundles/cine_lv_segmentation/models/model.pt", weights_only=True))
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(exported)(image), network(image))
