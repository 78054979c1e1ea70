"""One series at a time, from the spool to the PACS."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydicom import Dataset, dcmread

from sizeloss_monai.dicom.instances import decode_elements
from sizeloss_monai.dicom.series import digest
from sizeloss_monai.dicom.service.log import log_event, redacted, where
from sizeloss_monai.dicom.service.pacs import Pacs, PacsRefusedError, PacsUnavailableError
from sizeloss_monai.dicom.service.spool import ReceivedSeries, Spool
from sizeloss_monai.errors import DataError

__all__ = ["Segmented", "Worker"]

_T = TypeVar("_T")
_MAX_BEGUN = 3  # a series during which the process ended so often is not begun again
_MAX_ATTEMPTS = 5  # of a request that makes the PACS fail
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds between requests to a PACS that does not answer
_PATIENT = [  # attributes whose values must not be in a reason
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "OtherPatientIDs",
    "AccessionNumber",
    "StudyID",
    "ReferringPhysicianName",
]


class Segmented(Protocol):
    """What the segmenter makes of one phase, see `sizeloss_monai.dicom.SegmentedPhase`."""

    @property
    def segmentation(self) -> Dataset:
        """The DICOM Segmentation object."""

    @property
    def summary(self) -> Mapping[str, Any]:
        """With the ``verdict``."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Of ``read``, ``inference`` and ``write``."""


