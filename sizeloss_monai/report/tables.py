"""The tables of a report."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from sizeloss_monai.data.size_table import SizeRow
from sizeloss_monai.report.markup import Cell, table
from sizeloss_monai.report.run_files import CaseResult

__all__ = ["bounds_text", "case_table", "class_table", "dice_text", "scores_table", "settings_table", "size_text"]

NOTHING = "\N{EN DASH}"


def size_text(size: float | None, signed: bool = False) -> str:
    """A size in mL as the report writes it.

    Args:
        size: None where it is not known.
        signed: whether to write the sign of what is above 0.
    """
    if size is None:
        return NOTHING
    return f"{size:+.2f}" if signed and size else f"{size:.2f}"


def bounds_text(row: SizeRow) -> str:
    """The bounds of a class in mL.

    Args:
        row: of the class.
    """
    if row.lower_ml is None or row.upper_ml is None:
        return NOTHING
    if math.isinf(row.upper_ml):
        return f"\N{GREATER-THAN OR EQUAL TO} {_short(row.lower_ml)}"
    return f"{_short(row.lower_ml)} to {_short(row.upper_ml)}"


def dice_text(dice: float | None) -> str:
    """A Dice as the report writes it.

    Args:
        dice: None where there is no full annotation.
    """
    return NOTHING if dice is None else f"{dice:.3f}"


def settings_table(run_dir: Path, starts: Sequence[Mapping[str, Any]]) -> str:
    """What made the run, as its last start recorded it.

    Args:
        run_dir: folder of the run.
        starts: entries of ``run.json``, at least one.
    """
    rows: list[list[Cell | str]] = [[Cell("folder", "key"), str(run_dir)]]
    for key, value in starts[-1].items():
        if key == "command" and isinstance(value, list):
            text, kind = " ".join(_quoted(str(part)) for part in value), "code"
        elif isinstance(value, dict):
            text, kind = ", ".join(f"{name} {_plain(item)}" for name, item in value.items()), ""
        else:
            text, kind = _plain(value), ""
        rows.append([Cell(key.replace("_", " "), "key"), Cell(text, kind)])
    if len(starts) > 1:
        earlier = ", ".join(f"{start.get('started')} (commit {start.get('commit')})" for start in starts[:-1])
        rows.append([Cell("started before", "key"), earlier])
    return table((), rows, "settings")


def scores_table(scores: Mapping[str, float]) -> str:
    """The mean of each metric over the cases.

    Args:
        scores: by metric.
    """
    names = {metric: metric.removeprefix("val_").replace("_", " ") for metric in scores}
    means = {metric: NOTHING if math.isnan(value) else f"{value:.4f}" for metric, value in scores.items()}
    rows: list[list[Cell | str]] = [[names[metric], Cell(means[metric], "number")] for metric in scores]
    return table(["metric", Cell("mean over cases", "number")], rows)


def class_table(results: Sequence[CaseResult]) -> str:
    """A summary of each class.

    Args:
        results: of all cases.
    """
    rows: list[list[Cell | str]] = []
    for first in results[0].rows if results else ():
        of_class = [row for result in results for row in result.rows if row.class_id == first.class_id]
        dice = [result.dice[first.class_id] for result in results if first.class_id in result.dice]
        bounded = [row for row in of_class if row.violation_ml is not None]
        spread = f" \N{PLUS-MINUS SIGN} {stdev(dice):.3f}" if len(dice) > 1 else ""
        sizes = [row.hard_ml for row in of_class]
        rows.append(
            [
                Cell(first.name),
                Cell(f"{fmean(dice):.3f}{spread} ({len(dice)} cases)" if dice else NOTHING, "number"),
                Cell(f"{median(sizes):.2f} ({min(sizes):.2f} to {max(sizes):.2f})", "number"),
                Cell(f"{sum(bool(row.violation_ml) for row in bounded)} of {len(bounded)}", "number"),
                Cell(f"{sum(row.components > 1 for row in of_class)} of {len(of_class)}", "number"),
                Cell(f"{sum(row.components == 0 for row in of_class)} of {len(of_class)}", "number"),
            ]
        )
    headings = ["Dice, mean \N{PLUS-MINUS SIGN} sd", "hard size, mL: median (range)"]
    headings += ["out of bounds", "in several pieces", "not found"]
    return table(["class", *(Cell(heading, "number") for heading in headings)], rows)


def case_table(results: Sequence[CaseResult]) -> str:
    """Every class of every case.

    Args:
        results: in the order of the rows.
    """
    rows: list[list[Cell | str]] = []
    for result in results:
        for place, row in enumerate(result.rows):
            violation = row.violation_ml
            marked = "number out" if violation else "number"
            cells: list[Cell | str] = [Cell(result.case, rows=len(result.rows))] if place == 0 else []
            cells += [
                row.name,
                Cell(dice_text(result.dice.get(row.class_id)), "number"),
                Cell(size_text(row.soft_ml), "number"),
                Cell(size_text(row.hard_ml), "number"),
                Cell(size_text(row.true_ml), "number"),
                Cell(bounds_text(row), "number"),
                Cell(size_text(violation, signed=True), marked),
                Cell(str(row.components), "number"),
                Cell(row.touches_border or NOTHING, "number"),
            ]
            rows.append(cells)
    headings = ["Dice", "soft mL", "hard mL", "true mL", "bounds mL", "violation mL", "pieces", "at border"]
    return table(["case", "class", *(Cell(heading, "number") for heading in headings)], rows, "cases")


def _short(size: float) -> str:
    """A bound in mL, without the zeros at the end."""
    return f"{size:.2f}".rstrip("0").rstrip(".")


def _quoted(part: str) -> str:
    """A part of a command line for a shell; ``shlex.quote`` makes a riddle of single quotes."""
    if "'" in part and not set(part) & set('"$`\\!'):
        return f'"{part}"'
    return shlex.quote(part)


def _plain(value: Any) -> str:
    """A value of ``run.json``."""
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
