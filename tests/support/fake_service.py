"""The service with a segmenter that marks one pixel: ``python -m tests.support.fake_service CONFIG HOLD``.

It raises an error on the patient "Broken", and waits with every series while the file HOLD exists.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import highdicom as hd
import numpy as np
from pydicom import dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from sizeloss_monai.dicom.service import read_config, run_service
from sizeloss_monai.dicom.service.log import log_event, quiet_libraries
from sizeloss_monai.errors import DataError


def segment(folder: Path) -> list[SimpleNamespace]:
    """One phase."""
    log_event("segmenting")
    while hold.exists():
        time.sleep(0.02)
    images = sorted((dcmread(path) for path in folder.iterdir()), key=lambda ds: ds.ImagePositionPatient[2])
    if images[0].PatientName == "Broken":
        raise DataError(f"patient {images[0].PatientName}: series {images[0].SeriesInstanceUID} is broken")
    mask = np.zeros((len(images), 16, 16), np.uint8)
    mask[:, 8, 8] = 1
    series_uid = images[0].SeriesInstanceUID
    segmentation = hd.seg.Segmentation(
        images,
        mask,
        hd.seg.SegmentationTypeValues.BINARY,
        [
            hd.seg.SegmentDescription(
                1,
                "heart",
                codes.SCT.Organ,
                codes.SCT.Heart,
                hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                hd.AlgorithmIdentificationSequence("fake", codes.DCM.ArtificialIntelligence, "1"),
            )
        ],
        series_instance_uid=generate_uid(entropy_srcs=[series_uid, "series"]),
        series_number=100,
        sop_instance_uid=generate_uid(entropy_srcs=[series_uid, "instance"]),
        instance_number=1,
        manufacturer="none",
        manufacturer_model_name="fake",
        software_versions="1",
        device_serial_number="1",
    )
    seconds = {"read": 0.1, "inference": 0.2, "write": 0.1}
    return [SimpleNamespace(segmentation=segmentation, summary={"verdict": "pass"}, seconds=seconds)]


config, hold = read_config(sys.argv[1]), Path(sys.argv[2])
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
quiet_libraries()
run_service(config, segment, stop)
