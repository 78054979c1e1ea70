"""The service as a whole: receiver, spool and worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from sizeloss_monai import __version__
from sizeloss_monai.dicom.service.config import ServiceConfig
from sizeloss_monai.dicom.service.log import log_event
from sizeloss_monai.dicom.service.pacs import Pacs
from sizeloss_monai.dicom.service.receiver import start_receiver
from sizeloss_monai.dicom.service.spool import Spool
from sizeloss_monai.dicom.service.worker import Segmented, Worker

__all__ = ["run_service"]

_LONGEST_POLL = 0.5  # seconds
_PRUNE_EVERY = 600.0  # seconds


def run_service(
    config: ServiceConfig, segment: Callable[[Path], Sequence[Segmented]], stop: threading.Event | None = None
) -> None:
    """Receive, segment and store until `stop` is set; a series that is being worked on is brought to its end first.

    Args:
        config: the settings.
        segment: makes the segmentations of the series in a folder, such as ``DicomSegmenter(...).segment``. It is
            called in this thread, for one series at a time.
        stop: set by another thread or a signal handler.

    Raises:
        DataError: if another process uses the spool.
        OSError: if the address cannot be listened on, or the spool cannot be used.
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
