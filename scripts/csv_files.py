"""Tables as files."""

from __future__ import annotations

import csv
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
