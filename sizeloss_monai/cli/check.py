"""The command ``check``: say what is wrong with a data list and its files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

__all__ = ["SLICE_AXIS", "add"]

if TYPE_CHECKING:
    from sizeloss_monai.checks import CheckReport


SLICE_AXIS = (
    "where slices lie: axial, coronal, sagittal, widest (along the axis of the widest voxels) or a voxel axis "
    "(0, 1, 2); default: what the list says, else as strokes were painted, else widest"
)


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command ``check``."""
    parser = commands.add_parser(
        "check",
        help="say what is wrong with a data list and its files",
        description="Read every file of a data list once and say, case by case, what is wrong with files, grids, ids, "
        "tags, size bounds and supervision, and across cases and splits. The exit code is 1 after errors, else 0. The "
        "command writes its report and nothing else.",
    )
    parser.add_argument("datalist", type=Path, help="the data list (JSON)")
    parser.add_argument(
        "--dataset_dir", type=Path, help="the folder its paths are relative to; default: the list's own"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="the JSON file of the report; default: <list>_check.json beside the list. The command replaces an earlier "
        "report on the same list, and no other file.",
    )
    parser.add_argument("--slice_axis", default="auto", help=SLICE_AXIS)
    parser.add_argument("--num_workers", type=int, default=0, help="threads that read files; default: 0")
    parser.add_argument(
        "--label_ids",
        type=int,
        nargs="+",
        metavar="ID",
        help="the ids that training expects in label files; default: those that the list's 'labels' name",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    """Print what is wrong, and write the report."""
    from sizeloss_monai.checks import check_datalist
    from sizeloss_monai.data.whole_files import write_whole
    from sizeloss_monai.errors import counted

    output = args.output or args.datalist.with_name(f"{args.datalist.stem}_check.json")
    replaces = _is_earlier_report(output, args.datalist)
    report = check_datalist(
        args.datalist, args.dataset_dir, args.num_workers, True, args.label_ids, slice_axis=args.slice_axis
    )
    for finding in report.findings:
        print(f"{finding.severity}: {finding}")
    if report.findings:
        print()
    print(f"slices: {report.summary['slice_axis']['reason']}\n")
    print(_table(report))
    output.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"datalist": args.datalist.name, **report.as_dict()}, indent=2, ensure_ascii=False) + "\n"
    write_whole(output, text)
    print(f"\n{counted(report.num_errors, 'error')}, {counted(report.num_warnings, 'warning')}.", end=" ")
    print(f"Report: {output}{' (replaces an earlier one)' if replaces else ''}")
    return 1 if report.num_errors else 0


def _is_earlier_report(output: Path, datalist: Path) -> bool:
    """Whether `output` is a report on the same data list; raises FileExistsError where it is another file."""
    if not output.exists():
        return False
    try:
        content = json.loads(output.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    keys = {"datalist", "errors", "warnings", "findings", "summary"}
    if not isinstance(content, dict) or content.keys() != keys or content["datalist"] != datalist.name:
        raise FileExistsError(
            f"'{output}' must be a report on '{datalist.name}' to be replaced, got another file: give another --output."
        )
    return True


def _table(report: CheckReport) -> str:
    """Two tables: cases and slices of every split, and the annotated share of each class."""
    splits = [[name, *map(str, counts.values())] for name, counts in report.summary["splits"].items()]
    annotations = [_annotation_row(row) for row in report.summary["annotations"]]
    header = ["split", *report.summary["splits"]["training"]]
    tables = [_aligned([header, *splits], num_text=1)]
    if annotations:
        header = ["split", "annotation", "class", "cases", "slices", "annotated slices", "annotated fraction"]
        tables.append(_aligned([header, *annotations], num_text=3))
    return "\n\n".join(tables)


def _annotation_row(row: dict[str, Any]) -> list[str]:
    """A row of the table of classes."""
    name = row["name"] if row["class"] is None else f"{row['class']} {row['name']}".rstrip()
    cases = f"{row['cases']}/{row['of_cases']}"
    fraction = f"{100 * row['annotated_fraction']:.3g} %"
    return [row["split"], row["key"], name, cases, str(row["of_slices"]), str(row["annotated_slices"]), fraction]


def _aligned(rows: list[list[str]], num_text: int) -> str:
    """Rows in columns: the first `num_text` columns flush left, the others flush right."""
    columns = []
    for index, column in enumerate(zip(*rows, strict=True)):
        width = max(map(len, column))
        columns.append([cell.ljust(width) if index < num_text else cell.rjust(width) for cell in column])
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*columns, strict=True))
