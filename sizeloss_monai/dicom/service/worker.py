"""The service as a whole, and its worker, which brings one series at a time from the spool to the PACS."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydicom import Dataset

from sizeloss_monai import __version__
from sizeloss_monai.dicom.series import digest
from sizeloss_monai.dicom.service.config import ServiceConfig
from sizeloss_monai.dicom.service.log import log_event, read_header, where, without_patient
from sizeloss_monai.dicom.service.pacs import Pacs, PacsRefusedError, PacsUnavailableError
from sizeloss_monai.dicom.service.receiver import start_receiver
from sizeloss_monai.dicom.service.spool import ReceivedSeries, Spool
from sizeloss_monai.errors import DataError

__all__ = ["Segmented", "Worker", "run_service"]

_T = TypeVar("_T")
_MAX_BEGUN = 3  # a series is given up after the process ended so often while it worked on it
_MAX_ATTEMPTS = 5  # how often a request is sent that makes the PACS fail
_LONGEST_POLL = 0.5  # seconds between looks into the spool
_PRUNE_EVERY = 600.0  # seconds
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds between requests to a PACS that does not answer


class Segmented(Protocol):
    """The segmenter's result for one phase, see `sizeloss_monai.dicom.SegmentedPhase`."""

    @property
    def segmentation(self) -> Dataset:
        """The DICOM Segmentation object."""

    @property
    def summary(self) -> Mapping[str, Any]:
        """It holds the ``verdict``."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Spent on ``read``, ``inference`` and ``write``."""


class Worker:
    """Segments series and stores the segmentations.

    Args:
        spool: where the series come from.
        pacs: where the segmentations go.
        segment: makes the segmentations of the series in a folder. Their UIDs must depend on the series and the model
            alone.
        sop_class_uids: instances of these SOP classes belong to a series.
        incomplete_seconds: how long a series waits for instances that the PACS has and did not send.
        stop: once set, the worker stops waiting for the PACS and leaves the series in the spool.
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
        self._incomplete: set[str] = set()  # series whose missing instances are in the log

    def process(self, series: ReceivedSeries) -> None:
        """Bring one taken series to its end: done, failed, or back into the queue.

        An error of the series goes to the log and to its reason file; this method raises none.
        """
        try:
            self._process(series)
        except _StoppedError:
            self._spool.put_back(series)
        except (_FailedError, DataError) as err:
            self._fail(series, without_patient(err, series.folder))
        except PacsRefusedError as err:
            self._fail(series, f"the PACS refused: {err}")
        except PacsUnavailableError as err:
            self._fail(series, f"the PACS failed {_MAX_ATTEMPTS} times: {err}")
        except Exception as err:  # a fault of one series must not end the service
            self._fail(series, where(err))

    def _process(self, series: ReceivedSeries) -> None:
        """As `process`, but raises the errors."""
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
        """Whether to segment a series that may have been segmented before.

        Instances that come late and alone are not segmented: known ones are dropped, and new ones are an error, since
        the spool no longer has the others. A whole series that comes again is segmented again; the PACS may already
        have the result.
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
        """Whether all of the PACS's instances of a series came; otherwise the series waits for them."""
        header = read_header(min(series.folder.iterdir()), ["StudyInstanceUID", "SeriesInstanceUID"])
        uids = str(header.StudyInstanceUID), str(header.SeriesInstanceUID)
        known = self._answer(partial(self._pacs.instances, *uids, self._sop_class_uids))
        missing = {digest(uid) for uid in known} - received
        if not missing:
            self._incomplete.discard(series.key)
            return True
        if age > self._incomplete_seconds:
            self._incomplete.discard(series.key)
            raise _FailedError(f"incomplete: {len(missing)} of {len(known)} instances of the PACS did not come")
        if series.key not in self._incomplete:  # logged once
            self._incomplete.add(series.key)
            log_event("incomplete", series=series.token, instances=len(received), missing=len(missing))
        self._spool.put_back(series, wait=self._spool.quiet_seconds)
        return False

    def _stored_before(self, segmentation: Dataset) -> bool:
        """Store a segmentation unless the PACS has it; return whether it had."""

        def store() -> bool:
            if self._pacs.has(segmentation):  # also where an earlier attempt succeeded and its answer was lost
                return True
            self._pacs.store(segmentation)
            return False

        return self._answer(store)

    def _answer(self, request: Callable[[], _T]) -> _T:
        """The answer of the PACS; waits while the PACS is down."""
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
        """Set a series aside, and log the reason."""
        self._spool.fail(series, reason)
        log_event("failed", logging.ERROR, series=series.token, reason=reason)


class _FailedError(Exception):
    """A series cannot be segmented; the message holds no patient data."""


class _StoppedError(Exception):
    """The service stops while it waits for the PACS."""


def run_service(
    config: ServiceConfig, segment: Callable[[Path], Sequence[Segmented]], stop: threading.Event | None = None
) -> None:
    """Receive, segment and store until `stop` is set. The service finishes the series that it works on first.

    Args:
        config: the settings.
        segment: makes the segmentations of the series in a folder, such as ``DicomSegmenter(...).segment``. This
            thread calls it, for one series at a time.
        stop: another thread or a signal handler sets it.

    Raises:
        DataError: if another process uses the spool.
        OSError: if the service cannot listen on the address, or cannot use the spool.
    """
    stop = stop or threading.Event()
    spool = Spool(
        config.spool,
        quiet_seconds=config.quiet_seconds,
        max_series=config.max_series,
        max_bytes=config.max_megabytes * 1e6,
    )
    with closing(spool):
        worker = Worker(
            spool,
            Pacs(config.dicomweb_url, config.credentials),
            segment,
            sop_class_uids=config.sop_class_uids,
            incomplete_seconds=config.incomplete_seconds,
            stop=stop,
        )
        receiver = start_receiver(config, spool)
        try:
            log_event("listening", version=__version__, port=config.port, ae_title=config.ae_title, waiting=len(spool))
            _work(config, spool, worker, stop)
        finally:
            receiver.shutdown()
            log_event("stopped", waiting=len(spool))


def _work(config: ServiceConfig, spool: Spool, worker: Worker, stop: threading.Event) -> None:
    """Process complete series, one after the other."""
    pruned = -_PRUNE_EVERY
    while not stop.is_set():
        if time.monotonic() - pruned >= _PRUNE_EVERY:
            spool.prune(config.keep_failed_days, config.keep_done_days)
            pruned = time.monotonic()
        series = spool.take()
        if series is not None:
            worker.process(series)
        else:
            stop.wait(min(_LONGEST_POLL, config.quiet_seconds / 4))
