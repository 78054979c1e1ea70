r"""Segment a DICOM series by the MONAI Deploy application, and compare with the bundle's own mask of the same series.

    ulimit -s 32768
    env/bin/python -m scripts.hospital.monai_deploy.check_deploy --work_dir check \
        --series data/sunnybrook/dicom/SCD0000101_ED

Run it with the environment that `scripts/hospital/monai_deploy/setup.sh` makes. The bundle's own mask is that of
`python -m monai.bundle run` on the NIfTI file that SimpleITK makes of the series, or on one that is given. It also
checks that the application refuses a folder with a second series, and one in which a slice is missing.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import highdicom as hd
import numpy as np
import SimpleITK as sitk  # noqa: N813
from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.uid import generate_uid

from scripts import ROOT
from scripts.hospital.route_checks import check, compare, new_folder, run, run_bundle

APP = Path(__file__).with_name("app.py")
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def as_nifti(series: Path, file: Path) -> Path:
    """Save a series as NIfTI by SimpleITK."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    sitk.WriteImage(reader.Execute(), str(file))
    return file


def refusal(folder: Path, output: Path, bundle: Path) -> str:
    """What the application says of a folder that it has to refuse.

    Args:
        folder: of DICOM files.
        output: an empty folder, which has to stay so.
        bundle: its folder.

    Returns:
        The line; empty where there is none, something was written, or it ended well.
    """
    output.mkdir()
    command: list[str | Path] = [sys.executable, APP, "-i", folder, "-o", output, "-m", bundle]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    refused = done.returncode != 0 and not any(output.iterdir())
    lines = [line for line in done.stderr.splitlines() if line.startswith("DataError: ")]
    return lines[-1] if refused and lines else ""


def main() -> None:
    """Parse the command line and check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work_dir", type=Path, required=True, help="folder to write into; absent or empty")
    parser.add_argument("--series", type=Path, required=True, help="folder of a DICOM series")
    parser.add_argument("--nifti", type=Path, help="the same series as NIfTI (default: made by SimpleITK)")
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "cine_lv_segmentation")
    args = parser.parse_args()
    work_dir, bundle = new_folder(args.work_dir), args.bundle.resolve()

    output = work_dir / "output"
    output.mkdir()
    run([sys.executable, APP, "-i", args.series, "-o", output, "-m", bundle])
    (file,) = output.glob("*.dcm")
    segmentation = hd.seg.segread(file)
    volume = segmentation.get_volume(combine_segments=True)
    for number in segmentation.segment_numbers:
        described = segmentation.get_segment_description(number)
        print(f"segment {number}: {described.segment_label}, {described.segmented_property_type.value}")
    expected = run_bundle(
        bundle, args.nifti or as_nifti(args.series, work_dir / "series.nii.gz"), work_dir / "expected"
    )
    same, text = compare(volume.array, LPS_TO_RAS @ volume.affine, expected)
    check(same, f"mask of the application = mask by monai.bundle run: {text}")

    broken = Path(shutil.copytree(args.series, work_dir / "missing_slice"))
    by_position = sorted(broken.iterdir(), key=lambda path: float(dcmread(path).ImagePositionPatient[2]))
    by_position[len(by_position) // 2].unlink()
    line = refusal(broken, work_dir / "output_missing_slice", bundle)
    check("a slice is missing" in line, f"a missing slice is refused: {line}")

    mixed = Path(shutil.copytree(args.series, work_dir / "two_series"))
    for path in sorted(args.series.iterdir()):
        other = dcmread(path)
        other.SeriesInstanceUID = generate_uid(entropy_srcs=[other.SeriesInstanceUID])
        other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = generate_uid(
            entropy_srcs=[other.SOPInstanceUID]
        )
        other.save_as(mixed / f"other_{path.name}")
    line = refusal(mixed, work_dir / "output_two_series", bundle)
    check("found 2 series" in line, f"a second series is refused: {line}")


if __name__ == "__main__":
    with disable_value_validation():  # an anonymiser's UIDs may break their VR's rules
        main()
