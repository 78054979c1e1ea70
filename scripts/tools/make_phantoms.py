"""Write cine-MRI-like cardiac phantoms and their ``datalist.json``, for a demo without patient data.

Example::

    python -m scripts.tools.make_phantoms --output_dir demo/phantoms --patients 12 --seed 0
    python -m scripts.tools.make_phantoms --layout folder --output_dir my_scans --patients 10
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sizeloss_monai.phantoms import write_cine_phantoms, write_phantom_folder


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and write the phantoms.

    Args:
        argv: arguments without the program's name; None takes those of the process.
    """
    parser = argparse.ArgumentParser(
        description="Write cine-MRI-like cardiac phantoms (ED and ES of each patient) and a Decathlon-style data list."
    )
    parser.add_argument(
        "--layout",
        default="datalist",
        choices=["datalist", "folder"],
        help="files with a full mask each and their datalist.json; or folders images and weak_labels, the scribbles as "
        "ITK-SNAP and 3D Slicer save them (0 where nobody painted), of a user without masks (default: %(default)s)",
    )
    parser.add_argument("--output_dir", required=True, help="folder to write into; must be empty or absent")
    parser.add_argument("--patients", type=int, default=12, help="number of patients (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything (default: %(default)s)")
    parser.add_argument(
        "--suffix",
        nargs="+",
        choices=[".nii.gz", ".mhd"],
        help="file type; given both, patients take them in turn (default: .nii.gz)",
    )
    parser.add_argument("--scribbles", action="store_true", help="also write scribbles, listed as weak_label")
    parser.add_argument("--overwrite", action="store_true", help="write into a folder that is not empty")
    parser.add_argument("--masks", type=int, help="with --layout folder: patients that have full masks (default: 0)")
    args = parser.parse_args(argv)
    if args.layout == "folder" and (args.suffix or args.scribbles or args.overwrite):
        parser.error("--suffix, --scribbles and --overwrite are of --layout datalist")
    if args.layout == "datalist" and args.masks is not None:
        parser.error("--masks is of --layout folder")
    try:
        if args.layout == "folder":
            folder = write_phantom_folder(args.output_dir, args.patients, args.masks or 0, args.seed)
            print(f"{args.patients} patients, 2 phases each: {folder}")
            return
        datalist = write_cine_phantoms(
            args.output_dir,
            num_patients=args.patients,
            seed=args.seed,
            suffixes=args.suffix or [".nii.gz"],
            with_scribbles=args.scribbles,
            overwrite=args.overwrite,
        )
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f"{args.patients} patients, 2 phases each: {datalist}")


if __name__ == "__main__":
    main()