class Worker:
    """Segments series and stores the segmentations.

    Args:
        spool: where the series come from.
        pacs: where the segmentations go.
        segment: makes the segmentations of the series in a folder, with UIDs that depend on nothing but the series and
            the model.
        sop_class_uids: what counts as an instance of a series.
        incomplete_seconds: how long a series waits for instances that the PACS has and did not send.
        stop: once set, waiting for the PACS ends and the series stays in the spool.
    """

    def __init__(
        self,
        spool: Spool,
        pacs: Pacs,
        segment: Callable[[Path], Sequence[Segmented]],
        *,
        sop_class_uids: frozenset[str],
        incomplete_seconds: float,
        stop: threading.Event,
    ) -> None:
        self._spool = spool
        self._pacs = pacs
        self._segment = segment
        self._sop_class_uids = sop_class_uids
        self._incomplete_seconds = incomplete_seconds
        self._stop = stop
        self._incomplete: set[str] = set()  # series of which the log says that instances are missing

    def process(self, series: ReceivedSeries) -> None:
        """Bring one taken series to its end: done, failed, or back into the queue.

        An error of the series ends in the log and in its reason file, never here.
        """
        try:
            self._process(series)
        except _StoppedError:
            self._spool.put_back(series)
        except (_FailedError, DataError) as err:
            self._fail(series, _reason(series, err))
        except PacsRefusedError as err:
            self._fail(series, f"the PACS refused: {err}")
        except PacsUnavailableError as err:
            self._fail(series, f"the PACS failed {_MAX_ATTEMPTS} times: {err}")
        except Exception as err:  # a fault of one series must not end the service
            self._fail(series, where(err))

    def _process(self, series: ReceivedSeries) -> None:
        """As `process`, with errors raised."""
        begun = time.time()
        first, last = series.arrivals
        received = series.instances
        if series.attempts >= _MAX_BEGUN:
            raise _FailedError(f"the service ended {series.attempts} times while it worked on this series")
        if not self._has_news(series, received) or not self._is_whole(series, received, time.time() - last):
            return
        phases = self._segment(series.folder)
        segmented = time.time()
        already_there = sum(self._stored_before(phase.segmentation) for phase in phases)
        self._spool.finish(series)
        end = time.time()
        seconds = {"receive": last - first, "wait": begun - last}
        for name in ("read", "inference", "write"):
            seconds[name] = sum(phase.seconds[name] for phase in phases)
        seconds |= {"store": end - segmented, "total": end - last}
        log_event(
            "stored",
            series=series.token,
            instances=len(received),
            segmentations=len(phases),
            already_there=already_there,
            verdicts=[phase.summary["verdict"] for phase in phases],
            seconds={name: round(value, 3) for name, value in seconds.items()},
        )

    def _has_news(self, series: ReceivedSeries, received: frozenset[str]) -> bool:
        """Whether to segment a series of which instances may have been segmented before.

        Late instances alone are no series: those known are dropped, and new ones are an error, since the others were
        removed. A whole series sent again is segmented again; what that gives, the PACS may have already.
        """
        done = self._spool.instances_done(series.key)
        if done is None or done <= received:
            return True
        if not received < done:
            raise _FailedError(
                f"{len(received - done)} new instances came after the series was done with {len(done)} others; "
                "send the whole series again"
            )
        self._spool.drop(series)
        log_event("repeated instances dropped", series=series.token, instances=len(received))
        return False

    def _is_whole(self, series: ReceivedSeries, received: frozenset[str], age: float) -> bool:
        """Whether all instances that the PACS has of a series came; otherwise it waits for them."""
        header = _header(min(series.folder.iterdir()), ["StudyInstanceUID", "SeriesInstanceUID"])
        uids = str(header.StudyInstanceUID), str(header.SeriesInstanceUID)
        known = self._answer(partial(self._pacs.instances, *uids, self._sop_class_uids))
        missing = {digest(uid) for uid in known} - received
        if not missing:
            self._incomplete.discard(series.key)
            return True
        if age > self._incomplete_seconds:
            self._incomplete.discard(series.key)
            raise _FailedError(f"incomplete: {len(missing)} of {len(known)} instances of the PACS did not come")
        if series.key not in self._incomplete:  # said once
            self._incomplete.add(series.key)
            log_event("incomplete", series=series.token, instances=len(received), missing=len(missing))
        self._spool.put_back(series, wait=self._spool.quiet_seconds)
        return False

    def _stored_before(self, segmentation: Dataset) -> bool:
        """Store a segmentation unless the PACS has it, and say whether it had."""

        def store() -> bool:
            if self._pacs.has(segmentation):  # also after an attempt of which only the answer was lost
                return True
            self._pacs.store(segmentation)
            return False

        return self._answer(store)

    def _answer(self, request: Callable[[], _T]) -> _T:
        """What the PACS answers, however long it is down."""
        for attempt in count(1):
            try:
                return request()
            except PacsUnavailableError as err:
                if attempt >= _MAX_ATTEMPTS and not err.passes:
                    raise
                pause = min(_FIRST_PAUSE * 2 ** (attempt - 1), _LONGEST_PAUSE)
                log_event("PACS unavailable", logging.WARNING, error=str(err), next_attempt_seconds=pause)
                if self._stop.wait(pause):
                    raise _StoppedError from None
        raise AssertionError  # count does not end

    def _fail(self, series: ReceivedSeries, reason: str) -> None:
        """Set a series aside, and say why."""
        self._spool.fail(series, reason)
        log_event("failed", logging.ERROR, series=series.token, reason=reason)


class _FailedError(Exception):
    """A series that cannot be segmented, for a reason without patient data."""


class _StoppedError(Exception):
    """The service stops while it waits for the PACS."""


def _header(path: Path, keywords: list[str]) -> Dataset:
    """These attributes of one instance.

    Raises:
        DataError: if its file was damaged in the spool.
    """
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(keywords))
        decode_elements(header)
    except Exception as err:  # pydicom raises whatever a damaged byte leads to
        raise DataError(f"file '{path.name}': found a file that cannot be read, expected a DICOM instance.") from err
    return header


def _reason(series: ReceivedSeries, err: Exception) -> str:
    """The message of an error without what it must not quote; only its place where that is not known."""
    headers = []
    for path in series.folder.iterdir():
        try:
            headers.append(_header(path, _PATIENT))
        except DataError:  # the values are in the other instances too
            continue
    if not headers:
        return where(err)
    values = {str(header.get(keyword) or "").strip() for header in headers for keyword in _PATIENT} - {""}
    return redacted(str(err), sorted(values, key=len, reverse=True))
