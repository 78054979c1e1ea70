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
