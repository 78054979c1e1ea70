"""Scripts do what they say, short of the trainings themselves."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from scripts.experiments import benchmark_growth, benchmark_step, reproduce, selection_study, tables
from scripts.tools import demo, score_masks
from sizeloss_monai.phantoms import write_cine_phantoms
from tests.support import ROOT


def test_the_demo_tabulates_what_its_evaluation_left(tmp_path: Path) -> None:
    for level in demo.LEVELS:
        folder = tmp_path / "runs" / level.config / "evaluation" / "test"
        folder.mkdir(parents=True)
        for metric in demo.METRICS:
            (folder / f"{metric}_raw.csv").write_text("filename,class0,mean\na,0.5,0.5\nb,0.7,0.7\nc,nan,nan\n")
    table = demo.Demo(tmp_path, jobs=1).write_results()
    assert "| partial CE | seeds | 0.600 ± 0.100 | 0.600 ± 0.100 | 0.6 ± 0.1 |" in table
    assert (tmp_path / "results.md").read_text() == table
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert lines[:2] == ["supervision,metric,mean,std,cases", "partial_ce,mean_dice,0.6000,0.1000,2"]
    assert len(lines) == 1 + len(demo.LEVELS) * len(demo.METRICS)


def test_the_demo_removes_nothing_but_its_own(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").touch()
    with pytest.raises(RuntimeError, match="was not made by this demo"):
        demo.remove_outputs(tmp_path)
    assert (tmp_path / "runs" / "mine").exists()
    (tmp_path / demo.MARKER).touch()
    demo.remove_outputs(tmp_path)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("protocol", ["small", "paper"])
def test_reproduce_prints_jobs_whose_configs_exist(protocol: str) -> None:
    options = ["--print", "--protocol", protocol, "--table", *tables.TABLES, "--seeds", "0", "1"]
    command = [sys.executable, "-m", "scripts.experiments.reproduce", *options]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert printed.returncode == 0, printed.stderr
    jobs = printed.stdout.splitlines()
    assert len(jobs) == len(set(jobs)), "rows that are the same run are run once"
    # tables 1 to 4, hippocampus and scribbles; common bounds, tags and full supervision on ACDC belong to several
    assert len(jobs) == 2 * (12 + (8 - 2) + 5 + 5 + (8 - 2) + 4 + 8)
    files = {part for job in jobs for part in job.split("'") if part.endswith(".yaml")}
    assert all((ROOT / file).is_file() for file in files)
    assert all(job.count(" && ") == 1 and "--seed" in job for job in jobs)


def test_every_experiment_is_a_row_of_a_table() -> None:
    rows = {row.run for name in tables.TABLES for row in tables.load_table(name).rows}
    assert rows == set(tables.SPECIFICATION["runs"])


def make_finished_run(folder: Path, dice: list[float], seed: int) -> None:
    """What a training and its evaluation leave, as far as tables and figures read it."""
    evaluation = folder / "evaluation" / "validation"
    evaluation.mkdir(parents=True)
    (evaluation / "metrics.csv").touch()
    for metric in ("val_mean_dice", "val_hd95_mm"):
        lines = [f"case{i},{value},{value}" for i, value in enumerate(dice)]
        (evaluation / f"{metric}_raw.csv").write_text("\n".join(["filename,class0,mean", *lines]) + "\n")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "checkpoint_epoch=3.pt").touch()
    machine = {"processor": "x86_64", "cores": 2, "threads": 1, "gpus": []}
    record = {"seed": seed, "commit": "abc", "packages": {"torch": "2"}, "machine": machine}
    (folder / "run.json").write_text(json.dumps([record]))
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        for epoch in (1, 2):
            writer.add_scalar("loss", 1.0, epoch)
            writer.add_scalar("val_mean_dice", dice[0] / epoch, epoch)
        writer.add_image("overlay/case0", torch.rand(3, 8, 32), 2)


def test_reproduce_tabulates_and_draws_what_is_finished(run_script: Callable[..., None], tmp_path: Path) -> None:
    runs = {("common_bounds", 0): [0.7, 0.9], ("common_bounds", 1): [0.6, 0.8], ("full", 0): [0.9, 1.0]}
    runs |= {("full_5", 0): [0.5, 0.6], ("hybrid_5", 0): [0.8, 0.8]}
    for (name, seed), dice in runs.items():
        make_finished_run(tmp_path / "runs" / f"small-seed{seed}" / "acdc" / name, dice, seed)
    options = ["--runs_dir", str(tmp_path / "runs"), "--results_dir", str(tmp_path / "results")]
    run_script(reproduce, "--collect", "--table", "2", "--seeds", "0", "1", *options)
    results = tmp_path / "results"
    with (results / "table2_small.csv").open() as file:
        records = list(csv.DictReader(file))
    means = [(record["row"], record["seed"], float(record["dice_3d_mean"])) for record in records]
    assert means == [
        ("common_bounds", "0", 0.8),
        ("common_bounds", "1", 0.7),
        ("full_5", "0", 0.55),
        ("hybrid_5", "0", 0.8),
        ("full", "0", 0.95),
    ]
    assert all(record["commit"] == "abc" and record["epochs"] == "3" for record in records)
    assert all("--seed" in record["command"] for record in records)
    table = (results / "table2_small.md").read_text().splitlines()
    assert "2D DSC" not in table[0], "a column without numbers"
    assert table[2].startswith("| weak, common bounds | 0.750 ± 0.071 |"), "deviation over the seeds' means"
    assert table[3].startswith("| n = 5, those alone | 0.550 ± 0.071 |"), "deviation over the cases"
    for picture in ("curves", "full_volumes", "examples"):
        image = Image.open(results / f"table2_small_{picture}.png")
        assert np.asarray(image.convert("L")).std() > 0, picture


def test_a_run_of_another_seed_is_refused(run_script: Callable[..., None], tmp_path: Path) -> None:
    make_finished_run(tmp_path / "runs" / "small-seed0" / "acdc" / "full", [0.9], seed=7)
    options = ["--runs_dir", str(tmp_path / "runs"), "--results_dir", str(tmp_path / "results")]
    with pytest.raises(SystemExit, match=r"was run with seed \[7\], not 0"):
        run_script(reproduce, "--collect", "--table", "1", *options)


def test_missing_data_are_named_before_anything_runs(
    run_script: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run_script(reproduce, "--table", "3", "--data_dir", str(tmp_path))
    assert f"no such folder: {tmp_path / 'promise12'}" in capsys.readouterr().err


def test_benchmark_of_steps(run_script: Callable[..., None], tmp_path: Path) -> None:
    options = ["--size", "32", "--rounds", "5", "--batch_sizes", "2", "--methods", "direct_2", "exact_2", "ascent_2"]
    run_script(benchmark_step, "--output", str(tmp_path / "t.csv"), *options)
    with (tmp_path / "t.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"partial_ce", "direct_2", "exact_2", "ascent_2"}
    assert float(rows["partial_ce"]["ratio"]) == 1
    assert float(rows["exact_2"]["dual_value"]) >= float(rows["ascent_2"]["dual_value"])
    assert float(rows["exact_2"]["violation"]) < 0.01


def test_benchmark_of_growth(run_script: Callable[..., None], tmp_path: Path) -> None:
    options = ["--largest", "4", "--axes", "batch", "slices", "--rounds", "1"]
    run_script(benchmark_growth, "--output", str(tmp_path / "growth"), *options)
    with (tmp_path / "growth.csv").open() as file:
        points = {(row["axis"], row["value"], row["method"]) for row in csv.DictReader(file)}
    assert ("batch", "4", "gradient_ascent") in points
    assert ("slices", "4", "volume_constraint") in points
    assert np.asarray(Image.open(tmp_path / "growth.png").convert("L")).std() > 0


def test_perfect_masks_score_one(run_script: Callable[..., None], tmp_path: Path) -> None:
    write_cine_phantoms(tmp_path / "data", num_patients=1, splits=(1.0, 0.0, 0.0))
    masks = tmp_path / "masks"
    masks.mkdir()
    for truth in (tmp_path / "data").glob("*_gt.nii.gz"):
        (masks / truth.name.replace("_gt", "_seg")).write_bytes(truth.read_bytes())
    options = ["--masks", str(masks), "--labels", str(tmp_path / "data"), "--output", str(tmp_path / "scores.csv")]
    run_script(score_masks, *options)
    rows = (tmp_path / "scores.csv").read_text().splitlines()
    assert rows[0] == "case,dice_3d,dice_2d,hd95_mm"
    assert [row.split(",")[1:] for row in rows[1:]] == [["1.0000", "1.0000", "0.0000"]] * 2


def test_scores_of_several_classes(run_script: Callable[..., None], tmp_path: Path) -> None:
    truth, mask = np.zeros((2, 8, 8, 2), dtype=np.uint8)
    truth[:4], truth[4:] = 3, 1
    mask[:4], mask[4:6] = 1, 2  # half of the second
    for name, ids in (("a_gt", truth), ("a_seg", mask)):
        nib.save(nib.Nifti1Image(ids, np.eye(4)), tmp_path / f"{name}.nii.gz")
    options = ["--masks", str(tmp_path), "--labels", str(tmp_path), "--label_id", "3", "1"]
    run_script(score_masks, *options, "--output", str(tmp_path / "scores.csv"))
    with (tmp_path / "scores.csv").open() as file:
        rows = [(row["case"], row["class"], float(row["dice_3d"])) for row in csv.DictReader(file)]
    assert rows == [("a", "1", 1.0), ("a", "2", 0.6667)]


def make_run_with_scores(folder: Path, scalars: dict[str, list[float]]) -> None:
    """What a training with configs/protocols/select_without_masks.yaml leaves, as far as the study reads it."""
    make_finished_run(folder, [0.5], seed=3)
    shutil.rmtree(folder / "tensorboard")
    record = json.loads((folder / "run.json").read_text())
    record[0]["command"] = [
        "/opt/x/__main__.py",
        "run",
        "--dataset_dir",
        "/home/me/acdc",
        "--lr",
        "['a/b.yaml','/tmp/c.yaml']",
    ]
    (folder / "run.json").write_text(json.dumps(record))
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        for tag, values in scalars.items():
            for epoch, value in enumerate(values, start=1):
                writer.add_scalar(tag, value, 5 * epoch)


SCORES = {
    "val_mean_dice": [0.2, 0.5, 0.7, 0.8, 0.6],
    "val_weak_score": [0.1, 0.4, 0.9, 0.8, 0.5],
    "val_annotated_dice": [0.2, 0.5, 0.9, 0.9, 0.6],
    "val_size_violation": [0.5, 0.3, 0.2, 0.1, 0.25],
}


def test_selection_study_compares_the_chosen_epochs(run_script: Callable[..., None], tmp_path: Path) -> None:
    make_run_with_scores(tmp_path / "a", SCORES)
    make_run_with_scores(tmp_path / "b", {**SCORES, "val_weak_score": SCORES["val_mean_dice"]})
    output = tmp_path / "study"
    run_script(selection_study, "--runs", str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(output))
    with (tmp_path / "study.csv").open() as file:
        rows = list(csv.DictReader(file))
    of_a = {row["chosen_by"]: row for row in rows if row["run"] == "a"}
    found = {name: (int(row["epoch"]), float(row["true_dice"]), float(row["below_best"])) for name, row in of_a.items()}
    assert found == {
        "weak score": (15, 0.7, 0.1),
        "annotated Dice alone": (15, 0.7, 0.1),  # the first of two equally good ones
        "size violation alone": (20, 0.8, 0.0),
        "last epoch": (25, 0.6, 0.2),
        "true Dice": (20, 0.8, 0.0),
    }
    assert float(of_a["weak score"]["spearman"]) == pytest.approx(0.9)
    assert float(of_a["size violation alone"]["spearman"]) == pytest.approx(1.0)
    assert {(row["seed"], row["commit"], row["validations"]) for row in rows} == {("3", "abc", "5")}
    assert (
        rows[0]["command"]
        == "python -m monai.bundle run --dataset_dir acdc --lr '['\"'\"'a/b.yaml'\"'\"','\"'\"'c.yaml'\"'\"']'"
    )
    with (tmp_path / "study_epochs.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 10
    table = (tmp_path / "study.md").read_text().splitlines()
    assert table[2] == "| weak score | 0.750 | 0.050 | 0.100 | 0.95 | 2 |"
    assert table[-1] == "| true Dice | 0.800 | 0.000 | 0.000 |  | 2 |"


def test_selection_study_of_a_run_without_scores(run_script: Callable[..., None], tmp_path: Path) -> None:
    make_run_with_scores(tmp_path / "a", {"val_mean_dice": [0.1]})
    with pytest.raises(SystemExit, match="found no val_weak_score"):
        run_script(selection_study, "--runs", str(tmp_path / "a"), "--output", str(tmp_path / "study"))
    assert not list(tmp_path.glob("study*"))
