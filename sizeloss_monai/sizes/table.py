"""The table of sizes that an evaluation writes: a row for each class of each case, as a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.config import PathLike

from sizeloss_monai.data.whole_files import whole_file
from sizeloss_monai.errors import DataError

__all__ = ["SIZE_COLUMNS", "SizeRow", "read_sizes", "write_sizes"]

SIZE_COLUMNS = (
    *("case", "class", "name", "soft_ml", "hard_ml", "true_ml"),
    *("lower_ml", "upper_ml", "violation_ml", "components", "touches_border"),
)
"""The columns of the file, in order."""


@dataclass(frozen=True)
class SizeRow:
    """What was measured of one class in one case, on the grid of its scan. Sizes are in mL.

    Args:
        case: its name in the data list.
        class_id: of the network, from 1: the background has no row.
        name: of the class.
        soft_ml: sum of the probabilities.
        hard_ml: size of the mask.
        true_ml: size in the full annotation; None without one.
        lower_ml, upper_ml: the data list's bounds on the size of the class; None without any.
        components: number of connected components of the mask; voxels that share a corner are connected.
        touches_border: the letters of the scan's faces that the mask reaches (L, R, A, P, I, S).
    """

    case: str
    class_id: int
    name: str
    soft_ml: float
    hard_ml: float
    true_ml: float | None
    lower_ml: float | None
    upper_ml: float | None
    components: int
    touches_border: str

    @property
    def violation_ml(self) -> float | None:
        """By how much the mask is too large (above 0) or too small (below 0); 0 within bounds, None without any."""
        if self.lower_ml is None or self.upper_ml is None:
            return None
        return max(self.hard_ml - self.upper_ml, 0.0) + min(self.hard_ml - self.lower_ml, 0.0)


def write_sizes(rows: Iterable[SizeRow], path: PathLike) -> None:
    """Write the table, over an earlier one. The cell of an unknown size is empty, an infinite bound is ``inf``."""
    with whole_file(Path(path)) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(SIZE_COLUMNS)
        for row in rows:
            sizes = (row.soft_ml, row.hard_ml, row.true_ml, row.lower_ml, row.upper_ml, row.violation_ml)
            cells = ["" if size is None else f"{size:.9g}" for size in sizes]
            writer.writerow([row.case, row.class_id, row.name, *cells, row.components, row.touches_border])


def read_sizes(path: PathLike) -> list[SizeRow]:
    """Read a table that :py:func:`write_sizes` wrote.

    Raises:
        DataError: when columns or cells are missing, a cell is not a number, or a case lacks a class that others have.
    """
    path = Path(path)
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))
    if not lines or tuple(lines[0]) != SIZE_COLUMNS:
        raise DataError(f"'{path}': found the columns {lines[0] if lines else []}, expected {list(SIZE_COLUMNS)}.")
    rows = []
    for number, cells in enumerate(lines[1:], start=2):
        if len(cells) != len(SIZE_COLUMNS):
            raise DataError(
                f"'{path}', line {number}: found {len(cells)} cells, expected {len(SIZE_COLUMNS)}. "
                "Was the file cut off? Evaluate the run again."
            )
        try:
            rows.append(_row(dict(zip(SIZE_COLUMNS, cells, strict=True))))
        except ValueError as err:
            raise DataError(f"'{path}', line {number}: {err}. Evaluate the run again.") from err
    classes = {row.class_id for row in rows}
    for case in dict.fromkeys(row.case for row in rows):
        lacking = sorted(classes - {row.class_id for row in rows if row.case == case})
        if lacking:
            raise DataError(
                f"'{path}', case '{case}': found no class {', '.join(map(str, lacking))}, expected it as in other "
                "cases. Was the file cut off? Evaluate the run again."
            )
    return rows


def _row(cells: dict[str, str]) -> SizeRow:
    """A row from its cells; raises ValueError when a cell is not a number."""

    def known(name: str) -> float | None:
        return float(cells[name]) if cells[name] else None

    numbers: dict[str, Any] = {name: known(name) for name in ("true_ml", "lower_ml", "upper_ml")}
    return SizeRow(
        case=cells["case"],
        class_id=int(cells["class"]),
        name=cells["name"],
        soft_ml=float(cells["soft_ml"]),
        hard_ml=float(cells["hard_ml"]),
        components=int(cells["components"]),
        touches_border=cells["touches_border"],
        **numbers,
    )
