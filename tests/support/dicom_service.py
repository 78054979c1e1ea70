"""What the tests of the PACS service share."""

from __future__ import annotations

import socket

import numpy as np
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.uid import generate_uid

from sizeloss_monai.dicom.service.spool import Spool
from tests.support.dicom_series import make_instance


def service_series(slices: int = 3, patient: str = "Doe^Jane") -> list[Dataset]:
    """A new MR series of 16 x 16 pixels."""
    seed = generate_uid()
    series = [make_instance(number, np.full((16, 16), number), seed) for number in range(slices)]
    for instance in series:
        instance.PatientName, instance.StudyID = patient, "S1"
    return series


def as_bytes(dataset: Dataset) -> bytes:
    """A DICOM file."""
    with DicomBytesIO() as file:
        dataset.save_as(file, enforce_file_format=True)
        return file.getvalue()


def receive(spool: Spool, *datasets: Dataset) -> None:
    """Put instances into the spool as the receiver does."""
    for dataset in datasets:
        spool.receive(dataset.SeriesInstanceUID, dataset.SOPInstanceUID, as_bytes(dataset))


def free_port() -> int:
    """A port that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
