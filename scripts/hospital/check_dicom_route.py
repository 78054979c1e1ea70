r"""Segment a series by its DICOM and by its NIfTI files, have others read the segmentation, and write what agrees.

    python -m scripts.hospital.check_dicom_route --series sunnybrook/dicom/SCD0000101_ED \
        --scan sunnybrook/SCD0000101_ED.nii.gz --output docs/results/dicom_route.json

Compared are the masks voxel for voxel, the geometry with SimpleITK's reading of the series, and the mask that pydicom,
highdicom and, where it is installed, dcmqi's ``segimage2itkimage`` read from the segmentation. dciodvfy (dicom3tools)
looks at the segmentation of the series as it is, and of a copy whose UIDs are new: errors in the first that are not in
the second come from malformed UIDs of the source, which have to stay.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813
from pydicom.config import disable_value_validation

from scripts.hospital.route_checks import differing_voxels, run_bundle
from sizeloss_monai.bundle.run_record import describe_run
from sizeloss_monai.dicom import DicomSegmenter, SegmentedPhase
from sizeloss_monai.errors import DataError


def main() -> None:
    """Run every comparison and write them down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=Path, required=True, help="folder of the DICOM series, one phase")
    parser.add_argument("--scan", type=Path, required=True, help="the same voxels as NIfTI")
    parser.add_argument("--bundle", type=Path, default=Path("bundles/cine_lv_segmentation"))
    parser.add_argument("--segimage2itkimage", default="segimage2itkimage", help="of dcmqi; default: the one on PATH")
    parser.add_argument("--output", type=Path, required=True, help="JSON")
    args = parser.parse_args()
    segmenter = DicomSegmenter(args.bundle)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        (phase,) = segmenter.segment(args.series)
        mask = np.asarray(phase.mask).astype(np.uint8)
        phase.save(scratch / "seg.dcm")
        found = {
            "voxels": int(np.count_nonzero(mask)),
            "summary": {key: phase.summary[key] for key in ("verdict", "segments", "notes")},
            "nifti_route": nifti_route(args.bundle, args.scan, scratch, mask, phase),
            "simpleitk_geometry_mm": geometry(args.series, phase),
            "segmentation_read_by": readers(scratch, mask, phase, args.segimage2itkimage),
            "dciodvfy_errors": validate(args.series, scratch, segmenter),
            "series_disturbed": disturb(args.series, scratch, segmenter, mask),
        }
    # without the path of this file on this machine, with which sys.argv begins
    command = ["python", "-m", "scripts.hospital.check_dicom_route", *sys.argv[1:]]
    args.output.write_text(
        json.dumps({**found, "made_by": describe_run(command=command)}, indent=2) + "\n", encoding="utf-8"
    )
    print(json.dumps(found, indent=2))


def nifti_route(bundle: Path, scan: Path, scratch: Path, mask: np.ndarray, phase: SegmentedPhase) -> dict[str, Any]:
    """The mask of the same voxels as NIfTI, by the bundle's own inference workflow."""
    file = run_bundle(bundle.resolve(), scan.resolve(), scratch / "masks")
    other = nib.Nifti1Image.from_filename(file)
    return {
        "voxels": int(np.count_nonzero(other.dataobj)),
        "voxels_that_differ": int(np.count_nonzero(np.asarray(other.dataobj) != mask)),
        "affine_largest_difference_mm": float(np.abs(other.affine - np.asarray(phase.mask.affine)).max()),
    }


def geometry(series: Path, phase: SegmentedPhase) -> float:
    """The largest distance between a corner of the mask and the same corner as SimpleITK reads the series."""
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(series)))
    if image.GetSize() != tuple(phase.mask.shape):
        raise DataError(f"series: found {image.GetSize()} voxels by SimpleITK, expected {tuple(phase.mask.shape)}.")
    corners = [[i * (n - 1) for i, n in zip(pick, image.GetSize(), strict=True)] for pick in np.ndindex(2, 2, 2)]
    ours = [(np.asarray(phase.mask.affine) @ [*corner, 1])[:3] * [-1, -1, 1] for corner in corners]
    theirs = [image.TransformIndexToPhysicalPoint(corner) for corner in corners]
    return float(np.linalg.norm(np.subtract(ours, theirs), axis=1).max())


