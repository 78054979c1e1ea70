"""The log: one JSON object a line, without patient data.

A series is named by `series_token`, so that who knows its UID finds its lines: ``printf %s UID | sha256sum``.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
import warnings
from datetime import datetime, timezone
from pathlib import Path

from sizeloss_monai.dicom.series import series_token

__all__ = ["log_event", "quiet_libraries", "redacted", "where"]

_LOGGER = logging.getLogger(__name__)
_UID = re.compile(r"\b[0-9]+(?:\.[0-9]+){4,}\b")


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
    """The text without UIDs, which become their tokens, and without these values of patient attributes."""
    for value in values:
        text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "***", text, flags=re.IGNORECASE)
    return _UID.sub(lambda match: series_token(match[0]), text)


def where(err: BaseException) -> str:
    """Type and place of an error whose message may quote patient data."""
    frame = traceback.extract_tb(err.__traceback__)[-1]
    return f"{type(err).__name__} at {Path(frame.filename).name}:{frame.lineno}"
