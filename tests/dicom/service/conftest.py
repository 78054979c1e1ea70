from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.hospital import orthanc

pytest.importorskip("pynetdicom", reason="the extra [dicom] is not installed")

from sizeloss_monai.dicom.service.config import ServiceConfig
from sizeloss_monai.dicom.service.spool import Spool
from tests.support.dicom_service import free_port


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
