"""Weights are used on the grid they were trained on: its pixel size, and the slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sizeloss_monai.bundle.config_check import ConfigError
from sizeloss_monai.bundle.run_record import read_starts
from sizeloss_monai.data.findings import DataError
from sizeloss_monai.data.grid import read_grid
from sizeloss_monai.data.slice_axis import (
    SliceAxis,
    is_clearly_widest,
    parse_slice_axis,
    plane_of,
    slice_axis_of,
)

__all__ = ["check_trained_grid", "trained_slice_axis"]


def trained_slice_axis(checkpoint: str | Path, slice_axis: Any = "auto") -> SliceAxis:
    """Where the slices lie that weights are used on. For a config.

    Args:
        checkpoint: ``<run>/checkpoints/<name>.pt``; other weights are of no run that could say it.
        slice_axis: what the user says; ``"auto"`` takes what the run's training took.

    Returns:
        One of :py:data:`~sizeloss_monai.data.slice_axis.SliceAxis`, never ``"auto"``: ``"widest"`` where nobody says.

    Raises:
        ConfigError: when `slice_axis` is unknown or ``run.json`` is damaged.
    """
    given = _parsed(slice_axis)
    return given if given != "auto" else _recorded_slice_axis(checkpoint) or "widest"


def check_trained_grid(
    checkpoint: str | Path,
    pixdim: Sequence[float] | None,
    slice_axis: SliceAxis | None = None,
    items: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Raise where a run's weights are used on another grid than its own. For a config's ``initialize``.

    A network that learned an organ's size in pixels gives poor masks at another scale, without a word, and so does one
    that learned axial slices on coronal ones. What the run used is in its ``run.json``; weights that lie in no run's
    folder are not compared.

    Args:
        checkpoint: ``<run>/checkpoints/<name>.pt``.
        pixdim: size of a voxel, mm, that scans are resampled to; None where they keep their own.
        slice_axis: where slices lie; None of whole volumes.
        items: cases whose ``image`` is cut into slices.

    Raises:
        ConfigError: when pixel sizes differ, a case would be cut into other slices, or ``run.json`` is damaged. What
            the widest spacing of a training says of scans without a clearly widest one is no contradiction.
        DataError: when the header of an image cannot be read.
    """
    grid = _recorded_grid(checkpoint)
    found = None if pixdim is None else list(pixdim)
    expected = grid.get("pixdim", found)
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
    trained = _recorded_slice_axis(checkpoint)
    if slice_axis is None or trained is None or slice_axis == trained:
        return
    for item in items:
        case = read_grid(item["image"])
        if trained == "widest" and not is_clearly_widest(case.spacing):
            continue
        axis, usual = (slice_axis_of(case.spacing, case.affine, name) for name in (slice_axis, trained))
        if axis != usual:
            raise ConfigError(
                f"slice_axis: found {slice_axis!r}, expected {trained!r}, with which {str(checkpoint)!r} was trained: "
                f"case '{item['case']}' would be cut into {plane_of(case.affine, axis)} slices, not "
                f"{plane_of(case.affine, usual)} ones. Leave --slice_axis out."
            )


def _recorded_slice_axis(checkpoint: str | Path) -> SliceAxis | None:
    """Where slices lay in the training; None where that was not noted."""
    recorded = _recorded_grid(checkpoint).get("slice_axis")
    if recorded is None:
        return None
    try:
        return parse_slice_axis(recorded)
    except ValueError as err:
        raise _damaged(checkpoint) from err


def _recorded_grid(checkpoint: str | Path) -> Mapping[str, Any]:
    """What the last start of the run noted; empty where weights lie in no run's folder, or in an older run's."""
    if not _record(checkpoint).is_file():
        return {}
    try:
        start = read_starts(_record(checkpoint).parent)[-1]
        if "grid" not in start:
            return {}
        return {**start["grid"], "pixdim": start["grid"]["pixdim"]}
    except (DataError, KeyError, TypeError) as err:
        raise _damaged(checkpoint) from err


def _record(checkpoint: str | Path) -> Path:
    return Path(checkpoint).resolve().parent.parent / "run.json"


def _damaged(checkpoint: str | Path) -> ConfigError:
    return ConfigError(f"checkpoint: found a damaged '{_record(checkpoint)}', expected what training wrote of its run.")


def _parsed(slice_axis: Any) -> SliceAxis:
    try:
        return parse_slice_axis(slice_axis)
    except ValueError as err:
        raise ConfigError(str(err)) from None


def _shown(pixdim: list[float] | None) -> str:
    """A voxel size in a message."""
    return "each scan's own" if pixdim is None else f"{pixdim} mm"
