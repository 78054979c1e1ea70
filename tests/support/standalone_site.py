"""Segmenting scans with a package's standalone config, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
from monai.bundle import ConfigWorkflow

from tests.support import ROOT
from tests.support.bundle_runs import CINE

BUNDLE = ROOT / "bundles" / CINE
STANDALONE = "inference_standalone.yaml"


def segment(site: Path, scans: Path, output: Path, **options: Any) -> dict[str, Any]:
    """The masks by file name.

    Args:
        site: the unpacked package.
        scans: a scan or a folder of them.
        output: where the masks go.
        options: as on the command line.
    """
    workflow = ConfigWorkflow(
        config_file=str(site / "configs" / STANDALONE),
        workflow_type="infer",
        logging_file=False,
        bundle_root=str(site),
        dataset_dir=str(scans),
        output_dir=str(output),
        **{"device": "cpu", **options},
    )
    workflow.initialize()
    workflow.run()
    return {path.name: nib.load(path) for path in output.iterdir()}
