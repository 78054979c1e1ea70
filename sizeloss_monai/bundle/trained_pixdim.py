"""A check that weights are used at the pixel size they were trained with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sizeloss_monai.bundle.config_check import ConfigError
from sizeloss_monai.bundle.run_record import read_starts
from sizeloss_monai.data.findings import DataError

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
    run_dir = Path(checkpoint).resolve().parent.parent
    if not (run_dir / "run.json").is_file():
        return
    found = None if pixdim is None else list(pixdim)
    try:
        expected = read_starts(run_dir)[-1].get("grid", {"pixdim": found})["pixdim"]  # older runs did not note it
    except (DataError, KeyError, TypeError) as err:
        raise ConfigError(
            f"checkpoint: found a damaged '{run_dir / 'run.json'}', expected what training wrote of its run."
        ) from err
    if found != expected:
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
