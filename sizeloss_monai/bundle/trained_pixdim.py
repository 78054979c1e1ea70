"""A check that weights are used at the pixel size they were trained with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from sizeloss_monai.bundle.config_check import ConfigError

__all__ = ["check_trained_pixdim"]


def check_trained_pixdim(checkpoint: str | Path, pixdim: Sequence[float] | None) -> None:
    """Raise where a run's weights are used at another pixel size than its own. For a config's ``initialize``.

    A network that learned an organ's size in pixels gives poor masks at another scale, without a word. What the run
    used is in its ``run.json``; weights that lie in no run's folder are not compared.

    Args:
        checkpoint: ``<run>/checkpoints/<name>.pt``.
        pixdim: size of a voxel, mm, that scans are resampled to; None where they keep their own.

    Raises:
        ConfigError: when the two differ, or ``run.json`` is damaged.
    """
    file = Path(checkpoint).resolve().parent.parent / "run.json"
    if not file.is_file():
        return
    try:
        grid = json.loads(file.read_text(encoding="utf-8"))[-1].get("grid")
        expected = None if grid is None else grid["pixdim"]
    except (ValueError, LookupError, AttributeError, TypeError) as err:
        raise ConfigError(
            f"checkpoint: found a damaged {str(file)!r}, expected what training wrote of its run."
        ) from err
    found = None if pixdim is None else list(pixdim)
    if grid is not None and found != expected:
        remedy = (
            "give --resample False"
            if expected is None
            else 'give --pixdim "' + ",".join(map(str, expected)).join("[]") + '"'
        )
        raise ConfigError(
            f"pixdim: found {_shown(found)}, expected {_shown(expected)}, with which {str(checkpoint)!r} was trained: "
            f"{remedy}."
        )


def _shown(pixdim: list[float] | None) -> str:
    """A voxel size in a message."""
    return "each scan's own" if pixdim is None else f"{pixdim} mm"
