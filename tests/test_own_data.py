"""The tutorial on own data: its commands, run in order as they are, give what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sizeloss_monai.checks import check_datalist
from tests.support import ROOT

TUTORIAL = (ROOT / "docs" / "own_data.md").read_text(encoding="utf-8")
STEPS = re.findall(r"```bash\n(.*?)```(?:\n\n```text\n(.*?)```)?", TUTORIAL, flags=re.DOTALL)
"""Commands, and what they print: all of it but what stands for ``...``."""
SHORTER = ("--epochs 30", "--epochs 1")
"""All that the test changes."""


def printed(text: str) -> re.Pattern[str]:
    """A pattern for an output in which lines of ``...`` stand for any number of others."""
    return re.compile(re.escape(text).replace(re.escape("...\n"), "(?:.*\n)*?"))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder in which every step was run, and what each printed."""
    folder = tmp_path_factory.mktemp("own_data")
    for name in ("bundles", "scripts"):  # of the project's root
        (folder / name).symlink_to(ROOT / name)
    python = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    outputs = []
    for commands, _ in STEPS:
        run = subprocess.run(
            ["bash", "-eu", "-c", commands.replace(*SHORTER)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert run.returncode == 0, f"{commands}\n{run.stdout}\n{run.stderr}"
        outputs.append(run.stdout)
    return folder, outputs


def test_steps_print_what_the_tutorial_says(outputs: tuple[Path, list[str]]) -> None:
    compared = 0
    for (commands, expected), output in zip(STEPS, outputs[1], strict=True):
        if expected:
            assert printed(expected).fullmatch(output), f"{commands}\n{output}"
            compared += 1
    assert compared >= 6


def test_masks_are_on_the_grids_of_their_scans(outputs: tuple[Path, list[str]]) -> None:
    folder, _ = outputs
    evaluation = folder / "runs" / "my_scans" / "evaluation" / "validation"
    cases = json.loads((evaluation / "cases.json").read_text())["cases"]
    masks = {evaluation / case["mask"]: Path(case["image"]) for case in cases}
    masks[folder / "masks" / "new_scan_seg.nii.gz"] = folder / "my_scans" / "new_scan.nii.gz"
    assert len(masks) == 5
    for file, scan in masks.items():
        mask, image = nib.load(file), nib.load(scan)
        assert mask.shape == image.shape
        np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)
        assert np.isin(np.asarray(mask.dataobj), range(4)).all()


def test_a_report_and_scores_of_the_masked_cases(outputs: tuple[Path, list[str]]) -> None:
    run = outputs[0] / "runs" / "my_scans"
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "4 cases, 2 with a full annotation" in page
    scored = (run / "evaluation" / "validation" / "val_mean_dice_raw.csv").read_text()
    assert [line.split(",")[0] for line in scored.splitlines()[1:]] == ["patient003_ED", "patient003_ES"]


def test_the_entry_shown_is_a_valid_one(outputs: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, _ = outputs
    (shown,) = re.findall(r"```json\n(.*?)```", TUTORIAL, flags=re.DOTALL)
    entry = json.loads(shown)
    datalist = json.loads((folder / "my_scans" / "datalist.json").read_text())
    (item,) = (item for item in datalist["training"] if item["case"] == entry["case"])
    assert item == {key: entry[key] for key in item}
    item.update(entry)
    (tmp_path / "list.json").write_text(json.dumps(datalist))
    assert not check_datalist(tmp_path / "list.json", folder / "my_scans").findings
