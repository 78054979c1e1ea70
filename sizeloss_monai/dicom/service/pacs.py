"""The PACS by DICOMweb: searches for instances (QIDO-RS) and stores them (STOW-RS)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dicomweb_client import DICOMwebClient
from dicomweb_client.session_utils import create_session, create_session_from_user_pass
from pydicom import Dataset

__all__ = ["Pacs", "PacsRefusedError", "PacsUnavailableError"]

# HTTP statuses that do not depend on the request's content: they pass with time, or an administrator mends them
_PASSING = {401, 403, 407, 408, 429, 502, 503, 504}
_INTERNAL_ERROR, _NOT_FOUND = 500, 404
_SOP_CLASS_UID, _SOP_INSTANCE_UID = "00080016", "00080018"


class PacsUnavailableError(Exception):
    """The PACS did not answer as it should; the same request may succeed later.

    Args:
        reason: without patient data.
        passes: whether to wait for the PACS without limit; otherwise some attempts are enough.
    """

    def __init__(self, reason: str, *, passes: bool = True) -> None:
        super().__init__(reason)
        self.passes = passes


class PacsRefusedError(Exception):
    """The PACS answered and refused the request.

    Args:
        reason: without patient data.
        status: of HTTP; None where it was success.
    """

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class Pacs:
    """A DICOMweb server.

    Args:
        url: its address.
        credentials: user and password; None where the server asks for none.
        timeout: seconds after which a request without an answer fails.
    """

    def __init__(self, url: str, credentials: tuple[str, str] | None = None, timeout: float = 60.0) -> None:
        session = create_session_from_user_pass(*credentials) if credentials else create_session()
        # Pseudonymised data often have UIDs with leading zeros, which PS3.5, 9.1 forbids and every PACS accepts.
        self._client = DICOMwebClient(url, session, permissive_uid=True, timeout=timeout)
        self._client.set_http_retry_params(retry=False)  # the worker retries: it can be interrupted

    def instances(self, study_uid: str, series_uid: str, sop_class_uids: frozenset[str]) -> list[str]:
        """UIDs of the PACS's instances of a series, of these SOP classes."""
        found = self._search(study_uid, series_uid, fields=["SOPClassUID"])
        return [_value(item, _SOP_INSTANCE_UID) for item in found if _value(item, _SOP_CLASS_UID) in sop_class_uids]

    def has(self, instance: Dataset) -> bool:
        """Whether the PACS has this instance."""
        uid = str(instance.SOPInstanceUID)
        found = self._search(
            str(instance.StudyInstanceUID), str(instance.SeriesInstanceUID), search_filters={"SOPInstanceUID": uid}
        )
        return uid in [_value(item, _SOP_INSTANCE_UID) for item in found]

    def store(self, instance: Dataset) -> None:
        """Store one instance.

        Raises:
            PacsUnavailableError: if the PACS does not answer.
            PacsRefusedError: if the PACS refuses the instance.
        """
        answer = self._call(self._client.store_instances, [instance])
        for item in answer.get("FailedSOPSequence", []):
            raise PacsRefusedError(f"failure reason 0x{int(item.get('FailureReason', 0)):04X}")

    def _search(self, study_uid: str, series_uid: str, **query: Any) -> list[dict[str, dict]]:
        """The matching instances of a series; none where the PACS does not know the series."""
        try:
            return self._call(self._client.search_for_instances, study_uid, series_uid, **query)
        except PacsRefusedError as err:
            if err.status == _NOT_FOUND:  # some servers answer so where nothing matches
                return []
            raise

    @staticmethod
    def _call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call the client; raise its errors (of `requests`, all `OSError`) without the addresses, which hold UIDs."""
        try:
            return function(*args, **kwargs)
        except OSError as err:
            status = getattr(getattr(err, "response", None), "status_code", None)
            if status is None or status in _PASSING or status == _INTERNAL_ERROR:
                reason = type(err).__name__ if status is None else f"HTTP {status}"
                raise PacsUnavailableError(reason, passes=status != _INTERNAL_ERROR) from None
            raise PacsRefusedError(f"HTTP {status}", status) from None


def _value(item: dict[str, dict], tag: str) -> str:
    """The value of an attribute in the DICOM JSON model (PS3.18, F.2); empty where it is missing."""
    return str(next(iter(item.get(tag, {}).get("Value", [])), ""))
