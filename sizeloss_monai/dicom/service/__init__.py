"""A service beside a PACS: receives series by C-STORE, segments them, and stores the segmentations by DICOMweb.

The spool on the disk is the only state: it holds every instance that the service acknowledged, whatever ends the
process.

- ``config``: reads and checks the settings of a site.
- ``receiver``: the storage SCP, which fills the spool.
- ``spool``: the series that wait, and the memory of those done.
- ``worker``: brings one series at a time from the spool to the PACS, and runs all parts together.
- ``pacs``: the PACS by QIDO-RS and STOW-RS.
- ``log``: the log without patient data.
"""

from __future__ import annotations

from sizeloss_monai.dicom.service.config import ServiceConfig, read_config
from sizeloss_monai.dicom.service.worker import run_service

__all__ = ["ServiceConfig", "read_config", "run_service"]
