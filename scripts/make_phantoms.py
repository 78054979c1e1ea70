"""Write cine-MRI-like cardiac phantoms and their ``datalist.json``, for a demo without patient data.

Example::

    python scripts/make_phantoms.py --output_dir demo/phantoms --patients 12 --seed 0
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sizeloss_monai.data.phantoms import write_cine_phantoms


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and write the phantoms.

    Args:
        argv: arguments without the program's name; None takes those of the process.
    """
    parser = argparse.ArgumentParser(
        description="Write cine-MRI-like cardiac phantoms (ED and ES of each patient) and a Decathlon-style data list."
    )
    parser.add_argument("--output_dir", required=True, help="folder to write into; must be empty or absent")
    parser.add_argument("--patients", type=int, default=12, help="number of patients (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything (default: %(default)s)")
    parser.add_argument(
        "--suffix",
        nargs="+",
        default=[".nii.gz"],
        choices=[".nii.gz", ".mhd"],
        help="file type; given both, patients take them in turn (default: .nii.gz)",
    )
    parser.add_argument("--scribbles", action="store_true", help="also write scribbles, listed as weak_label")
    parser.add_argument("--overwrite", action="store_true", help="write into a folder that is not empty")
    args = parser.parse_args(argv)
    try:
        datalist = write_cine_phantoms(
            args.output_dir,
            num_patients=args.patients,
            seed=args.seed,
            suffixes=args.suffix,
            with_scribbles=args.scribbles,
            overwrite=args.overwrite,
        )
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f"{args.patients} patients, 2 phases each: {datalist}")


if __name__ == "__main__":
    main()
