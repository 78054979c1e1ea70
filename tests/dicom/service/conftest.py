from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from scripts.hospital import orthanc

pytest.importorskip("pynetdicom", reason="the extra [dicom] is not installed")

from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from sizeloss_monai.dicom.service.config import ServiceConfig
from sizeloss_monai.dicom.service.spool import Spool


def synthetic_series(slices: int = 3, patient: str = "Doe^Jane") -> list[FileDataset]:
    """An MR series of 16 x 16 pixels."""
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    datasets = []
    for index in range(slices):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID, ds.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = patient, "4711-X", "19700102", "F"
        ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20240102", "101112", "S1", "ACC99"
        ds.ReferringPhysicianName, ds.Manufacturer, ds.Modality = "Who^Doctor", "none", "MR"
        ds.SeriesNumber, ds.InstanceNumber = 1, index + 1
        ds.PositionReferenceIndicator = ""
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 8 * index], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness = [1.5, 1.5], 8
        ds.Rows = ds.Columns = 16
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit, ds.PixelRepresentation = 15, 0
        ds.PixelData = np.full((16, 16), index, np.uint16).tobytes()
        datasets.append(ds)
    return datasets


def as_bytes(dataset: Dataset) -> bytes:
    """A DICOM file."""
    with DicomBytesIO() as file:
        dataset.save_as(file)
        return file.getvalue()


def receive(spool: Spool, *datasets: Dataset) -> None:
    """Put instances into the spool as the receiver does."""
    for dataset in datasets:
        spool.receive(dataset.SeriesInstanceUID, dataset.SOPInstanceUID, as_bytes(dataset))


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def tools() -> SimpleNamespace:
    """What the tests of the service share."""
    return SimpleNamespace(series=synthetic_series, as_bytes=as_bytes, receive=receive, free_port=free_port)


@pytest.fixture
def make_spool(tmp_path: Path) -> Iterator[Callable[..., Spool]]:
    """A spool, with everything in it complete at once; made again, it is the same one after the process has ended."""
    made: list[Spool] = []

    def make(**settings: Any) -> Spool:
        if made:
            made.pop().close()
        made.append(Spool(tmp_path / "spool", **{"quiet_seconds": 0, "max_series": 10, "max_bytes": 1e6, **settings}))
        return made[0]

    yield make
    if made:
        made.pop().close()


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., ServiceConfig]:
    """Settings of a service on a free port."""

    def make(**settings: Any) -> ServiceConfig:
        defaults = {
            "ae_title": "SIZELOSS",
            "port": free_port(),
            "calling_ae_titles": ["ORTHANC"],
            "dicomweb_url": "http://127.0.0.1:1/dicom-web",
            "bundle": str(tmp_path),
            "spool": str(tmp_path / "spool"),
            "sop_classes": ["MRImageStorage"],
            "quiet_seconds": 0.3,
        }
        return ServiceConfig(**(defaults | settings))

    return make


@pytest.fixture
def make_orthanc(tmp_path: Path) -> Iterator[Callable[[int], Any]]:
    """A running Orthanc that pushes to the service on that port."""
    if not orthanc.is_installed():
        pytest.skip("no Orthanc with DICOMweb: apt install orthanc orthanc-dicomweb")
    started = []

    def make(service_port: int) -> Any:
        pacs = orthanc.Orthanc(tmp_path / "orthanc", free_port(), free_port(), ("SIZELOSS", service_port))
        pacs.start()
        started.append(pacs)
        return pacs

    yield make
    for pacs in started:
        pacs.stop()
