from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import MRImageStorage, generate_uid

from sizeloss_monai.dicom.series import digest
from sizeloss_monai.dicom.service import log, worker
from sizeloss_monai.dicom.service.pacs import PacsRefusedError, PacsUnavailableError
from sizeloss_monai.dicom.service.spool import Spool
from sizeloss_monai.dicom.service.worker import Worker
from sizeloss_monai.errors import DataError
from tests.support.dicom_service import receive, service_series


class FakePacs:
    """Has instances; fails as told, one exception a request."""

    def __init__(self) -> None:
        self.images: list[str] = []
        self.stored: list[str] = []
        self.troubles: list[Exception | None] = []
        self.loses_answer = False

    def _trouble(self) -> None:
        trouble = self.troubles.pop(0) if self.troubles else None
        if trouble:
            raise trouble

    def instances(self, study_uid: str, series_uid: str, sop_class_uids: frozenset[str]) -> list[str]:
        assert study_uid
        assert series_uid
        self._trouble()
        return self.images

    def has(self, instance: Dataset) -> bool:
        self._trouble()
        return instance.SOPInstanceUID in self.stored

    def store(self, instance: Dataset) -> None:
        self._trouble()
        self.stored.append(instance.SOPInstanceUID)
        if self.loses_answer:
            self.loses_answer = False
            raise PacsUnavailableError("ConnectionError")


class Service:
    """A worker with its surroundings."""

    def __init__(self, make_spool: Callable[..., Spool]) -> None:
        self.make_spool = make_spool
        self.spool = make_spool()
        self.pacs = FakePacs()
        self.stop = threading.Event()
        self.segmented: list[int] = []
        self.trouble: Exception | None = None
        self.incomplete_seconds = 3600.0
        self.restart()

    def restart(self) -> None:
        self.spool = self.make_spool()
        self.worker = Worker(
            self.spool,
            self.pacs,  # type: ignore[arg-type]
            self.segment,
            sop_class_uids=frozenset([MRImageStorage]),
            incomplete_seconds=self.incomplete_seconds,
            stop=self.stop,
        )

    def segment(self, folder: Path) -> Sequence[Any]:
        """Two phases, with UIDs that depend on the instances."""
        uids = sorted(str(dcmread(path).SOPInstanceUID) for path in folder.iterdir())
        self.segmented.append(len(uids))
        if self.trouble:
            raise self.trouble
        phases = []
        for phase in ("1", "2"):
            segmentation = Dataset()
            segmentation.SOPInstanceUID = generate_uid(entropy_srcs=[*uids, phase])
            seconds = {"read": 1.0, "inference": 2.0, "write": 0.5}
            phases.append(SimpleNamespace(segmentation=segmentation, summary={"verdict": "pass"}, seconds=seconds))
        return phases

    def work(self) -> None:
        """Process what is in the queue now."""
        for _ in range(len(self.spool)):
            series = self.spool.take()
            assert series is not None
            self.worker.process(series)

    def reasons(self) -> dict[str, str]:
        folder = self.spool._failed
        return {path.stem: json.loads(path.read_text())["reason"] for path in folder.glob("*.json")}


@pytest.fixture
def service(make_spool: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(worker, "_FIRST_PAUSE", 0.001)
    return Service(make_spool)


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    caplog.set_level(logging.INFO, logger=log.__name__)
    return lambda: [json.loads(record.message) for record in caplog.records if record.name == log.__name__]


Events = Callable[[], list[dict[str, Any]]]


def test_a_series_is_segmented_stored_and_removed(service: Service, events: Events) -> None:
    series = service_series()
    receive(service.spool, *series)
    service.pacs.images = [ds.SOPInstanceUID for ds in series]
    service.work()
    assert len(service.pacs.stored) == len(set(service.pacs.stored)) == 2
    assert len(service.spool) == 0
    assert not list(service.spool._working.iterdir())
    (event,) = events()
    assert event["event"] == "stored"
    assert event["series"] == digest(series[0].SeriesInstanceUID)[:12]
    assert (event["instances"], event["segmentations"], event["already_there"]) == (3, 2, 0)
    seconds = event["seconds"]
    assert (seconds["read"], seconds["inference"], seconds["write"]) == (2.0, 4.0, 1.0)
    assert set(seconds) == {"receive", "wait", "read", "inference", "write", "store", "total"}


def test_a_crash_before_done_stores_nothing_twice(
    service: Service, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end_the_process(_: object) -> None:
        raise KeyboardInterrupt

    receive(service.spool, *service_series())
    with monkeypatch.context() as patch:
        patch.setattr(service.spool, "finish", end_the_process)
        with pytest.raises(KeyboardInterrupt):
            service.work()
    assert len(service.pacs.stored) == 2
    service.restart()
    service.work()
    assert len(service.pacs.stored) == 2
    assert events()[-1]["already_there"] == 2
    assert len(list(service.spool._done.iterdir())) == 1


def test_a_lost_answer_stores_nothing_twice(service: Service) -> None:
    receive(service.spool, *service_series())
    service.pacs.loses_answer = True
    service.work()
    assert len(service.pacs.stored) == len(set(service.pacs.stored)) == 2


def test_waits_for_the_pacs_however_long(service: Service, events: Events) -> None:
    receive(service.spool, *service_series())
    down = PacsUnavailableError("ConnectionError")
    service.pacs.troubles = [down, down, None, down, None, None, None, down, down, down, down, down, down]
    service.work()
    assert len(service.pacs.stored) == 2
    assert service.segmented == [3]
    assert [event["event"] for event in events()] == ["PACS unavailable"] * 9 + ["stored"]
    pauses = [event["next_attempt_seconds"] for event in events()[:2]]
    assert pauses[1] == 2 * pauses[0]


def test_a_request_that_breaks_the_pacs_is_given_up(service: Service) -> None:
    receive(service.spool, *service_series())
    service.pacs.troubles = [PacsUnavailableError("HTTP 500", passes=False)] * 5
    service.work()
    assert list(service.reasons().values()) == ["the PACS failed 5 times: HTTP 500"]


def test_a_stop_while_the_pacs_is_down_leaves_the_series(service: Service) -> None:
    receive(service.spool, *service_series())
    service.pacs.troubles = [PacsUnavailableError("ConnectionError")] * 2
    service.stop.set()
    service.work()
    assert len(service.spool) == 1
    service.restart()
    service.pacs.troubles = []
    service.work()
    assert len(service.pacs.stored) == 2


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (DataError("slices 3 and 4 are 16 mm apart"), "slices 3 and 4 are 16 mm apart"),
        (PacsRefusedError("HTTP 409", 409), "the PACS refused: HTTP 409"),
        (ZeroDivisionError("Doe^Jane"), r"ZeroDivisionError at test_worker.py:\d+"),
        (MemoryError(), r"MemoryError at test_worker.py:\d+"),
    ],
)
def test_a_failure_is_logged_once_and_the_next_series_goes_on(
    service: Service, events: Events, trouble: Exception, reason: str
) -> None:
    series = service_series()
    receive(service.spool, *series)
    service.trouble = trouble
    service.work()
    service.trouble = None
    receive(service.spool, *service_series())
    service.work()
    service.work()
    assert [event["event"] for event in events()] == ["failed", "stored"]
    (told,) = service.reasons().items()
    assert told[0] == digest(series[0].SeriesInstanceUID)
    assert told[1] == events()[0]["reason"]
    assert re.fullmatch(reason, told[1])


