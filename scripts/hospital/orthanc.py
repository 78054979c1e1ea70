"""An Orthanc of one's own on loopback: a PACS for tests, filled and asked by its REST interface."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")  # where Debian puts it
USER, PASSWORD = "sizeloss", "loopback"
_MODALITY = "service"


def is_installed() -> bool:
    """Whether Orthanc and its DICOMweb plugin are there."""
    return shutil.which("Orthanc") is not None and PLUGIN.exists()


class Orthanc:
    """A PACS that pushes to one service.

    Args:
        folder: for its database, configuration and log; kept over restarts.
        http_port: of REST and DICOMweb.
        dicom_port: of its own storage SCP.
        service: AE title and port of the service, on this machine.
        ae_title: its own.
    """

    def __init__(
        self, folder: Path, http_port: int, dicom_port: int, service: tuple[str, int], ae_title: str = "ORTHANC"
    ) -> None:
        self.dicomweb_url = f"http://127.0.0.1:{http_port}/dicom-web"
        self._url = f"http://127.0.0.1:{http_port}"
        self._folder = folder
        self._process: subprocess.Popen | None = None
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "Name": "test",
            "StorageDirectory": str(folder / "storage"),
            "Plugins": [str(PLUGIN)],
            "DicomWeb": {"Enable": True},
            "HttpPort": http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "DicomAet": ae_title,
            "DicomPort": dicom_port,
            "DicomModalities": {_MODALITY: [service[0], "127.0.0.1", service[1]]},
            "OverwriteInstances": False,
        }
        (folder / "orthanc.json").write_text(json.dumps(config, indent=1))

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self._folder / "orthanc.log").open("ab") as log:
            self._process = subprocess.Popen(["Orthanc", str(self._folder / "orthanc.json")], stdout=log, stderr=log)
        for _ in range(300):
            try:
                self.api("/system")
                return
            except OSError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.1)
        raise RuntimeError(f"Orthanc did not start, see {self._folder / 'orthanc.log'}")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it by a signal."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def api(self, path: str, body: Any = None) -> Any:
        """GET, or POST of bytes or JSON.

        Raises:
            OSError: if there is no answer, or an error.
        """
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data=data)
        token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read() or b"null")

    def upload(self, file: bytes) -> None:
        """Add one DICOM file."""
        self.api("/instances", file)

    def push(self, series_uid: str) -> str:
        """Begin to send a series to the service by C-STORE; gives the job."""
        (found,) = self.api("/tools/lookup", series_uid.encode())
        job = self.api(f"/modalities/{_MODALITY}/store", {"Resources": [found["ID"]], "Asynchronous": True})
        return job["ID"]

    def job_state(self, job: str) -> str:
        """``Pending``, ``Running``, ``Retry``, ``Success`` or ``Failure``."""
        return self.api(f"/jobs/{job}")["State"]

    def resubmit_failed(self) -> int:
        """Begin every failed job again; gives their number."""
        failed = [job["ID"] for job in self.api("/jobs?expand") if job["State"] == "Failure"]
        for job in failed:
            self.api(f"/jobs/{job}/resubmit", b"")
        return len(failed)
