"""The script scripts/experiments/bounds_coverage.py on a few small volumes in ACDC's layout."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.experiments import bounds_coverage


def test_bounds_coverage(run_script: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # volumes that are the same in mL, on voxels of two sizes: bounds in mL hold for all, those in voxels do not
    for index, patient in enumerate((1, 2, 21, 22)):
        name = f"patient{patient:03d}"
        folder = tmp_path / "acdc" / name
        folder.mkdir(parents=True)
        depth = 8.0 if index % 2 else 4.0
        for frame in ("01", "09"):
            ids = np.zeros((16, 16, 8), np.uint8)
            for class_id in (1, 2, 3):
                ids[: 8 if depth == 8 else 16, 4 * class_id : 4 * class_id + 2, :2] = class_id
            affine = np.diag([5.0, 5.0, depth, 1.0])
            for suffix, array in (("", ids.astype(np.float32)), ("_gt", ids)):
                nib.save(nib.Nifti1Image(array, affine), folder / f"{name}_frame{frame}{suffix}.nii.gz")
    options = ["--data_dir", str(tmp_path), "--results_dir", str(tmp_path), "--patients", "1", "2", "--draws", "20"]
    run_script(bounds_coverage, *options)
    assert "left out promise12" in capsys.readouterr().out
    with (tmp_path / "bounds_coverage.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "range" and row["patients"] == "1"]
    assert {row["class"] for row in rows} == {"RV", "myocardium", "LV"}
    for row in rows:
        assert float(row["width_median"]) == pytest.approx(1.1 / 0.9, rel=1e-3)
        # of the three others one has voxels of the same size
        assert float(row["coverage_mean"]) == pytest.approx(1 if row["unit"] == "mL" else 1 / 3, abs=1e-4)
        assert row["seed"] == "0"
        assert row["commit"]
        assert (
            row["command"]
            == "python -m scripts.experiments.bounds_coverage --data_dir data --patients 1 2 --draws 20 --seed 0"
        )
    with (tmp_path / "bounds_coverage_published.csv").open() as file:
        published = list(csv.DictReader(file))
    assert {row["group"] for row in published} == {"all", "DCM", "HCM"}
    # every volume is of 16 * 2 * 2 voxels of 0.1 mL: 6.4 mL, below all ranges
    assert all(int(row["below"]) == int(row["volumes"]) for row in published if row["margin"] == "1")
    table = (tmp_path / "bounds_coverage.md").read_text()
    assert "| RV | range | mL | 100% (1.22) | 100% (1.22) |" in table
