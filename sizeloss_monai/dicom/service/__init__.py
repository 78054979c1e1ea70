"""A service beside a PACS: receives series by C-STORE, segments them, and stores the segmentations by DICOMweb.

The spool on the disk is the only state: what was acknowledged to the sender is there, whatever ends the process.

- ``config``: what a site sets, checked.
- ``spool``: what was received and not yet done, and what was done.
- ``receiver``: the storage SCP, which fills the spool.
- ``pacs``: QIDO-RS and STOW-RS.
- ``worker``: one series, from the spool to the PACS.
- ``run``: all of them together.
- ``log``: the log without patient data.
"""

from __future__ import annotations

from sizeloss_monai.dicom.service.config import ServiceConfig, read_config
from sizeloss_monai.dicom.service.run import run_service

__all__ = ["ServiceConfig", "read_config", "run_service"]
