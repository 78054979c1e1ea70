"""Published normal ranges of organ volumes, each with its reference: the table ``published_sizes.yaml``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from scipy import stats

from sizeloss_monai.errors import check_option
from sizeloss_monai.options import PublishedName

__all__ = ["PublishedRange", "PublishedRow", "published_range"]


@dataclass(frozen=True)
class PublishedRow:
    """The range in one group of people.

    Args:
        population: the group.
        phase: of the heart, ``"ED"`` or ``"ES"``; empty otherwise.
        lower, upper: in mL.
        statistic: how the range follows from the published numbers.
        reference: the publication.
    """

    population: str
    phase: str
    lower: float
    upper: float
    statistic: str
    reference: str


@dataclass(frozen=True)
class PublishedRange:
    """The normal range of an organ: the union of its rows.

    Args:
        name: of the entry.
        title: in words.
        note: modality, population and conventions.
        rows: at least one.
    """

    name: str
    title: str
    note: str
    rows: tuple[PublishedRow, ...]

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest bound of the rows, in mL."""
        return min(row.lower for row in self.rows), max(row.upper for row in self.rows)

    @property
    def references(self) -> tuple[str, ...]:
        """The publications, each once."""
        return tuple(dict.fromkeys(row.reference for row in self.rows))


def published_range(name: PublishedName) -> PublishedRange:
    """Look up a normal range of men and women together.

    Args:
        name: ``"lv_cavity_ed"`` is the range at end-diastole, ``"lv_cavity"`` that over both phases.

    Raises:
        ValueError: when the name is unknown.
    """
    check_option("a published range", name, PublishedName)
    table = _table()
    base, _, phase = (name, "", "") if name in table["entries"] else name.rpartition("_")
    entry = table["entries"][base]
    rows = [row for row in entry["rows"] if not phase or row["phase"] == phase.upper()]
    made = tuple(_row(row, table["references"]) for row in rows)
    return PublishedRange(name, entry["title"] + (f" at {phase.upper()}" if phase else ""), entry["note"], made)


def _row(row: Mapping[str, Any], references: Mapping[str, str]) -> PublishedRow:
    """A row of the table as a range in mL."""
    if "mean" in row:
        lower, upper = row["mean"] - 2 * row["sd"], row["mean"] + 2 * row["sd"]
        statistic = f"{row['mean']:g} ± 2 · {row['sd']:g}"
    else:
        first, third = row["quartiles"]
        z = stats.norm.ppf(0.975) / stats.norm.ppf(0.75)
        half = z * math.log(third / first) / 2
        middle = math.sqrt(first * third)
        lower, upper = middle * math.exp(-half), middle * math.exp(half)
        statistic = f"95 % of the log-normal with quartiles {first:g} and {third:g} (median {row['median']:g})"
    density = row.get("density", 1.0)
    statistic += " mL" if density == 1 else f" g, over {density:g} g/mL"
    reference = references[row["reference"]]
    return PublishedRow(row["population"], row.get("phase", ""), lower / density, upper / density, statistic, reference)


@cache
def _table() -> dict[str, Any]:
    """The table."""
    return yaml.safe_load((files(__package__) / "published_sizes.yaml").read_text(encoding="utf-8"))
