"""The spool: a folder with the series that wait, and the memory of those done. It outlives the process.

::

    incoming/<series>/<instance>.dcm   received; the series waits
    working/<series>/<instance>.dcm    the worker segments the series
    failed/<series>/<instance>.dcm     kept for a while; failed/<series>.json holds the reason
    done/<series>.json                 names the segmented instances; their files are removed
    attempts/<series>                  how often the worker began this series without an end
    part/                              unfinished files; removed at the start

``<series>`` and ``<instance>`` are digests of UIDs. Every change is one rename within the folder: wherever the process
ends, each file is either where it was or where it belongs.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sizeloss_monai.dicom.series import digest
from sizeloss_monai.errors import DataError

__all__ = ["ReceivedSeries", "Spool", "SpoolFullError"]

_NEW_SERIES_SHARE = 0.9  # of the bytes; the rest is for series that have begun to come
_MAX_DONE = 100_000  # remembered series
_DAY = 86_400  # seconds


class SpoolFullError(Exception):
    """The spool has no room for an instance."""


@dataclass(frozen=True)
class ReceivedSeries:
    """A complete series, taken out of the queue.

    Args:
        key: digest of the series' UID.
        folder: of its instances, and nothing else.
        attempts: how often earlier processes began it and then ended.
    """

    key: str
    folder: Path
    attempts: int

    @property
    def token(self) -> str:
        """Its name in the log, see `sizeloss_monai.dicom.series_token`."""
        return self.key[:12]

    @property
    def instances(self) -> frozenset[str]:
        """Digests of the UIDs of its instances."""
        return frozenset(path.stem for path in self.folder.iterdir())

    @property
    def arrivals(self) -> tuple[float, float]:
        """The times when its first and its last instance came, in seconds since the epoch."""
        times = [path.stat().st_mtime for path in self.folder.iterdir()]
        return min(times), max(times)


class Spool:
    """The queue of received series and the memory of those done. Only one process at a time may use it.

    Args:
        folder: made if needed, readable by this user only.
        quiet_seconds: a series is complete when no instance came for that long. A restart begins the time anew.
        max_series: how many series may wait.
        max_bytes: size of all instances together.

    Raises:
        DataError: if another process uses the folder.
    """

    def __init__(self, folder: Path, *, quiet_seconds: float, max_series: int, max_bytes: float) -> None:
        self.quiet_seconds = quiet_seconds
        self.max_series = max_series
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._due: dict[str, float] = {}  # when each waiting series is complete, by the monotonic clock
        self._bytes = 0  # of all instances
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._process_lock = _locked(folder / "lock")
        self._incoming, self._working, self._failed = folder / "incoming", folder / "working", folder / "failed"
        self._done, self._attempts, self._part = folder / "done", folder / "attempts", folder / "part"
        for state in (self._incoming, self._working, self._failed, self._done, self._attempts, self._part):
            state.mkdir(exist_ok=True)
        self._recover()

    def __len__(self) -> int:
        """The number of waiting series."""
        return len(self._due)

    def receive(self, series_uid: str, instance_uid: str, data: bytes) -> None:
        """Keep an instance: it is on the disk when this returns. The same instance replaces its former file.

        Args:
            series_uid: UID of its series.
            instance_uid: its UID.
            data: the DICOM file.

        Raises:
            SpoolFullError: if the spool has no room.
            OSError: if the file cannot be written.
        """
        key = digest(series_uid)
        name = f"{digest(instance_uid)}.dcm"
        with self._lock:
            self._make_room(len(data), new_series=key not in self._due)
            path = self._incoming / key / name
            former = path.stat().st_size if path.exists() else 0
            self._write(path, data)
            self._bytes += len(data) - former
            self._due[key] = time.monotonic() + self.quiet_seconds

    def take(self) -> ReceivedSeries | None:
        """Take the series out of the queue that has been complete for longest; None if none is complete."""
        with self._lock:
            key = min(self._due, key=self._due.__getitem__, default=None)
            if key is None or self._due[key] > time.monotonic():
                return None
            attempts = self._attempts / key
            before = int(attempts.read_text()) if attempts.exists() else 0
            self._write(attempts, str(before + 1).encode())
            os.replace(self._incoming / key, self._working / key)
            del self._due[key]
        return ReceivedSeries(key, self._working / key, before)

    def put_back(self, series: ReceivedSeries, wait: float = 0.0) -> None:
        """Put a taken series back into the queue; it is complete after `wait` seconds unless further instances come."""
        with self._lock:
            self._return(series.folder)
            self._due[series.key] = max(self._due.get(series.key, 0.0), time.monotonic() + wait)
            (self._attempts / series.key).unlink(missing_ok=True)

    def instances_done(self, key: str) -> frozenset[str] | None:
        """Digests of a series' segmented instances; None if it was not segmented, or was forgotten."""
        path = self._done / f"{key}.json"
        return frozenset(json.loads(path.read_bytes())["instances"]) if path.exists() else None

    def finish(self, series: ReceivedSeries) -> None:
        """Remember a taken series as done and remove its files."""
        self._write(self._done / f"{series.key}.json", json.dumps({"instances": sorted(series.instances)}).encode())
        self.drop(series)
        with self._lock:
            self._remove_failed(series.key)

    def drop(self, series: ReceivedSeries) -> None:
        """Remove a taken series."""
        with self._lock:
            self._remove(series.folder)
            (self._attempts / series.key).unlink(missing_ok=True)

    def fail(self, series: ReceivedSeries, reason: str) -> None:
        """Set a taken series aside.

        Args:
            series: the series.
            reason: written beside it; without patient data.
        """
        entry = {"series": series.key, "instances": len(series.instances), "time": time.time(), "reason": reason}
        with self._lock:
            self._remove(self._failed / series.key)
            self._write(self._failed / f"{series.key}.json", json.dumps(entry).encode())
            os.replace(series.folder, self._failed / series.key)
            (self._attempts / series.key).unlink(missing_ok=True)

    def prune(self, keep_failed_days: float, keep_done_days: float) -> None:
        """Remove failed series and forget done ones after these numbers of days."""
        now = time.time()
        with self._lock:
            for path in _oldest_first(self._failed.glob("*.json")):
                if path.stat().st_mtime < now - keep_failed_days * _DAY:
                    self._remove_failed(path.stem)
            done = _oldest_first(self._done.glob("*.json"))
            for index, path in enumerate(done):
                if index < len(done) - _MAX_DONE or path.stat().st_mtime < now - keep_done_days * _DAY:
                    path.unlink()

    def close(self) -> None:
        """Let another process use the folder."""
        os.close(self._process_lock)

    def _recover(self) -> None:
        """Drop unfinished files, and queue the series that a former process left."""
        for path in self._part.iterdir():
            path.unlink()
        for folder in self._working.iterdir():
            self._return(folder)
        for folder in self._failed.iterdir():  # the process ended after it had removed the reason and before the files
            if folder.is_dir() and not folder.with_suffix(".json").exists():
                shutil.rmtree(folder)
        for folder in self._incoming.iterdir():
            if any(folder.iterdir()):
                self._due[folder.name] = time.monotonic() + self.quiet_seconds
            else:
                folder.rmdir()
        self._bytes = sum(_size(state) for state in (self._incoming, self._failed))

    def _return(self, folder: Path) -> None:
        """Move a folder of ``working`` back. Instances that came since then stay as they are."""
        waiting = self._incoming / folder.name
        waiting.mkdir(exist_ok=True)
        for path in folder.iterdir():
            if (waiting / path.name).exists():
                self._bytes -= path.stat().st_size
                path.unlink()
            else:
                os.replace(path, waiting / path.name)
        folder.rmdir()

    def _make_room(self, size: int, *, new_series: bool) -> None:
        """Make room for an instance of that size, by removing failed series; raise an error if that is not enough."""
        limit = self.max_bytes * (_NEW_SERIES_SHARE if new_series else 1)
        if new_series and len(self._due) >= self.max_series:
            raise SpoolFullError
        if self._bytes + size <= limit:
            return
        for path in _oldest_first(self._failed.glob("*.json")):
            self._remove(self._failed / path.stem)
            if self._bytes + size <= limit:
                return
        raise SpoolFullError

    def _remove_failed(self, key: str) -> None:
        """Remove the failed series of that key, if it exists."""
        (self._failed / f"{key}.json").unlink(missing_ok=True)
        self._remove(self._failed / key)

    def _remove(self, folder: Path) -> None:
        """Remove a folder of instances, if it exists."""
        if folder.exists():
            self._bytes -= _size(folder)
            shutil.rmtree(folder)

    def _write(self, path: Path, data: bytes) -> None:
        """Write a file to the disk, whole or not at all; make its folder if needed."""
        part = self._part / f"{path.parent.name}-{path.name}"
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            path.parent.mkdir(exist_ok=True)
            os.replace(part, path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _locked(path: Path) -> int:
    """Lock a file until the process ends."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise DataError(f"{path.parent}: another process uses this spool.") from None
    return descriptor


def _oldest_first(paths: Iterable[Path]) -> list[Path]:
    """Paths by the time of their last change."""
    return sorted(paths, key=lambda path: path.stat().st_mtime)


def _size(folder: Path) -> int:
    """Bytes of the instances in a folder, at any depth."""
    return sum(path.stat().st_size for path in folder.rglob("*.dcm"))
