from __future__ import annotations

import math
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from torch.utils.tensorboard import SummaryWriter

from sizeloss_monai.report.curves import best_epoch, curve_figures, read_curves, read_events, training_minutes
from tests.support.evaluated_runs import write_training


def test_a_resumed_runs_later_values_count(tmp_path: Path) -> None:
    write_training(tmp_path / "run")
    curves = read_curves(read_events(tmp_path / "run"))
    assert list(curves) == ["train_partial_ce", "val_mean_dice", "val_slice_dice"]
    epochs, values = curves["train_partial_ce"]
    assert epochs == [1, 2, 3, 4]
    assert values == pytest.approx([1, 1 / 2, 10 + 1 / 3, 10 + 1 / 4])


def test_minutes_leave_out_the_pause_before_a_run_was_resumed(tmp_path: Path) -> None:
    for suffix, start in (("a", 1000.0), ("b", 90_000.0)):
        with SummaryWriter(str(tmp_path / "tensorboard"), filename_suffix=suffix) as writer:
            for step in range(4):
                writer.add_scalar("loss", 1.0, step, walltime=start + 30 * step)
            writer.add_scalar("val_mean_dice", 1.0, 1, walltime=start + 1000)
    assert training_minutes(read_events(tmp_path)) == pytest.approx(3.0)
    assert training_minutes([]) == 0


def test_no_event_files(tmp_path: Path) -> None:
    assert read_curves(read_events(tmp_path)) == {}


def test_panels() -> None:
    curve = ([1, 2, 3], [0.1, 0.2, 0.3])
    tags = ["train_partial_ce", "train_size", "val_mean_dice", "val_slice_dice", "val_annotated_dice"]
    titled = {title: figure.axes[0] for title, figure in curve_figures(dict.fromkeys(tags, curve)).items()}
    assert [axes.get_title(loc="left") for axes in titled.values()] == list(titled)
    assert list(titled) == ["training partial ce", "training size", "validation Dice", "validation annotated dice"]
    assert [line.get_label() for line in titled["validation Dice"].lines] == ["mean dice", "slice dice"]
    assert titled["validation Dice"].get_ylim() == (0, 1)
    assert all(list(line.get_ydata()) == curve[1] for axes in titled.values() for line in axes.lines)


def test_the_epoch_that_training_kept_is_marked_in_the_validation_panels() -> None:
    steps = [1, 2, 3, 4]
    curves = {"train_partial_dice": (steps, [4.0, 3, 2, 1]), "val_weak_score": (steps, [0.1, 0.7, math.nan, 0.7])}
    assert best_epoch(curves, "val_weak_score") == 2  # the first of two that are equally good
    figures = curve_figures(curves, best_epoch(curves, "val_weak_score"))
    loss, score = (figure.axes[0] for figure in figures.values())
    assert len(loss.lines) == 1
    assert list(score.lines[1].get_xdata()) == [2, 2]
    assert (loss.get_xlabel(), score.get_xlabel()) == ("epoch (lower is better)", "epoch (higher is better)")


def test_no_epoch_is_marked_without_a_number_or_a_key_metric() -> None:
    undefined = {"val_mean_dice": ([1, 2], [math.nan, math.nan])}
    for key_metric in ("val_mean_dice", "val_weak_score", None):
        assert best_epoch(undefined, key_metric) is None
        (figure,) = curve_figures(undefined, best_epoch(undefined, key_metric)).values()
        (axes,) = figure.axes
        assert len(axes.lines) == 1
