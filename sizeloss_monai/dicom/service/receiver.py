"""The storage SCP: puts into the spool what allowed senders send."""

from __future__ import annotations

import logging
from io import BytesIO
from weakref import WeakSet

from pydicom import dcmread
from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
    UncompressedTransferSyntaxes,
)
from pynetdicom import AE, Association, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from sizeloss_monai.dicom.instances import decode_elements, missing_uids
from sizeloss_monai.dicom.service.config import ServiceConfig
from sizeloss_monai.dicom.service.log import log_event
from sizeloss_monai.dicom.service.spool import Spool, SpoolFullError

__all__ = ["start_receiver"]

# those that `decode_volume` decodes
_TRANSFER_SYNTAXES = [
    *UncompressedTransferSyntaxes,
    *JPEGTransferSyntaxes,
    *JPEGLSTransferSyntaxes,
    JPEG2000Lossless,
    JPEG2000,
    RLELossless,
]
# PS3.4, table B.2-1
_SUCCESS = 0x0000
_OUT_OF_RESOURCES = 0xA700
_NOT_OF_SOP_CLASS = 0xA900
_NOT_UNDERSTOOD = 0xC000


def start_receiver(config: ServiceConfig, spool: Spool) -> AE:
    """Listen for associations, each in a thread of its own.

    It accepts associations from the allowed calling AE titles to its own, for verification and for storage of the
    configured SOP classes. It offers the transfer syntaxes that it can decode: a PACS converts the others.

    Args:
        config: address, AE titles and SOP classes.
        spool: for the instances.

    Returns:
        The application entity; its ``shutdown()`` ends the associations and stops listening.

    Raises:
        OSError: if it cannot listen on the address.
    """
    ae = AE(config.ae_title)
    ae.require_called_aet = True
    ae.require_calling_aet = list(config.calling_ae_titles)
    ae.add_supported_context(Verification)
    for uid in config.sop_class_uids:
        ae.add_supported_context(uid, _TRANSFER_SYNTAXES)
    refused: WeakSet[Association] = WeakSet()

    def store(event: evt.Event) -> int:
        """Answer one C-STORE request."""
        try:
            data = event.encoded_dataset()
            header = dcmread(
                BytesIO(data),
                stop_before_pixels=True,
                specific_tags=["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"],
            )
            decode_elements(header)
        except Exception as err:  # a sender may send anything
            log_event("not understood", logging.WARNING, calling=_caller(event), error=type(err).__name__)
            return _NOT_UNDERSTOOD
        if missing := missing_uids(header):
            log_event("not understood", logging.WARNING, calling=_caller(event), error=f"no {' and no '.join(missing)}")
            return _NOT_UNDERSTOOD
        series_uid, instance_uid = str(header.SeriesInstanceUID), str(header.SOPInstanceUID)
        announced = getattr(event.request, "AffectedSOPInstanceUID", None)
        if header.SOPClassUID not in config.sop_class_uids or instance_uid != announced:
            log_event("other instance than announced", logging.WARNING, calling=_caller(event))
            return _NOT_OF_SOP_CLASS
        try:
            spool.receive(series_uid, instance_uid, data)
        except (SpoolFullError, OSError) as err:
            if event.assoc not in refused:  # logged once for each association
                refused.add(event.assoc)
                log_event("no room", logging.WARNING, calling=_caller(event), error=type(err).__name__)
            return _OUT_OF_RESOURCES
        return _SUCCESS

    def rejected(event: evt.Event) -> None:
        """Log a rejected association."""
        log_event("association rejected", logging.WARNING, calling=_caller(event))

    def aborted(event: evt.Event) -> None:
        """Log an aborted association."""
        log_event("association aborted", logging.WARNING, calling=_caller(event))

    ae.start_server(
        (config.host, config.port),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, store), (evt.EVT_REJECTED, rejected), (evt.EVT_ABORTED, aborted)],
    )
    return ae


def _caller(event: evt.Event) -> str:
    """The AE title of the sender."""
    return str(event.assoc.requestor.ae_title).strip()
