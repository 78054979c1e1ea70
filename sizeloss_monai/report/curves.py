"""Curves and duration of a training from its TensorBoard event files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

__all__ = ["Curve", "best_epoch", "curve_figures", "read_curves", "read_events", "training_minutes"]

Curve = tuple[list[int], list[float]]
"""Steps (epochs, for what is logged once an epoch) and values."""

_INCHES = (5.6, 3.3)
_HIGHER_IS_BETTER = ("dice", "score")
_FEW_STEPS = 30  # curves of fewer steps mark each one


def read_events(run_dir: Path) -> list[EventAccumulator]:
    """The event files of a run, oldest first, with every scalar and the last image of each tag.

    A resumed run has several files, a run that logged nothing has none.
    """
    files = sorted((run_dir / "tensorboard").glob("events.out.tfevents.*"))
    size = {"scalars": 0, "images": 1}
    return [EventAccumulator(str(file), size_guidance=size).Reload() for file in files]


def training_minutes(files: Iterable[EventAccumulator]) -> float:
    """Minutes from the first to the last training step in :py:func:`read_events`, without pauses between starts."""
    steps = [events.Scalars("loss") for events in files if "loss" in events.Tags()["scalars"]]
    return sum(logged[-1].wall_time - logged[0].wall_time for logged in steps) / 60


def read_curves(files: Iterable[EventAccumulator]) -> dict[str, Curve]:
    """The curves by tag that a run logged once an epoch: means of loss terms, ``train_…``, and metrics, ``val_…``.

    Where a resumed run logged an epoch of `files` (:py:func:`read_events`) again, the later value counts.
    """
    points: dict[str, dict[int, float]] = {}
    for events in files:
        for tag in events.Tags()["scalars"]:
            if tag.startswith(("train_", "val_")):
                points.setdefault(tag, {}).update({event.step: event.value for event in events.Scalars(tag)})
    return {tag: (sorted(curve), [curve[step] for step in sorted(curve)]) for tag, curve in sorted(points.items())}


def best_epoch(curves: Mapping[str, Curve], key_metric: str | None) -> int | None:
    """The epoch whose weights training kept as the best.

    Args:
        curves: the result of :py:func:`read_curves`.
        key_metric: the tag by which the weights were chosen; None where it is not known.

    Returns:
        The first step with the highest value, as MONAI's checkpoints choose; None without a number.
    """
    curve = curves.get(key_metric or "", ([], []))
    defined = [(value, -step) for step, value in zip(*curve, strict=True) if not math.isnan(value)]
    return -max(defined)[1] if defined else None


def curve_figures(curves: Mapping[str, Curve], chosen: int | None = None) -> dict[str, Figure]:
    """Figures by title, one for each loss term and validation metric; Dice of volumes and of slices share one.

    Args:
        curves: the result of :py:func:`read_curves`.
        chosen: the epoch whose weights were kept, to mark in the figures of validation.
    """
    tags: dict[str, list[str]] = {}
    for tag in curves:
        tags.setdefault("validation Dice" if tag in ("val_mean_dice", "val_slice_dice") else _title(tag), []).append(
            tag
        )
    return {title: _figure(title, {tag: curves[tag] for tag in of_title}, chosen) for title, of_title in tags.items()}


def _figure(title: str, curves: Mapping[str, Curve], chosen: int | None) -> Figure:
    """A figure of curves that share axes."""
    figure = Figure(figsize=_INCHES, layout="constrained", facecolor="white")
    axes = figure.subplots()
    for tag, (steps, values) in curves.items():
        marker = "o" if len(steps) < _FEW_STEPS else ""
        label = _title(tag).removeprefix("validation ")
        axes.plot(steps, values, label=label, linewidth=2, marker=marker, markersize=4)
    axes.set_title(title, fontsize=13, fontweight="bold", loc="left")
    validation = title.startswith("validation")
    better = "higher" if validation and title.lower().endswith(_HIGHER_IS_BETTER) else "lower"  # training's are losses
    axes.set_xlabel(f"epoch ({better} is better)", fontsize=12)
    axes.tick_params(labelsize=12)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if title == "validation Dice":
        axes.set_ylim(0, 1)
    if chosen is not None and validation:
        axes.axvline(chosen, color="0.3", linestyle="--", linewidth=1.5, label=f"chosen: epoch {chosen}")
    if len(axes.lines) > 1:
        axes.legend(fontsize=11, loc="best")
    return figure


def _title(tag: str) -> str:
    """A tag in words."""
    kind, _, name = tag.partition("_")
    return f"{'training' if kind == 'train' else 'validation'} {name.replace('_', ' ')}"
