"""The service between the push of a real Orthanc and its DICOMweb plugin."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from dicomweb_client import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass
from pydicom import Dataset
from pydicom.uid import MRImageStorage
from pynetdicom import AE

from tests.support import ROOT
from tests.support.dicom_service import as_bytes, free_port, service_series


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """What the condition gives, once that is true."""
    for _ in range(int(seconds / 0.05)):
        if result := condition():
            return result
        time.sleep(0.05)
    raise AssertionError("waited in vain")


class Service:
    """The process, over its restarts."""

    def __init__(self, folder: Path, settings: dict[str, Any], environment: dict[str, str]) -> None:
        self.config, self.hold, self.log = folder / "service.yaml", folder / "hold", folder / "service.log"
        self.config.write_text(yaml.safe_dump(settings))
        self.port = settings["port"]
        self.environment = os.environ | environment | {"PYTHONPATH": str(ROOT)}
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        started = self.count("listening")
        arguments = ["-m", "tests.support.fake_service", str(self.config), str(self.hold)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=log, env=self.environment)
        until(lambda: self.count("listening") > started)

    def end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def events(self) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines]  # nothing else is written

    def count(self, name: str) -> int:
        return sum(event["event"] == name for event in self.events())


@pytest.fixture
def service_port() -> int:
    return free_port()


@pytest.fixture
def orthanc(make_orthanc: Callable[[int], Any], service_port: int) -> Any:
    return make_orthanc(service_port)


@pytest.fixture
def service(orthanc: Any, service_port: int, tmp_path: Path) -> Iterator[Service]:
    settings = {
        "ae_title": "SIZELOSS",
        "port": service_port,
        "calling_ae_titles": ["ORTHANC"],
        "dicomweb_url": orthanc.dicomweb_url,
        "user_variable": "PACS_USER",
        "password_variable": "PACS_PASSWORD",
        "bundle": str(tmp_path),
        "spool": str(tmp_path / "spool"),
        "sop_classes": ["MRImageStorage"],
        "quiet_seconds": 0.3,
    }
    service = Service(tmp_path, settings, {"PACS_USER": "sizeloss", "PACS_PASSWORD": "loopback"})
    yield service
    if service.process is not None and service.process.poll() is None:
        service.end(signal.SIGKILL)


def segmentations(orthanc: Any, source: Dataset) -> list[Dataset]:
    """The segmentations in the study of an image, found by QIDO and read back by WADO."""
    session = create_session_from_user_pass("sizeloss", "loopback")
    client = DICOMwebClient(orthanc.dicomweb_url, session)
    study = source.StudyInstanceUID
    found = client.search_for_instances(study, search_filters={"Modality": "SEG"})
    uids = [(item["0020000E"]["Value"][0], item["00080018"]["Value"][0]) for item in found]
    return [client.retrieve_instance(study, *uid) for uid in uids]


def test_round_trip(orthanc: Any, service: Service, tmp_path: Path) -> None:
    series = {name: service_series(3, patient=name) for name in ("First^One", "Broken", "Second^One")}
    for datasets in series.values():
        for dataset in datasets:
            orthanc.upload(as_bytes(dataset))

    def push(name: str) -> None:
        job = orthanc.push(series[name][0].SeriesInstanceUID)
        assert until(lambda: orthanc.job_state(job) in ("Success", "Failure") and orthanc.job_state(job)) == "Success"

    service.start()
    ae = AE("ORTHANC")
    ae.add_requested_context(MRImageStorage)
    sender = ae.associate("127.0.0.1", service.port, ae_title="SIZELOSS")
    assert sender.send_c_store(series["First^One"][0]).Status == 0
    sender.release()
    until(lambda: service.count("incomplete"))  # Orthanc has three
    assert service.events()[-1]["missing"] == 2
    push("First^One")
    until(lambda: service.count("stored"))
    (found,) = segmentations(orthanc, series["First^One"][0])
    assert found.PatientName == "First^One"
    assert found.pixel_array.sum() == 3
    referenced = {
        item.ReferencedSOPInstanceUID for item in found.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert referenced == {dataset.SOPInstanceUID for dataset in series["First^One"]}

    push("Broken")
    until(lambda: service.count("failed"))

    service.hold.touch()
    begun = service.count("segmenting")
    push("Second^One")
    until(lambda: service.count("segmenting") > begun)
    service.end(signal.SIGKILL)
    service.hold.unlink()
    service.start()
    orthanc.stop(signal.SIGKILL)  # while the service waits for the series to be complete
    until(lambda: service.count("PACS unavailable"))
    orthanc.start()
    until(lambda: service.count("stored") == 2)
    assert len(segmentations(orthanc, series["Second^One"][0])) == 1
    assert segmentations(orthanc, series["Broken"][0]) == []

    push("First^One")  # once more
    until(lambda: service.count("stored") == 3)
    assert service.events()[-1]["already_there"] == 1
    assert len(segmentations(orthanc, series["First^One"][0])) == 1

    assert service.end(signal.SIGTERM) == 0
    assert service.events()[-1]["event"] == "stopped"
    assert service.count("failed") == 1
    spool = tmp_path / "spool"
    pixels = {path.relative_to(spool).parts[0] for path in spool.rglob("*.dcm")}
    assert pixels == {"failed"}
    assert len(list((spool / "done").iterdir())) == 2
    written = service.log.read_text() + " ".join(str(path.relative_to(tmp_path)) for path in spool.rglob("*"))
    for dataset in chain(*series.values()):
        for value in (dataset.PatientName, dataset.PatientID, dataset.SOPInstanceUID, dataset.SeriesInstanceUID):
            assert str(value) not in written