def readers(scratch: Path, mask: np.ndarray, phase: SegmentedPhase, dcmqi: str) -> dict[str, Any]:
    """How many voxels differ in what others read from the segmentation."""
    file, affine = scratch / "seg.dcm", np.asarray(phase.mask.affine)
    with disable_value_validation():
        dataset = pydicom.dcmread(file)
        frames = np.zeros_like(mask)
        for frame, groups in zip(dataset.pixel_array, dataset.PerFrameFunctionalGroupsSequence, strict=True):
            place = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float) * [-1, -1, 1]
            number = np.linalg.solve(affine, [*place, 1])[2]
            given = groups if "SegmentIdentificationSequence" in groups else dataset.SharedFunctionalGroupsSequence[0]
            segment = int(given.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
            frames[..., round(number)] += frame.T.astype(np.uint8) * segment
        volume = hd.seg.segread(file).get_volume(combine_segments=True)
    to_ras = np.diag([-1.0, -1, 1, 1]) @ volume.affine[:, [2, 1, 0, 3]]  # and columns, rows, slices
    found: dict[str, Any] = {
        "pydicom": int(np.count_nonzero(frames != mask)),
        "highdicom": differing_voxels(volume.array.T, to_ras, mask, affine),
    }
    if not shutil.which(dcmqi):
        found["dcmqi"] = "not installed"
    else:
        out = scratch / "dcmqi"
        out.mkdir()
        command = [dcmqi, "--inputDICOM", str(file), "--outputDirectory", str(out), "--outputType", "nii"]
        subprocess.run(command, check=True, capture_output=True)
        image = nib.Nifti1Image.from_filename(out / "1.nii.gz")
        found["dcmqi"] = differing_voxels(np.asarray(image.dataobj), image.affine, mask == 1, affine)
    return found


def validate(series: Path, scratch: Path, segmenter: DicomSegmenter) -> dict[str, Any]:
    """dciodvfy's errors."""
    if not shutil.which("dciodvfy"):
        return {"dciodvfy": "not installed"}
    copy = scratch / "new_uids"
    copy.mkdir()
    uids: dict[str, str] = {}

    def renew(dataset: pydicom.Dataset, element: pydicom.DataElement) -> None:
        if element.VR == "UI" and not str(element.value).startswith("1.2.840.10008."):
            element.value = uids.setdefault(str(element.value), pydicom.uid.generate_uid())

    with disable_value_validation():
        for file in sorted(series.iterdir()):
            dataset = pydicom.dcmread(file)
            dataset.walk(renew)
            dataset.file_meta.walk(renew)
            dataset.save_as(copy / file.name)
    (phase,) = segmenter.segment(copy)
    phase.save(scratch / "new_uids.dcm")
    lines = {}
    for title, file in (("as_it_is", scratch / "seg.dcm"), ("with_new_uids", scratch / "new_uids.dcm")):
        done = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
        lines[title] = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
    summary = "Error - Dicom dataset contains invalid data values for Value Representations"
    malformed = [line for line in lines["as_it_is"] if "Leading zeroes in embedded numeric component" in line]
    others = [line for line in lines["as_it_is"] if line not in malformed and line != summary]
    return {
        "as_it_is": {"uids_of_the_source_with_leading_zeroes": len(malformed), "others": others},
        "with_new_uids": lines["with_new_uids"],
    }


def disturb(series: Path, scratch: Path, segmenter: DicomSegmenter, mask: np.ndarray) -> dict[str, Any]:
    """The series under shuffled names, without a slice, and with a second series in its folder."""
    files = sorted(series.iterdir())
    names = [f"{number:04d}" for number in range(len(files))]
    random.Random(0).shuffle(names)
    shuffled = scratch / "shuffled"
    shuffled.mkdir()
    for file, new in zip(files, names, strict=True):
        shutil.copy(file, shuffled / new)
    (phase,) = segmenter.segment(shuffled)
    found: dict[str, Any] = {
        "shuffled_names_voxels_that_differ": int(np.count_nonzero(np.asarray(phase.mask).astype(np.uint8) != mask))
    }
    without = scratch / "without"
    shutil.copytree(shuffled, without)
    slices = sorted(without.iterdir(), key=lambda file: pydicom.dcmread(file, stop_before_pixels=True).SliceLocation)
    slices[len(slices) // 2].unlink()
    two = scratch / "two"
    shutil.copytree(shuffled, two / "one")
    shutil.copytree(scratch / "new_uids", two / "other")
    uid = str(pydicom.dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID)
    for title, folder in (("missing_slice", without), ("second_series", two)):
        try:
            segmenter.segment(folder)
            found[title] = "not refused"
        except DataError as err:
            found[title] = str(err)
    (phase,) = segmenter.segment(two, uid)
    chosen = np.count_nonzero(np.asarray(phase.mask).astype(np.uint8) != mask)
    found["second_series_and_uid_voxels_that_differ"] = int(chosen)
    return found


if __name__ == "__main__":
    main()