def test_a_reason_quotes_no_patient(service: Service, events: Events) -> None:
    series = service_series()
    uid = series[0].SOPInstanceUID
    receive(service.spool, *series)
    service.trouble = DataError(
        f"instance {uid} of DOE^JANE (secret-7, born 19700102, A1) at {service.spool._working}: found 2 of 1.5 mm"
    )
    service.work()
    (reason,) = service.reasons().values()
    assert reason == (
        f"instance {digest(uid)[:12]} of *** (***, born ***, ***) at {service.spool._working}: found 2 of 1.5 mm"
    )
    assert uid not in json.dumps(events())


def test_a_damaged_file_does_not_hide_the_reason(service: Service) -> None:
    receive(service.spool, *service_series())
    (folder,) = service.spool._incoming.iterdir()
    damaged = max(folder.iterdir())

    def damage(series: Path) -> Sequence[Any]:
        (series / damaged.name).write_bytes(b"")
        raise DataError("found an empty file of Doe^Jane")

    service.worker._segment = damage
    service.work()
    assert list(service.reasons().values()) == ["found an empty file of ***"]


def test_a_first_file_that_is_damaged_is_named(service: Service) -> None:
    receive(service.spool, *service_series())
    (folder,) = service.spool._incoming.iterdir()
    damaged = min(folder.iterdir())
    damaged.write_bytes(b"")
    service.work()
    expected = f"file '{damaged.name}': found a file that cannot be read, expected a DICOM instance."
    assert list(service.reasons().values()) == [expected]


def test_a_series_that_ends_the_process_is_given_up(service: Service) -> None:
    receive(service.spool, *service_series())
    for _ in range(3):
        assert service.spool.take()
        service.restart()
    service.work()
    assert service.segmented == []
    assert list(service.reasons().values()) == ["the service ended 3 times while it worked on this series"]


def test_waits_for_instances_that_the_pacs_has(service: Service, events: Events) -> None:
    series = service_series(3)
    service.pacs.images = [ds.SOPInstanceUID for ds in series]
    receive(service.spool, *series[:2])
    service.work()
    service.work()
    assert service.segmented == []
    receive(service.spool, series[2])
    service.work()
    assert service.segmented == [3]
    assert [event["event"] for event in events()] == ["incomplete", "stored"]
    assert events()[0]["missing"] == 1


def test_gives_up_a_series_that_stays_incomplete(service: Service) -> None:
    service.incomplete_seconds = 1e-9
    service.restart()
    series = service_series(3)
    service.pacs.images = [ds.SOPInstanceUID for ds in series]
    receive(service.spool, *series[:2])
    service.work()
    assert list(service.reasons().values()) == ["incomplete: 1 of 3 instances of the PACS did not come"]


def test_instances_after_the_series_is_done(service: Service, events: Events) -> None:
    series = service_series(4)
    receive(service.spool, *series[:3])
    service.work()
    receive(service.spool, series[0])  # again
    service.work()
    assert service.segmented == [3]
    receive(service.spool, series[0], series[3])  # a new one, without the others
    service.work()
    assert service.segmented == [3]
    assert "send the whole series again" in next(iter(service.reasons().values()))
    receive(service.spool, *series)
    service.work()
    assert service.segmented == [3, 4]
    assert service.reasons() == {}
    receive(service.spool, *series)  # the whole series again: nothing new to store
    service.work()
    assert [event["event"] for event in events()] == [
        "stored",
        "repeated instances dropped",
        "failed",
        "stored",
        "stored",
    ]
    assert len(service.pacs.stored) == len(set(service.pacs.stored)) == 4
    assert events()[-1]["already_there"] == 2
