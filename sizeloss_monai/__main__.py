"""Run the command line with ``python -m sizeloss_monai``."""

import sys

from sizeloss_monai.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
