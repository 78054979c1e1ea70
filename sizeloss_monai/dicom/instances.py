"""The DICOM instances of a folder, without their pixels."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.errors import InvalidDicomError
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import UID

from sizeloss_monai.data.findings import DataError, listed

__all__ = ["Instance", "read_instances"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Instance:
    """One DICOM file.

    Args:
        path: of the file.
        header: its data set without pixel data.
        problem: what is wrong with its pixel data, None if nothing is.
    """

    path: Path
    header: Dataset
    problem: str | None = None


def read_instances(path: str | Path | Iterable[str | Path]) -> list[Instance]:
    """Read the headers of the DICOM files of a folder and its sub-folders.

    A file's pixels are looked at only so far as to say whether all are there.

    Args:
        path: a folder, or the files themselves. Names and their order mean nothing. What is no DICOM is left out.

    Returns:
        The instances, sorted by their SOP Instance UID. The same instance in two files is one.

    Raises:
        DataError: when there is no DICOM file, two files of one instance differ, or a file cannot be read.
    """
    if isinstance(path, (str, Path)):
        root = Path(path)
        if not root.is_dir():
            raise DataError(f"key 'image': found no folder at {str(path)!r}, expected one with a DICOM series.")
        files = sorted(file for file in root.rglob("*") if file.is_file())
    else:
        files = [Path(file) for file in path]
    found: dict[str, Instance] = {}
    others = []
    for file in files:
        instance = _read(file)
        if instance is None:
            others.append(file.name)
            continue
        uid = str(instance.header.get("SOPInstanceUID", ""))
        if not uid:
            raise DataError(f"key 'image', file '{file.name}': found no SOP Instance UID, expected one.")
        first = found.setdefault(uid, instance)
        if first is not instance and first.path.read_bytes() != file.read_bytes():
            raise DataError(
                f"key 'image': found two different files of one instance, '{first.path.name}' and '{file.name}', "
                "expected each SOP Instance UID once."
            )
    if not found:
        where = f"'{path}'" if isinstance(path, (str, Path)) else "the given files"
        raise DataError(f"key 'image': found no DICOM file in {where}, expected a series.")
    if others:
        logger.info("left out %d files that are no DICOM images: %s", len(others), listed(others, 5))
    return [found[uid] for uid in sorted(found)]


def _read(file: Path) -> Instance | None:
    """The instance in a file; None if the file is no DICOM, or a DICOMDIR."""
    try:
        with disable_value_validation():  # what matters is checked by name, and no value belongs into a log
            dataset = dcmread(file)
            if file.name.upper() == "DICOMDIR" or "DirectoryRecordSequence" in dataset:
                return None
            problem = _pixel_problem(dataset)
            for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
                if keyword in dataset:
                    delattr(dataset, keyword)
            list(dataset.iterall())  # reads every element now, so that a damaged one shows here
    except InvalidDicomError:
        return None
    except Exception as err:  # pydicom raises whatever a damaged byte leads to
        raise DataError(
            f"key 'image', file '{file.name}': found a DICOM file that cannot be read ({type(err).__name__}), "
            "expected a whole one."
        ) from err
    return Instance(file, dataset, problem)


def _pixel_problem(dataset: Dataset) -> str | None:
    """What is wrong with the length of the pixel data; that of compressed ones shows when they are decoded."""
    if "PixelData" not in dataset:
        return None if "Rows" not in dataset else "no pixel data"
    syntax = UID(dataset.file_meta.get("TransferSyntaxUID", ""))
    if not syntax.is_transfer_syntax:
        return "no transfer syntax"
    if syntax.is_compressed and not syntax.is_deflated:
        return None
    found, expected = len(dataset.PixelData), get_expected_length(dataset)
    return None if found >= expected else f"{found} bytes of pixel data where the header says {expected}"
