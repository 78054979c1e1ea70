"""The command ``datalist``: list the cases of a folder and split them by patient."""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from typing import Any, get_args

from sizeloss_monai.options import LayoutName

__all__ = ["add"]


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command ``datalist``."""
    parser = commands.add_parser(
        "datalist",
        help="list the cases of a folder and split them by patient",
        description="List the cases of a folder, split them by patient and write a data list (JSON).",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("layout", choices=get_args(LayoutName), help="layout of the folder")
    parser.add_argument("--dataset_dir", required=True, help="the folder")
    parser.add_argument("--output", required=True, help="the JSON file to write")
    parser.add_argument("--num_validation", type=_number, default=0.2, help="patients: a count, or a fraction like 0.2")
    parser.add_argument("--num_test", type=_number, default=0, help="patients: a count, or a fraction")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split")
    parser.add_argument("--weak_labels", action="store_true", help="list weak labels (scribbles), too")
    parser.add_argument(
        "--unannotated",
        type=int,
        help="the id of unannotated voxels in weak labels: 0 of ITK-SNAP and 3D Slicer; if not given, the "
        "layout's, else 255",
    )
    parser.add_argument("--labels", nargs="+", metavar="ID=NAME", help="names of the ids in the label files")
    parser.add_argument(
        "--patient_pattern",
        help="regular expression that finds the patient in a case's name; if not given, the layout's rule (folder: "
        "each case is a patient)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an output file of other content")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    """Write a data list, and print its summary."""
    from sizeloss_monai.datalist import make_datalist, save_datalist

    with _logs() as notes:  # they name unused files
        datalist = make_datalist(
            args.dataset_dir,
            layout=args.layout,
            seed=args.seed,
            num_validation=args.num_validation,
            num_test=args.num_test,
            weak_labels=args.weak_labels,
            patient_pattern=args.patient_pattern,
        )
    if args.labels:
        datalist["labels"] = dict(_named(text) for text in args.labels)
    if args.unannotated is not None:
        datalist["unannotated"] = args.unannotated
    save_datalist(datalist, args.output, overwrite=args.overwrite)
    print(_summary(datalist))
    print(notes.getvalue(), end="")


@contextmanager
def _logs() -> Iterator[StringIO]:
    """The text that the package logs."""
    package, text = logging.getLogger("sizeloss_monai"), StringIO()
    handler, level = logging.StreamHandler(text), package.level
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield text
    finally:
        package.removeHandler(handler)
        package.setLevel(level)


def _summary(datalist: Mapping[str, Any]) -> str:
    """A table of every section: patients, cases, annotations, and patients per group."""
    rows = [f"{datalist['name']} ({datalist['layout']}), seed {datalist['seed']}"]
    rows.append(
        f"{'split':<12}{'patients':>9}{'cases':>7}{'weak labels':>13}{'masks':>7}{'neither':>9}  patients per group"
    )
    for section in ("training", "validation", "test"):
        group_of = {item["patient"]: item.get("group", "-") for item in datalist[section]}
        groups = "  ".join(f"{group} {count}" for group, count in sorted(Counter(group_of.values()).items()))
        weak, masks = (sum(key in item for item in datalist[section]) for key in ("weak_label", "label"))
        neither = sum("weak_label" not in item and "label" not in item for item in datalist[section])
        counts = f"{len(group_of):>9}{len(datalist[section]):>7}{weak:>13}{masks:>7}{neither:>9}"
        rows.append(f"{section:<12}{counts}  {groups}".rstrip())
    return "\n".join(rows)


def _named(text: str) -> tuple[str, str]:
    """Id and name of a class."""
    class_id, _, name = text.partition("=")
    if not class_id.isdecimal() or not name:
        from sizeloss_monai.errors import DataError

        raise DataError(f"--labels: found '{text}', expected an id and a name, such as 1=liver.")
    return class_id, name


def _number(text: str) -> int | float:
    """An integer if the text is one, otherwise a float."""
    try:
        return int(text)
    except ValueError:
        return float(text)
