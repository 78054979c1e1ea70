"""A tiny data set, and one way to run a bundle as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bundle_runs import ROOT, Run

from sizeloss_monai.data import write_cine_phantoms

# as small as it still is the real thing; names that training and inference share
TINY = """
slice_size: [64, 64]
pixdim: [3.0, 3.0, -1.0]
device: $torch.device('cpu')
network_def:
  _target_: UNet
  spatial_dims: 2
  in_channels: 1
  out_channels: "@num_classes"
  channels: [8, 16]
  strides: [2]
  norm: batch
"""


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    write_cine_phantoms(folder, num_patients=4, seed=0, splits=(0.5, 0.25, 0.25))
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("configs") / "tiny.yaml"
    file.write_text(TINY)
    return str(file)


@pytest.fixture(scope="session")
def train_options(phantoms: Path) -> dict[str, object]:
    return {"dataset_dir": phantoms, "epochs": 2, "batch_size": 8}


@pytest.fixture(scope="session")
def run_bundle() -> Run:
    """`python -m monai.bundle run` on config files, with overrides, from the project's root."""

    def run(
        *config_files: str, launcher: tuple[str, ...] = (), **overrides: object
    ) -> subprocess.CompletedProcess[str]:
        files = "[" + ",".join(f"'{file}'" for file in config_files) + "]"
        options = [part for key, value in overrides.items() for part in (f"--{key}", str(value))]
        start = [*launcher] if launcher else [sys.executable, "-m"]
        return subprocess.run(
            [*start, "monai.bundle", "run", "--config_file", files, *options],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=600,
        )

    return run
