"""The commands ``dicom``, which segments a DICOM series, and ``dicom-service``, which does so beside a PACS."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add"]

_DESCRIPTION = """
Segment a DICOM series with a bundle: for each phase, write a DICOM Segmentation and a JSON summary with volumes in mL
and a verdict: pass, review or reject. Names of files are a hash of the series' UID. The command lists the files that it
does not use, with the reason; a file that could be a slice and cannot be read is an error.

  sizeloss-monai dicom scans/series --bundle bundles/cine_lv_segmentation --output_dir masks
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Add the commands ``dicom`` and ``dicom-service``."""
    parser = commands.add_parser(
        "dicom",
        help="segment a DICOM series with a bundle",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="the folder that holds the series, files in any order")
    parser.add_argument("--bundle", type=Path, required=True, help="the bundle's folder")
    parser.add_argument("--output_dir", type=Path, default=Path("masks"), help="default: masks")
    parser.add_argument("--checkpoint", type=Path, help="the weights; default: the bundle's own")
    parser.add_argument("--series", metavar="UID", help="the Series Instance UID, if the folder holds several series")
    parser.add_argument("--device", help="such as cuda:0; default: a GPU if there is one")
    parser.add_argument("--overwrite", action="store_true", help="replace files of the same name")
    parser.set_defaults(run=_run)
    service = commands.add_parser(
        "dicom-service",
        help="segment what a PACS sends, and store the segmentations there",
        description="Receive DICOM series by C-STORE, segment them with a bundle, and store the segmentations in the "
        "PACS by DICOMweb, until SIGTERM or SIGINT. The log, on stdout, has one JSON object a line.",
    )
    service.add_argument("--config", required=True, help="YAML file of sizeloss_monai.dicom.service.ServiceConfig")
    service.set_defaults(run=_run_service)


def _run(args: argparse.Namespace) -> int:
    """Segment a series, and print the verdicts."""
    import json
    import logging

    from sizeloss_monai.data.whole_files import write_whole
    from sizeloss_monai.dicom import DicomSegmenter, find_instances, pick_series, series_token, unused_files
    from sizeloss_monai.errors import DataError

    logging.getLogger("pydicom").setLevel(logging.ERROR)  # its warnings may quote values of the patient's attributes
    contents = find_instances(args.folder)
    series = pick_series(contents.instances, args.series)
    token = series_token(str(series[0].header.SeriesInstanceUID))
    before = sorted(path.name for path in args.output_dir.glob(f"{token}_*"))
    if before and not args.overwrite:
        raise DataError(
            f"output_dir '{args.output_dir}': found {', '.join(before)} of this series, which would be overwritten. "
            "Give another --output_dir, or --overwrite."
        )
    segmenter = DicomSegmenter(args.bundle, args.checkpoint, args.device)
    phases = segmenter.segment_series(series)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for number, phase in enumerate(phases, 1):
        name = f"{token}_phase{number:02d}_seg" if len(phases) > 1 else f"{token}_seg"
        phase.save(args.output_dir / f"{name}.dcm")
        summary = json.dumps({**phase.summary, "seconds": phase.seconds}, indent=2)
        write_whole(args.output_dir / f"{name}.json", summary + "\n")
        volumes = ", ".join(f"{s['label']} {s['volume_ml']:.1f} mL" for s in phase.summary["segments"].values())
        print(f"{args.output_dir / name}.dcm: {phase.summary['verdict']}: {volumes}")
        for line in (*phase.summary["reasons"], *phase.summary["notes"]):
            print(f"  {line}")
    for path, reason in unused_files(contents, series):
        print(f"not used: {path.relative_to(args.folder)}: {reason}")
    return 0


def _run_service(args: argparse.Namespace) -> None:
    """Read the settings, load the bundle, then listen."""
    import signal
    import threading

    from sizeloss_monai.dicom import DicomSegmenter
    from sizeloss_monai.dicom.service import read_config, run_service
    from sizeloss_monai.dicom.service.log import quiet_libraries

    config = read_config(args.config)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    segmenter = DicomSegmenter(config.bundle, device=config.device)
    quiet_libraries()
    run_service(config, segmenter.segment, stop)
