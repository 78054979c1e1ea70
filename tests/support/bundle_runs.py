"""What the bundle tests share."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow

from tests.support import ROOT

CINE = "cine_lv_segmentation"
VOLUMES = "hippocampus_3d_segmentation"  # the one whose items are whole volumes
SCRIBBLES = "cardiac_scribble_segmentation"  # the one that needs no masks
BUNDLE = f"bundles/{CINE}/configs"
BUNDLES = sorted(path.name for path in (ROOT / "bundles").iterdir() if path.is_dir())
Run = Callable[..., subprocess.CompletedProcess[str]]


def make_workflow(
    bundle: str, files: list[str], dataset_dir: Path, output_dir: Path, workflow_type: str = "train", **overrides: Any
) -> ConfigWorkflow:
    """A workflow in this process, not initialized.

    Args:
        bundle: its name.
        files: names in the bundle's configs, `configs/<name>` of the project, or absolute paths.
        dataset_dir: the data.
        output_dir: where it writes.
        workflow_type: `train` or `infer`.
        overrides: as on the command line.
    """
    configs = ROOT / "bundles" / bundle / "configs"

    def path(file: str) -> str:
        return str(ROOT / file if file.startswith("configs/") else configs / file)

    return ConfigWorkflow(
        config_file=[path(file) for file in files],
        meta_file=str(configs / "metadata.json"),
        workflow_type=workflow_type,
        logging_file=False,
        bundle_root=str(configs.parent),
        dataset_dir=str(dataset_dir),
        output_dir=str(output_dir),
        **{"device": torch.device("cpu"), **overrides},
    )


def root_of(error: BaseException) -> BaseException:
    """What MONAI's errors about a config were raised for."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
