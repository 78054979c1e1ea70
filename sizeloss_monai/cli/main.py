"""The command line: ``python -m sizeloss_monai <command>``, or ``sizeloss-monai <command>``."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Sequence

from sizeloss_monai import __version__
from sizeloss_monai.cli import bounds, bundles, check, datalist, dicom, report, run

__all__ = ["main"]

_COMMANDS = (bundles, run, datalist, check, bounds, report, dicom)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the arguments without the program's name. Defaults to those of the process.

    Returns:
        The exit code: 0, or 1 after an error in the data or the files, told on stderr.

    Raises:
        SystemExit: if the arguments cannot be parsed (code 2), or after ``--help`` and ``--version`` (code 0).
    """
    parser = argparse.ArgumentParser(
        prog="sizeloss-monai", description="Segmentation from weak labels and size bounds."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="command", required=True)
    for command in _COMMANDS:
        command.add(commands)
    args, settings = parser.parse_known_args(argv, argparse.Namespace(takes_settings=False))
    args.settings = settings
    if args.settings and not args.takes_settings:
        parser.error(f"unrecognized arguments: {' '.join(args.settings)}")
    # MONAI warns of a missing DICOM decoder for GPUs whenever it makes a LoadImage
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
    try:
        return args.run(args) or 0
    except Exception as err:
        # late, so that --help stays fast
        from sizeloss_monai.bundle import ConfigError, OutputDirError
        from sizeloss_monai.errors import DataError

        if not isinstance(err, (ConfigError, DataError, OutputDirError, OSError)):
            raise
        print(f"{parser.prog}: error: {err}", file=sys.stderr)
        return 1
