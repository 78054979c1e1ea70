"""The command ``dicom-service``: a service beside a PACS."""

from __future__ import annotations

import argparse

__all__ = ["add"]


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command ``dicom-service``."""
    parser = commands.add_parser(
        "dicom-service",
        help="segment what a PACS sends, and store the segmentations there",
        description="Receive DICOM series by C-STORE, segment them with a bundle, and store the segmentations in the "
        "PACS by DICOMweb, until SIGTERM or SIGINT. The log, on stdout, has one JSON object a line.",
    )
    parser.add_argument("--config", required=True, help="YAML file of sizeloss_monai.dicom.service.ServiceConfig")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
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
