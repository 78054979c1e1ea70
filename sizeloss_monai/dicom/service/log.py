"""The log: one JSON object a line, without patient data.

A series is named by the first twelve hexadecimal digits of the SHA-256 of its UID, so that who knows the UID finds its
lines: ``printf %s UID | sha256sum``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sys
import traceback
import warnings
from datetime import datetime, timezone
from pathlib import Path

__all__ = ["digest", "log_event", "quiet_libraries", "redacted", "short", "where"]

_LOGGER = logging.getLogger(__name__)
_UID = re.compile(r"\b[0-9]+(?:\.[0-9]+){4,}\b")


def digest(uid: str) -> str:
    """128 bits of the SHA-256 of a UID, in hexadecimal: its name in the spool."""
    return hashlib.sha256(uid.encode()).hexdigest()[:32]


def short(key: str) -> str:
    """A digest as it is shown in the log."""
    return key[:12]


def log_event(event: str, level: int = logging.INFO, **values: object) -> None:
    """Write one line: the time (UTC), the event and its values."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    _LOGGER.log(level, json.dumps({"time": now, "level": logging.getLevelName(level), "event": event, **values}))


def quiet_libraries() -> None:
    """Let the process write only what `log_event` writes, on stdout.

    The lines of pydicom, pynetdicom, dicomweb-client and others may quote UIDs, addresses that hold them, or the
    values of attributes.
    """
    handler = logging.StreamHandler(sys.stdout)
    _LOGGER.handlers = [handler]
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.propagate = False
    logging.getLogger().handlers = [logging.NullHandler()]
    warnings.simplefilter("ignore")


def redacted(text: str, values: list[str]) -> str:
    """The text without UIDs, which become their short digests, and without these values of patient attributes."""
    for value in values:
        text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "***", text, flags=re.IGNORECASE)
    return _UID.sub(lambda match: short(digest(match[0])), text)


def where(err: BaseException) -> str:
    """Type and place of an error whose message may quote patient data."""
    frame = traceback.extract_tb(err.__traceback__)[-1]
    return f"{type(err).__name__} at {Path(frame.filename).name}:{frame.lineno}"
