"""A tiny data set, and one way to run a bundle as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sizeloss_monai.phantoms import make_affine, make_cine_phantom, write_cine_phantoms
from tests.support import ROOT
from tests.support.bundle_runs import BUNDLES, CINE, SCRIBBLES, VOLUMES, Run
from tests.support.layouts import WRITERS, write_scribbles

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
TINY_3D = """
volume_size: [32, 40, 24]
network_def:
  _target_: UNet
  spatial_dims: 3
  in_channels: 1
  out_channels: "@num_classes"
  channels: [8, 16]
  strides: [2]
  norm: instance
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
def data(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A data set for each bundle, in the layout of its own."""
    folders = {CINE: phantoms}
    folders[SCRIBBLES] = tmp_path_factory.mktemp(SCRIBBLES)
    write_scribbles(folders[SCRIBBLES])
    for bundle, write in WRITERS.items():
        folders[bundle] = tmp_path_factory.mktemp(bundle)
        write(folders[bundle])
    return folders


@pytest.fixture(scope="session")
def tiny_of(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """For each bundle, an overlay that makes it tiny."""
    file = tmp_path_factory.mktemp("configs") / "tiny_3d.yaml"
    file.write_text(TINY_3D)
    return {bundle: str(file) if bundle == VOLUMES else tiny for bundle in BUNDLES}


@pytest.fixture(scope="session")
def train_options(phantoms: Path) -> dict[str, object]:
    return {"dataset_dir": phantoms, "epochs": 2, "batch_size": 8}


@pytest.fixture(scope="session")
def run_bundle() -> Run:
    """`python -m monai.bundle run` on config files, with overrides, from the project's root or another folder."""

    def run(
        *config_files: str, launcher: tuple[str, ...] = (), cwd: Path = ROOT, **overrides: object
    ) -> subprocess.CompletedProcess[str]:
        files = "[" + ",".join(f"'{file}'" for file in config_files) + "]"
        options = [part for key, value in overrides.items() for part in (f"--{key}", str(value))]
        start = [*launcher] if launcher else [sys.executable, "-m"]
        return subprocess.run(
            [*start, "monai.bundle", "run", "--config_file", files, *options],
            cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=600,
        )

    return run


@pytest.fixture(scope="session")
def volume() -> tuple[np.ndarray, np.ndarray]:
    """A small scan and its oblique affine."""
    spacing = (2.0, 1.7, 6.0)
    image, _ = make_cine_phantom(0, num_slices=4, matrix=(32, 28), spacing=spacing)
    return image, make_affine(spacing, 0, image.shape)
