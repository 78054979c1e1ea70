"""Results as files: CSV tables, and the copies of the files in docs/results that the documents hold.

python -m scripts.experiments.result_files   # copies the tables anew into the documents

A document marks a copy by ``<!-- docs/results/NAME.md -->`` and ``<!-- end -->``. Lines between the name and ``-->``
choose rows of the table by their first cell.
"""

from __future__ import annotations

import csv
import re
import statistics
from pathlib import Path
from typing import Any

from scripts import ROOT

__all__ = ["chosen_rows", "read_case_means", "read_class_means", "refresh_documents", "write_csv"]

DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "paper.md")
BLOCK = re.compile(r"<!-- (docs/results/\S+\.md)((?:\n[^\n>]+)*)\s-->\n(.*?)<!-- end -->", flags=re.DOTALL)


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


def chosen_rows(table: str, titles: list[str]) -> str:
    """Some rows of a Markdown table below its heading.

    Args:
        table: the text of the table.
        titles: the first cell of each row, in the order wanted; none for the whole table.

    Raises:
        ValueError: when the table has no row, or several rows, of a title.
    """
    heading, rule, *rows = table.splitlines()
    if not titles:
        return table
    chosen = []
    for title in titles:
        found = [row for row in rows if row.split("|")[1].strip() == title]
        if len(found) != 1:
            raise ValueError(f"titles must each name one row of the table, found {len(found)} rows {title!r}.")
        chosen += found
    return "\n".join([heading, rule, *chosen]) + "\n"


def refresh_documents() -> None:
    """Replace every marked table of the documents by the content of its file."""
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")

        def copy(match: re.Match[str]) -> str:
            table = (ROOT / match[1]).read_text(encoding="utf-8")
            marker = match[0].partition("-->")[0]
            return f"{marker}-->\n{chosen_rows(table, match[2].splitlines()[1:])}<!-- end -->"

        renewed = BLOCK.sub(copy, text)
        if renewed != text:
            document.write_text(renewed, encoding="utf-8")
            print("updated", document)


if __name__ == "__main__":
    refresh_documents()
