"""Curves of a training from its TensorBoard event files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

__all__ = ["Curve", "best_epoch", "curves_figure", "read_curves", "read_events"]

Curve = tuple[list[int], list[float]]
"""Steps (epochs, for what is logged once an epoch) and values."""

_COLUMNS = 3
_PANEL_INCHES = (3.5, 2.4)
_HIGHER_IS_BETTER = ("dice", "score")
_FEW_STEPS = 30  # that are marked one by one


def read_events(run_dir: Path) -> list[EventAccumulator]:
    """The event files of a run, oldest first; a resumed run has several.

    Args:
        run_dir: folder of the run.

    Returns:
        Every scalar of each file, and the last image of each tag. Empty where nothing was logged.
    """
    files = sorted((run_dir / "tensorboard").glob("events.out.tfevents.*"))
    size = {"scalars": 0, "images": 1}
    return [EventAccumulator(str(file), size_guidance=size).Reload() for file in files]


def read_curves(run_dir: Path) -> dict[str, Curve]:
    """What a run logged once an epoch: means of the loss terms, ``train_…``, and validation metrics, ``val_…``.

    Args:
        run_dir: folder of the run.

    Returns:
        By tag, the curve. Where a resumed run logged an epoch again, the later value counts.
    """
    points: dict[str, dict[int, float]] = {}
    for events in read_events(run_dir):
        for tag in events.Tags()["scalars"]:
            if tag.startswith(("train_", "val_")):
                points.setdefault(tag, {}).update({event.step: event.value for event in events.Scalars(tag)})
    return {tag: (sorted(curve), [curve[step] for step in sorted(curve)]) for tag, curve in sorted(points.items())}


def best_epoch(curves: Mapping[str, Curve], key_metric: str | None) -> int | None:
    """The epoch whose weights training kept as the best.

    Args:
        curves: of :py:func:`read_curves`.
        key_metric: the tag of what the weights were chosen by; None where it is not known.

    Returns:
        The first step at which it was highest, as MONAI's checkpoints choose; None where it was never a number.
    """
    curve = curves.get(key_metric or "", ([], []))
    defined = [(value, -step) for step, value in zip(*curve, strict=True) if not math.isnan(value)]
    return -max(defined)[1] if defined else None


def curves_figure(curves: Mapping[str, Curve], chosen: int | None = None) -> Figure:
    """A panel for each loss term and each validation metric; Dice of volumes and of slices share one.

    Args:
        curves: of :py:func:`read_curves`, at least one.
        chosen: the epoch whose weights were kept, which is marked in the panels of validation.
    """
    panels: dict[str, list[str]] = {}
    for tag in curves:
        title = "validation Dice" if tag in ("val_mean_dice", "val_slice_dice") else _title(tag)
        panels.setdefault(title, []).append(tag)
    num_rows = -(-len(panels) // _COLUMNS)
    num_columns = min(len(panels), _COLUMNS)
    size = (num_columns * _PANEL_INCHES[0], num_rows * _PANEL_INCHES[1])
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    grid = figure.subplots(num_rows, num_columns, squeeze=False)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_axis_off()
    for axes, (title, tags) in zip(grid.flat, panels.items(), strict=False):
        for tag in tags:
            steps, values = curves[tag]
            marker = "." if len(steps) < _FEW_STEPS else ""
            axes.plot(steps, values, label=_title(tag).removeprefix("validation "), linewidth=1.3, marker=marker)
        axes.set_title(title, fontsize=10)
        validation = tags[0].startswith("val_")
        better = "higher" if validation and tags[0].endswith(_HIGHER_IS_BETTER) else "lower"  # training's are losses
        axes.set_xlabel(f"epoch ({better} is better)", fontsize=8)
        if chosen is not None and validation:
            axes.axvline(chosen, color="0.5", linestyle="--", linewidth=1)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        if title == "validation Dice":
            axes.set_ylim(0, 1)
            axes.legend(fontsize=8, loc="lower right")
    return figure


def _title(tag: str) -> str:
    """A tag in words."""
    kind, _, name = tag.partition("_")
    return f"{'training' if kind == 'train' else 'validation'} {name.replace('_', ' ')}"
