"""Tables as files."""

from __future__ import annotations

import csv
import statistics
from pathlib import Path
from typing import Any


def write_csv(path: Path, records: list[dict[str, Any]]) -> None:
    """Write records of the same keys."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
    print("wrote", path)


def read_case_means(path: Path) -> dict[str, float]:
    """By case, the mean over classes, from a table ``<metric>_raw.csv`` of MONAI's ``MetricsSaver``."""
    with path.open(encoding="utf-8", newline="") as handle:
        return {record["filename"]: float(record["mean"]) for record in csv.DictReader(handle)}


def read_class_means(path: Path) -> list[float]:
    """For each class the mean over cases, undefined ones left out, from such a table; none where it has one class."""
    with path.open(encoding="utf-8", newline="") as handle:
        records = list(csv.DictReader(handle))
    names = [name for name in records[0] if name.startswith("class")]
    values = {name: [value for record in records if (value := float(record[name])) == value] for name in names}
    return [statistics.mean(values[name]) for name in names] if len(names) > 1 else []
