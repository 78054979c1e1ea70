"""Scripts do what they say, short of the trainings themselves."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from sizeloss_monai.data import write_cine_phantoms

ROOT = Path(__file__).resolve().parents[1]


def test_the_demo_removes_nothing_but_its_own(tmp_path: Path) -> None:
    demo = runpy.run_path(str(ROOT / "scripts" / "demo.py"))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").touch()
    with pytest.raises(RuntimeError, match="was not made by this demo"):
        demo["remove_outputs"](tmp_path)
    assert (tmp_path / "runs" / "mine").exists()
    (tmp_path / demo["MARKER"]).touch()
    demo["remove_outputs"](tmp_path)
    assert not (tmp_path / "runs").exists()


def test_reproduce_prints_commands_whose_configs_exist() -> None:
    printed = subprocess.run(
        [sys.executable, "scripts/reproduce.py", "--print", "--protocol", "paper"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert len(printed) == 10  # five rows, trained and evaluated
    files = {part for line in printed for part in line.split("'") if part.endswith(".yaml")}
    assert files
    assert all((ROOT / file).is_file() for file in files)


def test_perfect_masks_score_one(tmp_path: Path) -> None:
    write_cine_phantoms(tmp_path / "data", num_patients=1, splits=(1.0, 0.0, 0.0))
    masks = tmp_path / "masks"
    masks.mkdir()
    for truth in (tmp_path / "data").glob("*_gt.nii.gz"):
        (masks / truth.name.replace("_gt", "_seg")).write_bytes(truth.read_bytes())
    options = ["--masks", str(masks), "--labels", str(tmp_path / "data"), "--output", str(tmp_path / "scores.csv")]
    subprocess.run([sys.executable, "scripts/score_masks.py", *options], cwd=ROOT, capture_output=True, check=True)
    rows = (tmp_path / "scores.csv").read_text().splitlines()
    assert rows[0] == "case,dice_3d,dice_2d,hd95_mm"
    assert [row.split(",")[1:] for row in rows[1:]] == [["1.0000", "1.0000", "0.0000"]] * 2
