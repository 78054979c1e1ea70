"""The log: one JSON object on each line, without patient data.

`series_token` names a series: who knows its UID finds its lines by ``printf %s UID | sha256sum``.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from pydicom import Dataset, dcmread

from sizeloss_monai.dicom.instances import decode_elements
from sizeloss_monai.dicom.series import series_token
from sizeloss_monai.errors import DataError

__all__ = ["log_event", "quiet_libraries", "read_header", "where", "without_patient"]

_LOGGER = logging.getLogger(__name__)
# a reason must not quote the values of these attributes
_PATIENT = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "OtherPatientIDs",
    "AccessionNumber",
    "StudyID",
    "ReferringPhysicianName",
)
_UID = re.compile(r"\b[0-9]+(?:\.[0-9]+){4,}\b")


def log_event(event: str, level: int = logging.INFO, **values: object) -> None:
    """Write one line: the time (UTC), the event and its values."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    _LOGGER.log(level, json.dumps({"time": now, "level": logging.getLevelName(level), "event": event, **values}))


def quiet_libraries() -> None:
    """Let the process write only the lines of `log_event`, on stdout.

    pydicom, pynetdicom, dicomweb-client and others may log UIDs, addresses that hold UIDs, or values of attributes.
    """
    handler = logging.StreamHandler(sys.stdout)
    _LOGGER.handlers = [handler]
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.propagate = False
    logging.getLogger().handlers = [logging.NullHandler()]
    warnings.simplefilter("ignore")


def where(err: BaseException) -> str:
    """Type and place of an error whose message may quote patient data."""
    frame = traceback.extract_tb(err.__traceback__)[-1]
    return f"{type(err).__name__} at {Path(frame.filename).name}:{frame.lineno}"


def without_patient(err: Exception, folder: Path) -> str:
    """The message of an error without patient data: tokens replace UIDs, and stars the patient's values.

    Args:
        err: the error.
        folder: instances whose values must not be in the message.

    Returns:
        The message; only the place of the error where no instance can be read.
    """
    headers = []
    for path in folder.iterdir():
        try:
            headers.append(read_header(path, _PATIENT))
        except DataError:  # the other instances have the same values
            continue
    if not headers:
        return where(err)
    values = {str(header.get(keyword) or "").strip() for header in headers for keyword in _PATIENT} - {""}
    text = str(err)
    for value in sorted(values, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "***", text, flags=re.IGNORECASE)
    return _UID.sub(lambda match: series_token(match[0]), text)


def read_header(path: Path, keywords: Sequence[str]) -> Dataset:
    """Read some attributes of one instance of the spool.

    Raises:
        DataError: if its file is damaged.
    """
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(keywords))
        decode_elements(header)
    except Exception as err:  # pydicom raises whatever a damaged byte leads to
        raise DataError(f"file '{path.name}': found a file that cannot be read, expected a DICOM instance.") from err
    return header
