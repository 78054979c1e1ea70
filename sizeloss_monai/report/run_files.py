"""The files of an evaluation, read and checked."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from sizeloss_monai.bundle.run_record import read_json, read_starts
from sizeloss_monai.data.slice_axis import SliceAxis, parse_slice_axis
from sizeloss_monai.datalist import ClassMap
from sizeloss_monai.errors import DataError, listed
from sizeloss_monai.sizes.table import SizeRow, read_sizes

__all__ = ["CaseResult", "Evaluation", "read_evaluation"]


@dataclass(frozen=True)
class CaseResult:
    """The results of one case.

    Args:
        case: its name.
        rows: a row of sizes for each class.
        dice: Dice by class; empty without a full annotation.
        image: file of the scan.
        label: file of the full annotation, if any.
        mask: file of the network's mask, with its classes.
        hd95: distance in mm by class, where it is defined.
    """

    case: str
    rows: tuple[SizeRow, ...]
    dice: Mapping[int, float]
    image: Path
    label: Path | None
    mask: Path
    hd95: Mapping[int, float] = field(default_factory=dict)

    @property
    def mean_dice(self) -> float | None:
        """Mean Dice of the classes, None without a full annotation."""
        return fmean(self.dice.values()) if self.dice else None

    @property
    def mean_hd95(self) -> float | None:
        """Mean HD95 of the classes in mm, None where none is defined."""
        return fmean(self.hd95.values()) if self.hd95 else None

    @property
    def violated(self) -> list[SizeRow]:
        """The classes whose mask is out of its bounds."""
        return [row for row in self.rows if row.violation_ml]


@dataclass(frozen=True)
class Evaluation:
    """The results of a section of the data list.

    Args:
        section: its name.
        scores: by metric, its mean over the cases.
        cases: in the order of evaluation.
        classes: the class of each id of the label files.
        checkpoint: file name of the weights; None where it was not recorded.
        slice_axis: where slices lie; ``"widest"`` where it was not recorded.
    """

    section: str
    scores: Mapping[str, float]
    cases: tuple[CaseResult, ...]
    classes: ClassMap
    checkpoint: str | None = None
    slice_axis: SliceAxis = "widest"


def read_evaluation(folder: Path) -> Evaluation:
    """Read ``<run>/evaluation/<section>``.

    Dice and HD95 come from ``val_mean_dice_raw.csv`` and ``val_hd95_mm_raw.csv``, where these files exist.

    Raises:
        DataError: when a file is missing, was cut off, or does not fit the others.
    """
    missing = [name for name in ("sizes.csv", "cases.json") if not (folder / name).is_file()]
    if missing:
        raise DataError(f"'{folder}': found no {listed(missing)}, which evaluate.yaml writes. Evaluate the run again.")
    rows = read_sizes(folder / "sizes.csv")
    dice, hd95 = (_read_raw(folder / f"{metric}_raw.csv") for metric in ("val_mean_dice", "val_hd95_mm"))
    index = read_json(folder / "cases.json")
    try:
        files = {str(entry["case"]): entry for entry in index["cases"]}
        class_of = {int(given): int(made) for given, made in index["target_ids"].items()}
        classes = ClassMap([*class_of], [*class_of.values()])
        paths = {
            case: (Path(entry["image"]), Path(entry["label"]) if entry["label"] else None, folder / entry["mask"])
            for case, entry in files.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        raise DataError(f"'{folder / 'cases.json'}': found no index of cases. Evaluate the run again.") from err
    measured = dict.fromkeys(row.case for row in rows)
    if measured.keys() != files.keys():
        differing = sorted(measured.keys() ^ files.keys())
        raise DataError(
            f"'{folder}': found case {listed(differing)} in only one of sizes.csv and cases.json. "
            "Was a file cut off? Evaluate the run again."
        )
    cases = []
    for case in measured:
        image, label, mask = paths[case]
        # tables of an earlier evaluation may hold a case whose full annotation is gone from the data list
        scores = [table.get(case, {}) if label is not None else {} for table in (dice, hd95)]
        of_case = tuple(row for row in rows if row.case == case)
        cases.append(CaseResult(case, of_case, scores[0], image, label, mask, scores[1]))
    start = read_starts(folder)[-1] if (folder / "run.json").is_file() else {}
    return Evaluation(
        folder.name,
        _read_scores(folder / "metrics.csv"),
        tuple(cases),
        classes,
        start.get("checkpoint"),
        parse_slice_axis(start.get("grid", {}).get("slice_axis", "widest")),
    )


def _read_raw(file: Path) -> dict[str, dict[int, float]]:
    """Defined scores by case and class, from a table of MONAI's ``MetricsSaver`` without background."""
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8", newline="") as handle:
        heading, *lines = list(csv.reader(handle)) or [[]]
    scores: dict[str, dict[int, float]] = {}
    for number, cells in enumerate(lines, start=2):
        if len(cells) != len(heading):
            raise DataError(
                f"'{file}', line {number}: found {len(cells)} cells, expected {len(heading)}. "
                "Was the file cut off? Evaluate the run again."
            )
        values = {class_id: _number(cell, file, number) for class_id, cell in enumerate(cells[1:-1], start=1)}
        scores[cells[0]] = {class_id: value for class_id, value in values.items() if not math.isnan(value)}
    return scores


def _read_scores(file: Path) -> dict[str, float]:
    """The means of ``metrics.csv``, if the file exists."""
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8", newline="") as handle:
        lines = list(csv.reader(handle))
    scores = {}
    for number, cells in enumerate(lines, start=1):
        if len(cells) != 2:
            raise DataError(f"'{file}', line {number}: found {len(cells)} cells, expected a metric and its mean.")
        scores[cells[0]] = _number(cells[1], file, number)
    return scores


def _number(cell: str, file: Path, line: int) -> float:
    try:
        return float(cell)
    except ValueError:
        raise DataError(f"'{file}', line {line}: found {cell!r}, expected a number. Evaluate the run again.") from None
