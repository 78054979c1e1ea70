"""The start of a run: its folder, the weights it goes on from, its record."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from sizeloss_monai.bundle.output_dir import check_checkpoint, prepare_output_dir
from sizeloss_monai.bundle.run_record import record_run

__all__ = ["is_first_process", "start_run"]


def is_first_process() -> bool:
    """Whether this process is the only one of a training, or the first of several that ``torchrun`` started."""
    return int(os.environ.get("RANK", "0")) == 0


def start_run(
    output_dir: str | Path,
    resume: bool = False,
    checkpoint: str | None = None,
    network: nn.Module | None = None,
    num_classes: int | None = None,
    settings: Mapping[str, Any] | None = None,
    grid: Mapping[str, Any] | None = None,
    key_metric: Mapping[str, Any] | None = None,
) -> None:
    """Make a run's folder and write what makes the run into its ``run.json``. For a config's ``initialize``.

    Of several processes the first one does so.

    Args:
        output_dir: see :py:func:`~sizeloss_monai.bundle.prepare_output_dir`, as ``resume``.
        checkpoint: what the run goes on from; None where it starts anew.
        network: that the checkpoint must fit, see :py:func:`~sizeloss_monai.bundle.check_checkpoint`.
        num_classes: of the network.
        settings: to record by their names.
        grid: to record: ``pixdim``, the size of the network's grid, ``slice_axis`` of slices, and ``resample``, whether
            images are resampled to ``pixdim``; if not, the record has None for ``pixdim``.
        key_metric: to record: by its first name, the metric that chooses the best epoch.

    Raises:
        OutputDirError: when the folder is in use or not empty, or the checkpoint does not fit the network.
        DataError: when the record of earlier starts is damaged.
    """
    if not is_first_process():
        return
    prepare_output_dir(output_dir, resume)
    if checkpoint is not None and network is not None:
        check_checkpoint(checkpoint, network, num_classes)
    record = dict(settings or {})
    if grid is not None:
        record["grid"] = {key: value for key, value in grid.items() if key != "resample"}
        if not grid.get("resample", True):
            record["grid"]["pixdim"] = None
    if key_metric is not None:
        record["key_metric"] = next(iter(key_metric))
    record_run(output_dir, **record)
