"""The command ``report``: a page on a run."""

from __future__ import annotations

import argparse
import sys

__all__ = ["add"]


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command ``report``."""
    parser = commands.add_parser(
        "report",
        help="write a page on a run",
        description="Write one HTML page on a run: settings, curves, a table of its cases, and overlays, violated "
        "bounds first. Evaluate the run before: sizeloss-monai evaluate RUN.",
    )
    parser.add_argument("run_dir", metavar="RUN", help="folder of the run (its output_dir)")
    parser.add_argument("--output", help="the HTML file to write; default: report.html in the run's folder")
    parser.add_argument("--overwrite", action="store_true", help="replace an output file of other content")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    """Write the page, and print what is missing from it."""
    from sizeloss_monai.errors import DataError

    try:
        from sizeloss_monai.report.page import write_report
    except ImportError as err:
        if err.name != "matplotlib":
            raise
        raise DataError(str(err)) from err
    path, notes = write_report(args.run_dir, args.output, overwrite=args.overwrite)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print("wrote", path)
